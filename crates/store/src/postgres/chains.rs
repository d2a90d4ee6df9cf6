//! The newest audit event of each owner, so that a commit need not ask for it.
//!
//! It changes with commits alone, and every commit raises the owner's sequence number and is refused
//! where it was made from another: what was true at a number is true while the number stands. It is
//! forgotten when the database changed hands, since a restored one may have the same numbers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::fail::Failure;
use super::read;
use super::session::Session;
use crate::batch::Batch;
use crate::chain::Link;

/// Owners that are remembered; beyond it all are forgotten.
const REMEMBERED: usize = 10_000;

#[derive(Debug, Clone, Copy)]
struct Known {
    epoch: i64,
    seq: u64,
    newest: Link,
}

/// What is known of each owner.
#[derive(Debug, Default)]
pub(super) struct Chains(Mutex<HashMap<u64, Known>>);

impl Chains {
    /// The event that those of a batch follow.
    pub(super) async fn before(
        &self,
        session: &Session,
        batch: &Batch,
        epoch: i64,
    ) -> Result<Link, Failure> {
        if batch.base == 0 || batch.audit.is_empty() {
            return Ok(Link::default());
        }
        let known = self.known().get(&batch.owner.get()).copied();
        match known {
            Some(known) if known.epoch == epoch && known.seq == batch.base => Ok(known.newest),
            // Read before the transaction: where another commit comes between, this one is refused.
            _ => read::audit_end(session, batch.owner).await,
        }
    }

    /// A batch was committed, and its events led to this one.
    pub(super) fn committed(&self, batch: &Batch, epoch: i64, newest: Link) {
        let mut known = self.known();
        if known.len() >= REMEMBERED && !known.contains_key(&batch.owner.get()) {
            known.clear();
        }
        let seq = batch.base + 1;
        if batch.audit.is_empty() && batch.base > 0 {
            // Of this owner nothing was asked.
            if let Some(known) = known.get_mut(&batch.owner.get())
                && known.epoch == epoch
                && known.seq == batch.base
            {
                known.seq = seq;
            }
            return;
        }
        let entry = Known { epoch, seq, newest };
        known.insert(batch.owner.get(), entry);
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
