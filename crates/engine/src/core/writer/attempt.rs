//! Closures on a draft, each of them guarded: one that refuses or panics leaves no trace, and
//! neither does one whose effect the policy or an index cannot follow.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bowline_netmap::snapshot::Snapshot;

use super::Writer;
use super::waiting::Waiting;
use crate::core::draft::{Author, Changes, Draft};
use crate::core::failure::StoreFailure;
use crate::core::job::SoftChange;
use crate::core::told;

/// What closures made of the state.
pub(super) struct Attempt<'a> {
    pub(super) draft: Draft<'a>,
    /// Whether each closure was accepted, by its place.
    pub(super) accepted: Vec<bool>,
}

/// Runs something that may panic; whether it did not.
fn guarded(act: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(act)).is_ok()
}

impl Writer {
    /// Runs the closures on one draft, and applies the policy to what they made of it. Where that
    /// panics they are tried one by one, so that the culprit alone is refused. What panicked is
    /// taken out of its place and answered.
    pub(super) fn attempt<'a>(
        &self,
        engine: &'a crate::core::engine::Inner,
        works: &mut [Option<Waiting>],
        is_due: bool,
    ) -> Attempt<'a> {
        let mut attempt = self.run_all(engine, works, is_due, false);
        let follows = guarded(|| self.dry_run(&attempt.draft.snapshot, &attempt.draft.changes));
        if !follows {
            attempt = self.run_all(engine, works, is_due, true);
        }
        attempt
    }

    /// Everything that publishing will do with a state, without an effect.
    fn dry_run(&self, snapshot: &Snapshot, changes: &Changes) {
        if changes.is_idle() {
            return;
        }
        #[cfg(test)]
        tests::panic_on_purpose(snapshot);
        snapshot.apply_policy();
        let _ = self.due.plan(snapshot, changes);
    }

    /// `each`: publishing is tried after each closure.
    fn run_all<'a>(
        &self,
        engine: &'a crate::core::engine::Inner,
        works: &mut [Option<Waiting>],
        is_due: bool,
        each: bool,
    ) -> Attempt<'a> {
        let mut draft = Self::new_draft(engine, (**self.current.snapshot()).clone());
        let mut total = Changes::default();
        // Noticed just now, a step of the clock is for the next round.
        if is_due && engine.clock.steps() == self.steps {
            let saved = draft.snapshot.clone();
            let went = guarded(|| self.due.run(&mut draft, &self.handle.sessions))
                && self.is_told(&saved, &draft)
                && self.consequences(engine, &mut draft, &saved)
                && (!each || guarded(|| self.dry_run(&draft.snapshot, &draft.changes)));
            if !went {
                // A writer that dies takes its tailnet with it.
                tracing::error!(tailnet.id = %self.handle.id, "what is due panicked, or had no event");
                draft.snapshot = saved;
                draft.changes = Changes::default();
            }
            total.merge(std::mem::take(&mut draft.changes));
        }
        let mut accepted = Vec::with_capacity(works.len());
        for (index, place) in works.iter_mut().enumerate() {
            let Some(waiting) = place else {
                accepted.push(false);
                continue;
            };
            let saved = draft.snapshot.clone();
            draft.changes = Changes {
                author: Author::Caller(index),
                ..Changes::default()
            };
            let mut ok = false;
            let mut went = guarded(|| ok = waiting.work.run(&mut draft));
            went &= !ok || self.is_told(&saved, &draft);
            went = went && (!ok || self.consequences(engine, &mut draft, &saved));
            if ok && went && each {
                went = guarded(|| self.dry_run(&draft.snapshot, &draft.changes));
            }
            ok &= went;
            if ok {
                total.merge(std::mem::take(&mut draft.changes));
            } else {
                draft.snapshot = saved;
            }
            accepted.push(ok);
            if !went && let Some(waiting) = place.take() {
                tracing::error!(tailnet.id = %self.handle.id, "a change panicked, or had no event");
                waiting.work.finish(Err(StoreFailure::Defect(
                    "it panicked, or changed a record without an event that tells it",
                )));
            }
        }
        draft.changes = total;
        Attempt { draft, accepted }
    }

    /// Adds what follows from the events of a change; whether that was possible.
    fn consequences(
        &self,
        engine: &crate::core::engine::Inner,
        draft: &mut Draft<'_>,
        before: &Snapshot,
    ) -> bool {
        let mut outcome = Ok(());
        let went = guarded(|| {
            let mut follows = engine.subjects.follows.iter();
            outcome = follows.try_for_each(|follow| follow(engine, &self.handle, draft, before));
        });
        if let Err(error) = &outcome {
            tracing::error!(%error, tailnet.id = %self.handle.id, "a change was refused");
        }
        went && outcome.is_ok()
    }

    /// Whether the events of a change tell everything that it stored.
    fn is_told(&self, before: &Snapshot, draft: &Draft<'_>) -> bool {
        let told = told::check(Some(before), &draft.snapshot, &draft.changes);
        if let Err(untold) = &told {
            tracing::error!(error = %untold, tailnet.id = %self.handle.id, "a change was refused");
        }
        told.is_ok()
    }

    /// Runs changes of soft state on a state; those that panic, or that the policy cannot follow,
    /// leave no trace. `None`: nothing changed.
    pub(super) fn soften(
        &self,
        state: &Snapshot,
        changes: &mut [SoftChange],
    ) -> Option<(Snapshot, Changes)> {
        let mut attempt = self.soften_all(state, changes, false);
        if !guarded(|| self.dry_run(&attempt.0, &attempt.1)) {
            attempt = self.soften_all(state, changes, true);
        }
        (!attempt.1.is_idle() || !attempt.1.touched.is_empty()).then_some(attempt)
    }

    fn soften_all(
        &self,
        state: &Snapshot,
        changes: &mut [SoftChange],
        each: bool,
    ) -> (Snapshot, Changes) {
        let mut draft = Self::new_draft(&self.engine, state.clone());
        let mut total = Changes::default();
        for change in changes {
            let saved = draft.snapshot.clone();
            let went = guarded(|| change(&mut draft))
                && (!each || guarded(|| self.dry_run(&draft.snapshot, &draft.changes)));
            if !went {
                tracing::error!(tailnet.id = %self.handle.id, "a change of soft state panicked");
                draft.snapshot = saved;
                draft.changes = Changes::default();
            }
            total.merge(std::mem::take(&mut draft.changes));
        }
        (draft.snapshot, total)
    }

    fn new_draft(engine: &crate::core::engine::Inner, state: Snapshot) -> Draft<'_> {
        Draft::new(state, engine.clock.now(), &engine.ids, &*engine.random)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Snapshot;

    /// Stands for a state that the policy cannot be applied to.
    pub(crate) const POISON: &str = "panics-on-purpose";

    pub(crate) fn panic_on_purpose(snapshot: &Snapshot) {
        assert!(snapshot.device_by_name(POISON).is_none(), "on purpose");
    }
}
