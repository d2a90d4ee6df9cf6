//! How much work a policy may make.
//!
//! A policy is written by one tailnet and worked on by a process that serves all of them. So that
//! no text can occupy it for long or fill its memory, everything that follows the length of a
//! policy takes from a [`Budget`]: reading it, building its rules, applying it to devices, running
//! its tests, and answering questions about it. The budget is also where work learns that nobody
//! waits for it any more.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How much work may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Steps: looking at one selector, one entry of a rule, one device. A step takes some
    /// nanoseconds up to some tens of them.
    pub steps: u64,
    /// Bytes of memory, estimated.
    pub bytes: u64,
}

impl Limits {
    /// For a proposed policy, and for questions: a few seconds and a few hundred MiB at most,
    /// whatever the text says. A policy of 1,000 rules on 10,000 devices takes a few hundredths
    /// of it.
    pub const PROPOSED: Self = Self {
        steps: 150_000_000,
        bytes: 256 << 20,
    };

    /// For a policy that was accepted before: a tailnet that has grown since does not lose it.
    pub const ACCEPTED: Self = Self {
        steps: 4 * Self::PROPOSED.steps,
        bytes: 4 * Self::PROPOSED.bytes,
    };
}

/// Why work on a policy was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Exhausted {
    /// It takes too many steps.
    #[error(
        "policy is too large: it takes more work than one policy may make; use fewer rules, \
         selectors, addresses or tests"
    )]
    Steps,
    /// It takes too much memory.
    #[error(
        "policy is too large: it takes more memory than one policy may use; use fewer rules, \
         selectors, addresses or tests"
    )]
    Bytes,
    /// Nobody waits for the outcome any more.
    #[error("work on the policy was cancelled")]
    Cancelled,
}

/// Work that may still be done. It belongs to one piece of work on one thread; only its
/// [`Cancel`] is for others.
#[derive(Debug)]
pub struct Budget {
    steps: Cell<u64>,
    bytes: Cell<u64>,
    failed: Cell<Option<Exhausted>>,
    cancelled: Arc<AtomicBool>,
}

/// Ends the work of a [`Budget`] from another thread, at the next step it takes.
#[derive(Debug, Clone)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Ends the work.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Limits::PROPOSED)
    }
}

impl Budget {
    /// A budget that nothing was taken from.
    pub fn new(limits: Limits) -> Self {
        Self {
            steps: Cell::new(limits.steps),
            bytes: Cell::new(limits.bytes),
            failed: Cell::new(None),
            cancelled: Arc::default(),
        }
    }

    /// A budget that never runs out.
    pub(crate) fn unlimited() -> Self {
        Self::new(Limits {
            steps: u64::MAX,
            bytes: u64::MAX,
        })
    }

    /// What ends the work.
    pub fn cancel(&self) -> Cancel {
        Cancel(Arc::clone(&self.cancelled))
    }

    /// Takes steps.
    ///
    /// # Errors
    /// There are not so many left, there never will be, or the work was cancelled.
    pub(crate) fn steps(&self, count: usize) -> Result<(), Exhausted> {
        self.take(&self.steps, count, Exhausted::Steps)
    }

    /// Takes memory, before it is used.
    ///
    /// # Errors
    /// As [`steps`](Self::steps).
    pub(crate) fn bytes(&self, count: usize) -> Result<(), Exhausted> {
        self.take(&self.bytes, count, Exhausted::Bytes)
    }

    /// Takes a number of elements of a size, and a step for each.
    pub(crate) fn elements(&self, count: usize, size: usize) -> Result<(), Exhausted> {
        self.steps(count)?;
        self.bytes(count.saturating_mul(size))
    }

    /// Gives memory back that is not used any more.
    pub(crate) fn give_back(&self, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.bytes.set(self.bytes.get().saturating_add(count));
    }

    /// Takes steps in work that has no way to fail. Where this is false the work ends early with
    /// whatever it has, and whoever started it learns by [`check`](Self::check) that it is wrong.
    pub(crate) fn allows(&self, steps: usize) -> bool {
        self.steps(steps).is_ok()
    }

    /// The same for memory.
    pub(crate) fn allows_bytes(&self, count: usize) -> bool {
        self.bytes(count).is_ok()
    }

    /// Whether everything that was asked for could be had.
    ///
    /// # Errors
    /// What was missing first.
    pub fn check(&self) -> Result<(), Exhausted> {
        self.failed.get().map_or(Ok(()), Err)
    }

    fn take(&self, from: &Cell<u64>, count: usize, reason: Exhausted) -> Result<(), Exhausted> {
        self.check()?;
        let left = u64::try_from(count)
            .ok()
            .and_then(|count| from.get().checked_sub(count));
        let failed = match left {
            _ if self.cancelled.load(Ordering::Relaxed) => Exhausted::Cancelled,
            None => reason,
            Some(left) => {
                from.set(left);
                return Ok(());
            }
        };
        self.failed.set(Some(failed));
        Err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Exhausted, Limits};

    #[test]
    fn a_budget_is_used_up_to_the_last_step_and_not_beyond() {
        let budget = Budget::new(Limits { steps: 3, bytes: 8 });
        assert_eq!(budget.steps(3), Ok(()));
        assert_eq!(budget.bytes(8), Ok(()));
        assert_eq!(budget.check(), Ok(()));
        assert_eq!(budget.steps(1), Err(Exhausted::Steps));
        // What failed once stays failed: half of the work is not an outcome.
        assert_eq!(budget.steps(0), Err(Exhausted::Steps));
        assert_eq!(budget.check(), Err(Exhausted::Steps));
    }

    #[test]
    fn a_cancelled_budget_ends_the_work_at_its_next_step() {
        let budget = Budget::default();
        let cancel = budget.cancel();
        assert!(budget.allows(1));
        cancel.cancel();
        assert!(!budget.allows(1));
        assert_eq!(budget.check(), Err(Exhausted::Cancelled));
    }
}
