//! The server's records as they are stored.

use bowline_model::kind::Kind;
use bowline_store::{CatchUp, Owner};

use super::state::ServerState;
use crate::core::engine::{Inner, OpenError};

/// Reads all records.
pub(super) async fn load(engine: &Inner) -> Result<ServerState, OpenError> {
    let loaded = engine.store.load(Owner::Server).await?;
    // Audit events have ids too, and are not in the state.
    let last = loaded.seq.saturating_sub(1);
    for change in engine.store.changes(Owner::Server, last, 1).await? {
        engine.ids.skip_time(change.at);
    }
    for row in &loaded.rows {
        engine.ids.skip(row.id);
    }
    let found = CatchUp {
        seq: loaded.seq,
        whole: true,
        rows: loaded.rows,
        gone: Vec::new(),
    };
    let empty = ServerState::new(engine.server.state().codes().clone());
    Ok(follow(&empty, &found)?.0)
}

/// The state that the database has, and the records that may differ in it.
pub(super) fn follow(
    current: &ServerState,
    found: &CatchUp,
) -> Result<(ServerState, Vec<(Kind, u64)>), OpenError> {
    let mut touched = found.gone.clone();
    touched.extend(found.rows.iter().map(|row| (row.kind, row.id)));
    let mut state = if found.whole {
        touched.extend(current.all());
        ServerState::new(current.codes().clone())
    } else {
        current.clone()
    };
    for (kind, number) in &found.gone {
        state.remove(*kind, *number);
    }
    for row in &found.rows {
        let put = state.put_row(row);
        put.map_err(|error| OpenError::of_row(Owner::Server, row, error))?;
    }
    state.seq = found.seq;
    Ok((state, touched))
}
