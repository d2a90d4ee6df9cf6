//! Work on policies: where it runs, and in which order.
//!
//! Reading a policy, applying it to a tailnet and answering questions about it can take seconds.
//! That happens on threads where nothing else waits; each tailnet has one place at a time, and its
//! further requests queue up behind each other, so that no tailnet takes the places of others. Work
//! ends with the request that asked for it.

use std::collections::HashMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_model::id::TailnetId;
use bowline_policy::{Budget, Cancel};
use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ApiError;

/// Requests of one tailnet that may wait for their turn.
const QUEUE_MAX: usize = 16;
/// How long a request waits for its turn. Less than requests may take altogether, so that the
/// answer says why.
const WAIT: Duration = Duration::from_secs(20);

/// The places, and the tailnets that queue for them.
pub(crate) struct Heavy {
    places: Arc<Semaphore>,
    wait: Duration,
    queues: Mutex<HashMap<TailnetId, Arc<Queue>>>,
}

/// The requests of one tailnet.
struct Queue {
    /// One of them has its turn.
    turn: Arc<Semaphore>,
    /// The others may wait.
    room: Arc<Semaphore>,
}

/// A request's turn. The place is free again when the turn is over and its work has ended.
pub(crate) struct Turn(Arc<[OwnedSemaphorePermit; 2]>);

/// Cancels work when whoever waits for it goes away.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Heavy {
    /// As many places as the machine has processors, and two at least: one tailnet's work must not
    /// hold up another's on a machine with one.
    pub(crate) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self {
            places: Arc::new(Semaphore::new(processors.max(2))),
            wait: WAIT,
            queues: Mutex::default(),
        }
    }

    /// Waits for a turn of a tailnet.
    ///
    /// # Errors
    /// 503 where too many requests of the tailnet wait, or it takes too long.
    pub(crate) async fn turn(&self, tailnet: TailnetId) -> Result<Turn, ApiError> {
        let queue = self.queue(tailnet);
        let busy = |message| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message);
        let Ok(_room) = Arc::clone(&queue.room).try_acquire_owned() else {
            return Err(busy(
                "too many requests about this tailnet's policy wait; try again later",
            ));
        };
        let both = async {
            let turn = Arc::clone(&queue.turn).acquire_owned().await.ok()?;
            let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
            Some(Turn(Arc::new([turn, place])))
        };
        match tokio::time::timeout(self.wait, both).await {
            Ok(Some(turn)) => Ok(turn),
            Ok(None) | Err(_) => Err(busy(
                "other work on policies is not done yet; try again later",
            )),
        }
    }

    fn queue(&self, tailnet: TailnetId) -> Arc<Queue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        // Only those are kept that somebody is in.
        queues.retain(|_, queue| Arc::strong_count(queue) > 1 || !queue.is_idle());
        let queue = queues.entry(tailnet).or_insert_with(|| {
            Arc::new(Queue {
                turn: Arc::new(Semaphore::new(1)),
                room: Arc::new(Semaphore::new(QUEUE_MAX)),
            })
        });
        Arc::clone(queue)
    }
}

impl Queue {
    fn is_idle(&self) -> bool {
        self.turn.available_permits() == 1 && self.room.available_permits() == QUEUE_MAX
    }
}

impl Turn {
    /// Runs work on a thread where nobody else waits for it. Where the request goes away, its
    /// connection closed or its time over, the work ends at its next step.
    ///
    /// # Errors
    /// What the work ends with.
    pub(crate) async fn run<T, W>(&self, work: W) -> Result<T, ApiError>
    where
        T: Send + 'static,
        W: FnOnce(&Budget) -> Result<T, ApiError> + Send + 'static,
    {
        let budget = Budget::default();
        let _cancel = CancelOnDrop(budget.cancel());
        let place = Arc::clone(&self.0);
        let span = tracing::Span::current();
        let outcome = tokio::task::spawn_blocking(move || {
            // Kept until the work is done, also where its caller has gone away.
            let _place = place;
            span.in_scope(|| work(&budget))
        });
        outcome
            .await
            .unwrap_or_else(|error| Err(ApiError::defect("work on a policy ended early", &error)))
    }
}

#[cfg(test)]
mod tests {
    use super::{Heavy, QUEUE_MAX};
    use bowline_model::id::TailnetId;
    use std::sync::Arc;
    use std::sync::mpsc;

    fn tailnet(number: u64) -> TailnetId {
        TailnetId::new(number).unwrap()
    }

    #[tokio::test]
    async fn one_tailnet_has_one_place_however_many_requests_it_sends() {
        let heavy = Arc::new(Heavy::new());
        let held = heavy.turn(tailnet(1)).await.unwrap();
        let next = tokio::spawn({
            let heavy = heavy.clone();
            async move { heavy.turn(tailnet(1)).await.is_ok() }
        });
        // Another tailnet's turn comes although the first one's second request waits.
        let other = heavy.turn(tailnet(2)).await.unwrap();
        assert_eq!(other.run(|_| Ok(7)).await.unwrap(), 7);
        assert!(!next.is_finished());
        drop(held);
        assert!(next.await.unwrap());
    }

    #[tokio::test]
    async fn requests_beyond_the_queue_and_those_that_wait_too_long_are_told_so() {
        let heavy = Arc::new(Heavy {
            wait: std::time::Duration::from_millis(200),
            ..Heavy::new()
        });
        let held = heavy.turn(tailnet(1)).await.unwrap();
        let waiting: Vec<_> = (0..QUEUE_MAX)
            .map(|_| {
                let heavy = heavy.clone();
                tokio::spawn(async move { heavy.turn(tailnet(1)).await.err() })
            })
            .collect();
        tokio::task::yield_now().await;
        let refused = heavy.turn(tailnet(1)).await.err().unwrap();
        assert_eq!(refused.status, 503);
        assert!(refused.message.contains("too many requests"), "{refused:?}");
        for waiter in waiting {
            let refused = waiter.await.unwrap().unwrap();
            assert_eq!(refused.status, 503);
            assert!(refused.message.contains("not done yet"), "{refused:?}");
        }
        drop(held);
    }

    #[tokio::test]
    async fn work_ends_when_nobody_waits_for_it() {
        let heavy = Heavy::new();
        let turn = heavy.turn(tailnet(1)).await.unwrap();
        let (started, begun) = mpsc::channel();
        let (ended, end) = mpsc::channel();
        let work = turn.run(move |budget| {
            started.send(()).unwrap();
            // Ends by the budget alone.
            while budget.check().is_ok() {
                let _ = bowline_policy::Policy::parse_within("{}", budget);
            }
            ended.send(()).unwrap();
            Ok(())
        });
        let mut work = Box::pin(work);
        tokio::select! {
            biased;
            _ = &mut work => panic!("it does not end by itself"),
            () = async { begun.recv().unwrap() } => {}
        }
        drop(work);
        end.recv_timeout(std::time::Duration::from_secs(10))
            .unwrap();
        drop(turn);
        assert!(heavy.turn(tailnet(1)).await.is_ok());
    }
}
