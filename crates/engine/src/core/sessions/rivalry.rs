//! Two machines with one state file: both prove the same keys, and each new stream of one ends the
//! other's. They are told from one machine that reconnects by what a dead connection cannot do: give
//! a sign of life after its stream was replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Weight of a stream on the very connection whose stream was replaced before: one client does not
/// go back to a connection that it has left for another.
const RETURNED: u32 = 2;
/// Weight of a replacement after which the connection that lost its stream was heard. A client that
/// changed its network may have left one behind that is still answered by its system.
const ALIVE: u32 = 1;
/// From this weight on it is said.
const NOTICED: u32 = 4;
/// What is further apart does not add up.
const FORGOTTEN: Duration = Duration::from_mins(2);
/// After so long without another replacement the machines have stopped. It is longer than the longest
/// turn and the longest pause of a client between two tries together.
const OVER: Duration = Duration::from_mins(3);
/// The first turn of a machine once they were noticed; each is twice as long as the one before.
const FIRST_TURN: Duration = Duration::from_secs(1);
/// The longest. Clients wait 120 seconds for the first message of a stream.
const LONGEST_TURN: Duration = Duration::from_secs(30);
/// A sign of life that soon after may have been on its way before.
const IN_FLIGHT: Duration = Duration::from_millis(500);

/// One connection, as far as the streams on it are told apart by it.
#[derive(Debug)]
pub struct Link {
    opened: Instant,
    /// Milliseconds after `opened` at which bytes came in last.
    heard: AtomicU64,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            opened: Instant::now(),
            heard: AtomicU64::new(0),
        }
    }
}

impl Link {
    /// Bytes came in on the connection.
    pub fn hear(&self) {
        let after = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.heard.store(after, Ordering::Relaxed);
    }

    /// When bytes came in last; at first, when it was opened.
    pub fn heard(&self) -> Instant {
        self.opened + Duration::from_millis(self.heard.load(Ordering::Relaxed))
    }
}

/// How the machines of one device take the stream from each other.
#[derive(Debug)]
pub(super) struct Rivalry {
    /// The connection whose open stream was replaced last, and when.
    replaced: Option<(Arc<Link>, Instant)>,
    weight: u32,
    /// When a stream was replaced last.
    at: Instant,
    is_noticed: bool,
    turn: Duration,
    /// Until when whoever has the stream now keeps it.
    turn_ends: Instant,
}

impl Rivalry {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            replaced: None,
            weight: 0,
            at: now,
            is_noticed: false,
            turn: FIRST_TURN,
            turn_ends: now,
        }
    }

    /// An open stream of `older` gives way to one of `newer`. Whether that shows for the first time
    /// that there are two machines.
    pub(super) fn replace(&mut self, older: Arc<Link>, newer: &Arc<Link>, now: Instant) -> bool {
        if now.duration_since(self.at) > FORGOTTEN && !self.is_noticed {
            self.weight = 0;
        }
        if let Some((replaced, at)) = &self.replaced {
            if Arc::ptr_eq(replaced, newer) {
                self.weight += RETURNED;
            } else if replaced.heard() > *at + IN_FLIGHT {
                self.weight += ALIVE;
            }
        }
        self.replaced = Some((older, now));
        self.at = now;
        let is_news = !self.is_noticed && self.weight >= NOTICED;
        self.is_noticed |= is_news;
        if self.is_noticed {
            self.turn_ends = now + self.turn;
            self.turn = (self.turn * 2).min(LONGEST_TURN);
        }
        is_news
    }

    /// Until when another machine than the one that has the stream waits.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.is_noticed.then_some(self.turn_ends)
    }

    pub(super) fn is_noticed(&self) -> bool {
        self.is_noticed
    }

    /// Whether nothing has happened for so long that it can be forgotten.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.at) >= OVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Two {
        rivalry: Rivalry,
        now: Instant,
    }

    impl Two {
        fn new() -> Self {
            let now = Instant::now();
            let rivalry = Rivalry::new(now);
            Self { rivalry, now }
        }

        fn replace(&mut self, older: &Arc<Link>, newer: &Arc<Link>) -> bool {
            self.now += Duration::from_secs(1);
            self.rivalry.replace(older.clone(), newer, self.now)
        }
    }

    fn hear_after(link: &Link, moment: Instant) {
        let after = (moment + Duration::from_secs(1)).duration_since(link.opened);
        let after = u64::try_from(after.as_millis()).unwrap();
        link.heard.store(after, Ordering::Relaxed);
    }

    #[test]
    fn two_connections_that_take_the_stream_from_each_other_are_noticed_once() {
        let mut two = Two::new();
        let (one, other) = (Arc::default(), Arc::default());
        assert!(!two.replace(&one, &other));
        assert!(!two.replace(&other, &one));
        assert!(two.replace(&one, &other));
        assert!(!two.replace(&other, &one));
        assert!(two.rivalry.is_noticed());
    }

    #[test]
    fn two_machines_that_connect_anew_each_time_are_noticed_too() {
        let mut two = Two::new();
        let mut older = Arc::<Link>::default();
        let noticed = (0..8).position(|_| {
            let newer = Arc::default();
            let is_news = two.replace(&older, &newer);
            // Whoever lost the stream is still there, and says so.
            hear_after(&older, two.now);
            older = newer;
            is_news
        });
        assert_eq!(noticed, Some(4));
    }

    #[test]
    fn one_machine_that_reconnects_is_never_taken_for_two() {
        // However often, and however fast: its old connections are dead.
        let mut two = Two::new();
        let mut older = Arc::<Link>::default();
        for _ in 0..1000 {
            let newer = Arc::default();
            assert!(!two.replace(&older, &newer));
            older = newer;
        }
        // A connection that it left behind may live on, now and then.
        let mut two = Two::new();
        for _ in 0..100 {
            let newer = Arc::default();
            assert!(!two.replace(&older, &newer));
            hear_after(&older, two.now);
            older = newer;
            two.now += FORGOTTEN;
        }
    }

    #[test]
    fn turns_get_longer_up_to_a_limit_and_end_with_the_rivalry() {
        let mut two = Two::new();
        let (one, other) = (Arc::default(), Arc::default());
        assert_eq!(two.rivalry.waits_until(), None);
        let mut turns = Vec::new();
        for _ in 0..5 {
            two.replace(&one, &other);
            two.replace(&other, &one);
            turns.extend(two.rivalry.waits_until().map(|until| until - two.now));
        }
        assert_eq!(turns, [2, 8, 30, 30].map(Duration::from_secs));
        assert!(!two.rivalry.is_over(two.now + OVER - Duration::from_secs(1)));
        assert!(two.rivalry.is_over(two.now + OVER));
    }
}
