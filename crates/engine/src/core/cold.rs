//! Reading objects that no snapshot has: cold kinds ([`Cold`]) are asked for at the store.
//!
//! What is over is not found, by the engine's time. A draft cannot read here, since it does no IO: a
//! use case reads first and hands what it read to its closure, which checks what must still hold.

use bowline_model::id::TailnetId;
use bowline_model::kind::{Cold, Stored};
use bowline_model::record::Body;
use bowline_store::{Condition, Error, Owner, Row, Trouble};

use crate::core::engine::Engine;

/// A cold object, and whose it is.
pub(crate) type Found<T> = (Owner, Body<T>);

impl Engine {
    /// An object by its id, whoever's it is: for a credential, which does not say its tailnet.
    ///
    /// # Errors
    /// When the database cannot be read, or the object not understood.
    pub(crate) async fn find_cold<T: Cold>(&self, id: T::Id) -> Result<Option<Found<T>>, Error> {
        let found = self.0.store.find(T::KIND, id.into(), self.now()).await?;
        found
            .map(|(owner, row)| Ok((owner, read(&row)?)))
            .transpose()
    }

    /// An object of a tailnet by its id. Another tailnet's is not there.
    ///
    /// # Errors
    /// As [`Engine::find_cold`].
    pub(crate) async fn cold<T: Cold>(
        &self,
        tailnet: TailnetId,
        id: T::Id,
    ) -> Result<Option<Body<T>>, Error> {
        let found = self.find_cold(id).await?;
        let own = found.filter(|(owner, _)| *owner == Owner::from(tailnet));
        Ok(own.map(|(_, body)| body))
    }

    /// Objects of a tailnet with an id after this one, by id, at most `limit`.
    ///
    /// # Errors
    /// As [`Engine::find_cold`].
    pub(crate) async fn cold_page<T: Cold>(
        &self,
        tailnet: TailnetId,
        after: Option<T::Id>,
        limit: usize,
    ) -> Result<Vec<Body<T>>, Error> {
        let after = after.map_or(0, Into::into);
        let store = &self.0.store;
        let rows = store
            .page(T::KIND, tailnet, after, self.now(), limit)
            .await?;
        rows.iter().map(read).collect()
    }
}

fn read<T: Stored>(row: &Row) -> Result<Body<T>, Error> {
    Body::decode(&row.body).map_err(|error| {
        let place = format!("{} {}", row.kind, row.id);
        Error::Unavailable(Trouble::new(Condition::Failed, error).at(place))
    })
}

#[cfg(test)]
mod tests;
