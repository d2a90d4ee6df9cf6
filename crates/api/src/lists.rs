//! Lists whose cost follows the tailnet: made beside the runtime, so that nobody else waits for them.
//!
//! A tailnet makes one of its lists at a time, and all of them together as many as the machine has
//! processors. Whoever asks for many at once waits for themselves.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bowline_model::id::TailnetId;
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// Up to this many objects a list is made where it is asked for: some tens of microseconds.
const FEW: usize = 64;

/// Objects of a list that nobody has counted.
pub(crate) const MANY: usize = usize::MAX;

/// Room for lists in the making.
#[derive(Debug, Clone)]
pub(crate) struct Lists(Arc<Room>);

#[derive(Debug)]
struct Room {
    all: Arc<Semaphore>,
    by_tailnet: Mutex<HashMap<TailnetId, Weak<Semaphore>>>,
}

impl Default for Lists {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Room {
            all: Arc::new(Semaphore::new(processors)),
            by_tailnet: Mutex::default(),
        }))
    }
}

impl Lists {
    fn of(&self, tailnet: TailnetId) -> Arc<Semaphore> {
        let mut own = self
            .0
            .by_tailnet
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(room) = own.get(&tailnet).and_then(Weak::upgrade) {
            return room;
        }
        // Those that nobody waits for are gone; their names go with the next one that begins.
        own.retain(|_, room| room.strong_count() > 0);
        let room = Arc::new(Semaphore::new(1));
        own.insert(tailnet, Arc::downgrade(&room));
        room
    }

    /// Makes an answer whose cost follows `objects`, which the tailnet has.
    pub(crate) async fn answer<T, W>(
        &self,
        tailnet: TailnetId,
        objects: usize,
        work: W,
    ) -> Result<T, ApiError>
    where
        T: Send + 'static,
        W: FnOnce() -> Result<T, ApiError> + Send + 'static,
    {
        if objects <= FEW {
            return work();
        }
        let own = self.of(tailnet).acquire_owned().await;
        let all = self.0.all.clone().acquire_owned().await;
        let span = tracing::Span::current();
        let outcome = tokio::task::spawn_blocking(move || {
            // Kept until the work is done, also where its caller has gone away.
            let _permits = (own, all);
            span.in_scope(work)
        })
        .await;
        outcome.unwrap_or_else(|error| Err(ApiError::defect("a list was not finished", &error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::time::Duration;

    fn tailnet(number: u64) -> TailnetId {
        TailnetId::new(number).unwrap_or(TailnetId::MIN)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_tailnet_that_asks_for_many_lists_waits_for_itself_alone() {
        let lists = Lists(Arc::new(Room {
            all: Arc::new(Semaphore::new(2)),
            by_tailnet: Mutex::default(),
        }));
        let (release, held) = mpsc::channel::<()>();
        let ask = |number: u64, work: Box<dyn FnOnce() + Send>| {
            let lists = lists.clone();
            tokio::spawn(async move {
                let work = move || {
                    work();
                    Ok(())
                };
                lists.answer(tailnet(number), MANY, work).await
            })
        };
        let first = ask(1, Box::new(move || held.recv().unwrap_or(())));
        while lists.0.all.available_permits() == 2 {
            tokio::task::yield_now().await;
        }
        let others: Vec<_> = (0..8).map(|_| ask(1, Box::new(|| ()))).collect();
        // Another tailnet's is made meanwhile, and those of the first wait.
        let second = ask(2, Box::new(|| ()));
        let answered = tokio::time::timeout(Duration::from_secs(20), second).await;
        assert!(answered.is_ok());
        assert!(others.iter().all(|other| !other.is_finished()));
        assert!(release.send(()).is_ok());
        for asked in others.into_iter().chain([first]) {
            assert!(asked.await.is_ok_and(|answer| answer.is_ok()));
        }
        // Nothing is kept of a tailnet that asks for nothing.
        drop(lists.of(tailnet(3)));
        let left = lists
            .0
            .by_tailnet
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        assert_eq!(left.len(), 1);
    }
}
