//! What a writer is given to do, and who waits for it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bowline_model::id::DeviceId;
use bowline_model::requirement::Denied;
use bowline_store::CatchUp;
use tokio::sync::oneshot;

use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::failure::StoreFailure;

/// A change of soft state or reported facts. It may run twice: on the published state, and on the
/// one that a commit under way will publish.
pub(crate) type SoftChange = Box<dyn FnMut(&mut Draft<'_>) + Send>;

/// Something for a writer to do.
pub(crate) enum Job {
    /// A change that is durable before its caller is answered.
    Durable(Box<dyn Work>),
    /// A change of soft state or reported facts, which counts as pending until it is published.
    Soft(SoftChange, OnItsWay),
    /// Look at the clock, and say when that is done.
    Tick(oneshot::Sender<()>),
    /// Take in what another process wrote, and say whether that was possible.
    CatchUp(Box<CatchUp>, oneshot::Sender<bool>),
}

/// A durable change with its types erased.
pub(crate) trait Work: Send {
    /// Runs the closure; whether it was accepted.
    fn run(&mut self, draft: &mut Draft<'_>) -> bool;
    /// Answers the caller.
    fn finish(self: Box<Self>, outcome: Result<(), StoreFailure>);
}

/// A durable change.
pub(crate) struct Typed<T, E, F> {
    pub(crate) closure: F,
    /// Who asked for it, as they were then.
    pub(crate) actor: Actor,
    pub(crate) result: Option<Result<T, E>>,
    pub(crate) reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> Work for Typed<T, E, F>
where
    T: Send,
    E: From<StoreFailure> + From<Denied> + Send,
    F: FnMut(&mut Draft<'_>) -> Result<T, E> + Send,
{
    fn run(&mut self, draft: &mut Draft<'_>) -> bool {
        let result = match draft.let_in(&self.actor) {
            Ok(()) => (self.closure)(draft),
            Err(denied) => Err(denied.into()),
        };
        let accepted = result.is_ok();
        self.result = Some(result);
        accepted
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreFailure>) {
        answer(outcome, self.result, self.reply);
    }
}

/// Answers the caller of a change whose closure had this result, and whose commit this outcome.
pub(crate) fn answer<T, E: From<StoreFailure>>(
    outcome: Result<(), StoreFailure>,
    result: Option<Result<T, E>>,
    reply: oneshot::Sender<Result<T, E>>,
) {
    let answer = match (outcome, result) {
        (Ok(()), Some(result)) => result,
        (Ok(()), None) => {
            Err(StoreFailure::Defect("a change was acknowledged without having run").into())
        }
        // A refusal stands whatever became of the others' commit.
        (Err(_), Some(Err(refusal))) => Err(refusal),
        (Err(failure), _) => Err(failure.into()),
    };
    // The caller may have gone away; what it asked for stays done.
    let _ = reply.send(answer);
}

/// Changes of devices that were asked for and are not in the snapshot yet.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    by_device: HashMap<DeviceId, usize>,
    /// Changes that may be about any device.
    of_any: usize,
}

impl Pending {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the snapshot has every change of this device that was asked for before.
    pub(crate) fn has_no_pending_reports(&self, device: DeviceId) -> bool {
        let counts = self.counts();
        counts.of_any == 0 && !counts.by_device.contains_key(&device)
    }
}

/// A change that counts as pending for as long as this is there: until it is published, or was
/// given up.
pub(crate) struct OnItsWay {
    pending: Arc<Pending>,
    /// Its device. `None`: it may be any.
    device: Option<DeviceId>,
}

impl OnItsWay {
    pub(crate) fn new(pending: Arc<Pending>, device: Option<DeviceId>) -> Self {
        let mut counts = pending.counts();
        match device {
            Some(device) => *counts.by_device.entry(device).or_default() += 1,
            None => counts.of_any += 1,
        }
        drop(counts);
        Self { pending, device }
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let mut counts = self.pending.counts();
        let Some(device) = self.device else {
            counts.of_any -= 1;
            return;
        };
        if let Some(count) = counts.by_device.get_mut(&device) {
            *count -= 1;
            if *count == 0 {
                counts.by_device.remove(&device);
                // A storm's room is given back when it is over.
                if counts.by_device.is_empty() {
                    counts.by_device.shrink_to_fit();
                }
            }
        }
    }
}
