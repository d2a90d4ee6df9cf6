//! What the server's writer is given to do, and who waits for it.

use bowline_model::audit::{ActorRef, EventGroup};
use bowline_store::CatchUp;
use tokio::sync::oneshot;

use super::draft::ServerDraft;
use crate::core::failure::StoreFailure;
use crate::core::job::answer;

/// Something for the server's writer to do.
pub(crate) enum ServerJob {
    /// A change that is durable before its caller is answered.
    Durable(Box<dyn ServerWork>),
    /// Look at the clock, and say when that is done.
    Tick(oneshot::Sender<()>),
    /// Take in what another process wrote, and say whether that was possible.
    CatchUp(Box<CatchUp>, oneshot::Sender<bool>),
}

/// A change with its types erased.
pub(crate) trait ServerWork: Send {
    /// Runs the closure; whether it was accepted.
    fn run(&mut self, draft: &mut ServerDraft<'_>) -> bool;
    /// Answers the caller.
    fn finish(self: Box<Self>, outcome: Result<(), StoreFailure>);
}

/// A change.
pub(crate) struct Typed<T, E, F> {
    pub(crate) closure: F,
    pub(crate) actor: ActorRef,
    pub(crate) group: EventGroup,
    pub(crate) result: Option<Result<T, E>>,
    pub(crate) reply: oneshot::Sender<Result<T, E>>,
}

impl<T, E, F> ServerWork for Typed<T, E, F>
where
    T: Send,
    E: From<StoreFailure> + Send,
    F: FnMut(&mut ServerDraft<'_>) -> Result<T, E> + Send,
{
    fn run(&mut self, draft: &mut ServerDraft<'_>) -> bool {
        draft.begin_change(self.actor.clone(), self.group);
        let result = (self.closure)(draft);
        let accepted = result.is_ok();
        self.result = Some(result);
        accepted
    }

    fn finish(self: Box<Self>, outcome: Result<(), StoreFailure>) {
        answer(outcome, self.result, self.reply);
    }
}
