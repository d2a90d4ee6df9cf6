//! Whose handshake is next.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use tokio::sync::oneshot;

use crate::source::networks;

/// Work that costs processor time, in turns: one of each source after the other, so that a source
/// with thousands of handshakes holds up its own and nobody else's. Those of one source are in
/// order. Cheap to clone; all clones are one.
///
/// A turn goes to sources by their widest network first and to the narrower ones in it by turns
/// again: with a /48 one gets as many as with one IPv4 address.
#[derive(Debug, Clone)]
pub struct Turns(Arc<Mutex<Waiting>>);

#[derive(Debug)]
struct Waiting {
    free: usize,
    ring: Ring,
}

/// Sources that wait, in turns.
#[derive(Debug, Default)]
struct Ring {
    order: VecDeque<IpNet>,
    inner: HashMap<IpNet, Ring>,
    /// Those who wait here, where there is no narrower network.
    line: VecDeque<oneshot::Sender<Turn>>,
}

impl Ring {
    fn enter(&mut self, mut path: impl Iterator<Item = IpNet>, who: oneshot::Sender<Turn>) {
        let Some(network) = path.next() else {
            self.line.push_back(who);
            return;
        };
        let order = &mut self.order;
        let inner = self.inner.entry(network).or_insert_with(|| {
            order.push_back(network);
            Self::default()
        });
        inner.enter(path, who);
    }

    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        if let Some(who) = self.line.pop_front() {
            return Some(who);
        }
        let network = self.order.pop_front()?;
        let inner = self.inner.get_mut(&network)?;
        let who = inner.next();
        if inner.is_empty() {
            self.inner.remove(&network);
        } else {
            self.order.push_back(network);
        }
        who
    }

    fn is_empty(&self) -> bool {
        self.line.is_empty() && self.order.is_empty()
    }
}

impl Turns {
    /// With so many turns at once, at least one.
    pub fn new(at_once: usize) -> Self {
        Self(Arc::new(Mutex::new(Waiting {
            free: at_once.max(1),
            ring: Ring::default(),
        })))
    }

    /// Waits for a turn. Whoever gives up waiting loses nothing for others.
    pub async fn turn(&self, source: IpAddr) -> Turn {
        let (sender, receiver) = oneshot::channel();
        {
            let mut waiting = self.waiting();
            if waiting.free > 0 {
                waiting.free -= 1;
                return Turn(Some(self.clone()));
            }
            waiting.ring.enter(networks(source), sender);
        }
        match receiver.await {
            Ok(turn) => turn,
            // Senders live as long as these turns do; without one nobody else is to be held up.
            Err(_) => Turn(None),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A turn; the next one begins when it is dropped.
#[derive(Debug)]
#[must_use = "dropping it ends the turn"]
pub struct Turn(Option<Turns>);

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(turns) = self.0.take() else {
            return;
        };
        loop {
            let next = {
                let mut waiting = turns.waiting();
                let next = waiting.ring.next();
                if next.is_none() {
                    waiting.free += 1;
                }
                next
            };
            let Some(next) = next else {
                return;
            };
            match next.send(Turn(Some(turns.clone()))) {
                Ok(()) => return,
                // Gave up meanwhile. This turn goes on to the one after it, from here and not from
                // its own drop: thousands who gave up would be thousands of calls deep.
                Err(mut turn) => turn.0 = None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_order::order_of;

    use super::*;

    mod futures_order {
        use super::*;

        /// The order in which those who come from these addresses get their turn.
        pub(super) async fn order_of(sources: &[&str]) -> Vec<usize> {
            let turns = Turns::new(1);
            let first = turns.turn("198.51.100.1".parse().unwrap()).await;
            let order = Arc::new(Mutex::new(Vec::new()));
            let mut tasks = Vec::new();
            for (number, source) in sources.iter().enumerate() {
                let (turns, order) = (turns.clone(), Arc::clone(&order));
                let source = source.parse().unwrap();
                tasks.push(tokio::spawn(async move {
                    let _turn = turns.turn(source).await;
                    order.lock().unwrap().push(number);
                }));
                tokio::task::yield_now().await;
            }
            drop(first);
            for task in tasks {
                task.await.unwrap();
            }
            assert_eq!(turns.waiting().free, 1);
            assert!(turns.waiting().ring.is_empty());
            let order = order.lock().unwrap();
            order.clone()
        }
    }

    #[tokio::test]
    async fn one_source_after_the_other_and_each_in_order() {
        let many = ["192.0.2.1"; 3];
        let sources = [&many[..], &["192.0.2.2", "192.0.2.3"]].concat();
        assert_eq!(order_of(&sources).await, [0, 3, 4, 1, 2]);
    }

    #[tokio::test]
    async fn a_wide_network_of_ipv6_has_one_place_in_the_round() {
        let sources = [
            "2001:db8:1:1::1",
            "2001:db8:1:1::2",
            "2001:db8:1:2::1",
            "2001:db8:1:102::1",
            "192.0.2.1",
        ];
        assert_eq!(order_of(&sources).await, [0, 4, 3, 2, 1]);
    }

    #[tokio::test]
    async fn who_gives_up_holds_nobody_up() {
        let turns = Turns::new(1);
        let source: IpAddr = "192.0.2.1".parse().unwrap();
        let first = turns.turn(source).await;
        let waiting: Vec<_> = (0..10_000)
            .map(|_| {
                let mut turn = Box::pin(turns.clone().into_turn(source));
                let waker = std::task::Waker::noop();
                let mut context = std::task::Context::from_waker(waker);
                assert!(turn.as_mut().poll(&mut context).is_pending());
                turn
            })
            .collect();
        drop(waiting);
        drop(first);
        let _again = turns.turn(source).await;
    }

    impl Turns {
        async fn into_turn(self, source: IpAddr) -> Turn {
            self.turn(source).await
        }
    }
}
