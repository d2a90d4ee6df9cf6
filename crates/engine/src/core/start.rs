//! Starting with the tailnets that are in the store.
//!
//! A policy that is accepted may still take seconds to compile, and one tailnet's must not hold up
//! the others: tailnets are read beside each other, and where only slow ones are left the engine is
//! open without them. Until such a tailnet is there it is not served at all: an answer without its
//! policy could allow what the policy forbids, or cut what it allows.

use std::collections::VecDeque;
use std::num::NonZero;

use bowline_model::id::TailnetId;
use bowline_netmap::snapshot::Snapshot;
use tokio::task::JoinSet;

use crate::core::engine::{Engine, OpenError};

/// A tailnet that was read, or `None` where its stored state panics when it is put into force.
type Read = (TailnetId, Option<Result<Snapshot, OpenError>>);

/// Tailnets on their way.
pub(crate) struct Starts {
    engine: Engine,
    waiting: VecDeque<TailnetId>,
    running: JoinSet<Read>,
    /// How many may run at a time.
    places: usize,
}

impl Starts {
    pub(crate) fn new(engine: &Engine, tailnets: impl IntoIterator<Item = TailnetId>) -> Self {
        Self {
            engine: engine.clone(),
            waiting: tailnets.into_iter().collect(),
            running: JoinSet::new(),
            places: processors(),
        }
    }

    /// Brings the tailnets in. Returns early, with those that are left, where nothing was done for
    /// the engine's patience and none is left that has not begun.
    pub(crate) async fn run(mut self) -> Result<Option<Self>, OpenError> {
        let patience = self.engine.0.settings.start_patience;
        loop {
            while self.running.len() < self.places
                && let Some(id) = self.waiting.pop_front()
            {
                self.begin(id).await?;
            }
            match tokio::time::timeout(patience, self.running.join_next()).await {
                Ok(None) => return Ok(None),
                Ok(Some(outcome)) => self.finish(outcome)?,
                Err(_) if self.waiting.is_empty() => return Ok(Some(self)),
                // All places are taken by slow ones.
                Err(_) => self.places += processors(),
            }
        }
    }

    /// Brings in what is left, while everything else is served.
    pub(crate) async fn run_behind(mut self) {
        tracing::warn!(
            tailnets = self.running.len(),
            "the policies of some tailnets take long to compile; they are not served until then"
        );
        let stop = self.engine.0.stop.clone();
        loop {
            let outcome = tokio::select! {
                outcome = self.running.join_next() => outcome,
                () = stop.cancelled() => return,
            };
            let Some(outcome) = outcome else {
                tracing::info!("the policies of all tailnets are compiled");
                return;
            };
            if let Err(error) = self.finish(outcome) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a tailnet cannot be served"
                );
            }
        }
    }

    /// Reads a tailnet's rows, and leaves the rest to a thread where nobody waits for it.
    async fn begin(&mut self, id: TailnetId) -> Result<(), OpenError> {
        let loaded = self.engine.read(id).await?;
        // Its devices are told to come again, and not that nobody knows them.
        self.engine.0.directory.add_rows(id, &loaded);
        self.engine.0.starting.pin().insert(id, ());
        let engine = self.engine.clone();
        self.running
            .spawn_blocking(move || (id, engine.put_into_force(id, &loaded)));
        Ok(())
    }

    fn finish(&self, outcome: Result<Read, tokio::task::JoinError>) -> Result<(), OpenError> {
        // A thread that could not be waited for: the runtime is going down.
        let Ok((id, read)) = outcome else {
            return Ok(());
        };
        let engine = &self.engine;
        if let Some(snapshot) = read {
            engine.add(snapshot?);
        } else {
            tracing::error!(
                tailnet.id = %id,
                "the stored state of a tailnet cannot be put into force: it panics; the tailnet is out of order, others are served"
            );
            engine.0.out_of_order.pin().insert(id, ());
        }
        engine.0.starting.pin().remove(&id);
        Ok(())
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

impl Engine {
    /// Whether a tailnet is known and not served: not yet, or because it is out of order.
    pub(crate) fn is_held_back(&self, tailnet: TailnetId) -> bool {
        self.0.starting.pin().contains_key(&tailnet)
            || self.0.out_of_order.pin().contains_key(&tailnet)
    }

    /// Reads a tailnet and starts its writer, or leaves that to a task where its policy takes long.
    pub(crate) async fn start(&self, id: TailnetId) -> Result<(), OpenError> {
        if let Some(rest) = Starts::new(self, [id]).run().await? {
            self.0.tasks.spawn(rest.run_behind());
        }
        Ok(())
    }

    /// Whether some tailnet is known and not served yet.
    pub fn has_starting(&self) -> bool {
        !self.0.starting.is_empty()
    }

    /// Whether a tailnet of this name or id is known and not served.
    pub fn is_tailnet_held_back(&self, text: &str) -> bool {
        let named = self
            .0
            .directory
            .name(text)
            .or_else(|| TailnetId::parse(text));
        named.is_some_and(|id| self.is_held_back(id))
    }
}
