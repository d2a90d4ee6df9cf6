//! Who has a map stream: the presence of devices, which no database knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bowline_model::id::DeviceId;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use rivalry::Rivalry;

mod rivalry;

pub use rivalry::Link;

/// Who has a map stream.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    counter: u64,
    /// How many of the sessions are open.
    open: usize,
    sessions: HashMap<DeviceId, Session>,
    /// Devices whose open stream was replaced by one of another connection lately.
    rivalries: HashMap<DeviceId, Rivalry>,
    /// Signs of life of devices without a stream, on their way to the snapshot.
    heard: HashMap<DeviceId, Timestamp>,
}

#[derive(Debug)]
struct Session {
    /// The connection that it is on.
    link: Arc<Link>,
    counter: u64,
    /// When the stream ended; `None` while it is open.
    ended: Option<Timestamp>,
    replaced: CancellationToken,
}

impl Sessions {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a session, in the place of an older one. Whether that shows for the first time that
    /// two machines use the device's key.
    pub(crate) fn open(
        &self,
        device: DeviceId,
        link: &Arc<Link>,
    ) -> (u64, CancellationToken, bool) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.counter += 1;
        let counter = state.counter;
        let replaced = CancellationToken::new();
        let session = Session {
            link: link.clone(),
            counter,
            ended: None,
            replaced: replaced.clone(),
        };
        let mut is_news = false;
        match state.sessions.insert(device, session) {
            Some(older) => {
                state.open += usize::from(older.ended.is_some());
                older.replaced.cancel();
                if older.ended.is_none() && !Arc::ptr_eq(&older.link, link) {
                    let now = Instant::now();
                    let rivalry = state.rivalries.entry(device);
                    let rivalry = rivalry.or_insert_with(|| Rivalry::new(now));
                    is_news = rivalry.replace(older.link, link, now);
                }
            }
            None => state.open += 1,
        }
        (counter, replaced, is_news)
    }

    /// Until when a machine waits for its turn, where another one has the device's stream.
    pub(crate) fn waits_until(&self, device: DeviceId, link: &Arc<Link>) -> Option<Instant> {
        let state = self.state();
        let until = state.rivalries.get(&device)?.waits_until()?;
        let session = state.sessions.get(&device)?;
        let is_taken = session.ended.is_none() && !Arc::ptr_eq(&session.link, link);
        (is_taken && Instant::now() < until).then_some(until)
    }

    /// Forgets rivalries that are over; the devices of those that were noticed.
    pub(crate) fn end_rivalries(&self) -> Vec<DeviceId> {
        let now = Instant::now();
        let mut ended = Vec::new();
        self.state().rivalries.retain(|device, rivalry| {
            let is_over = rivalry.is_over(now);
            if is_over && rivalry.is_noticed() {
                ended.push(*device);
            }
            !is_over
        });
        ended
    }

    /// How many devices are used by two machines.
    pub(crate) fn rivals(&self) -> usize {
        let state = self.state();
        let rivalries = state.rivalries.values();
        rivalries.filter(|rivalry| rivalry.is_noticed()).count()
    }

    pub(crate) fn hear(&self, device: DeviceId, now: Timestamp) {
        self.state().heard.insert(device, now);
    }

    /// A sign of life is in the snapshot.
    pub(crate) fn is_noted(&self, device: DeviceId, at: Timestamp) {
        let heard = &mut self.state().heard;
        if heard.get(&device) == Some(&at) {
            heard.remove(&device);
        }
    }

    /// Whether a device gave a sign of life within a time, which may not be in the snapshot yet.
    pub(crate) fn heard_since(&self, device: DeviceId, now: Timestamp, within: Duration) -> bool {
        let heard = self.state().heard.get(&device).copied();
        heard.is_some_and(|at| {
            SignedDuration::try_from(within).is_ok_and(|within| now.duration_since(at) < within)
        })
    }

    /// Whether this was the device's newest stream.
    pub(crate) fn close(&self, device: DeviceId, counter: u64, now: Timestamp) -> bool {
        let mut state = self.state();
        match state.sessions.get_mut(&device) {
            Some(session) if session.counter == counter && session.ended.is_none() => {
                session.ended = Some(now);
                state.open -= 1;
                true
            }
            _ => false,
        }
    }

    /// Some device with an open stream.
    pub(crate) fn any_open(&self) -> Option<DeviceId> {
        let state = self.state();
        let mut open = state
            .sessions
            .iter()
            .filter(|(_, session)| session.ended.is_none());
        open.next().map(|(device, _)| *device)
    }

    /// Whether a device has an open stream, or had one a moment ago.
    pub(crate) fn is_expected(&self, device: DeviceId) -> bool {
        self.state().sessions.contains_key(&device)
    }

    /// Whether a device has an open stream.
    pub(crate) fn is_open(&self, device: DeviceId) -> bool {
        self.state()
            .sessions
            .get(&device)
            .is_some_and(|session| session.ended.is_none())
    }

    /// Removes the session if no newer stream was opened; returns when it ended.
    pub(crate) fn forget(&self, device: DeviceId, counter: u64) -> Option<Timestamp> {
        let mut state = self.state();
        let ended = state
            .sessions
            .get(&device)
            .filter(|session| session.counter == counter)?
            .ended?;
        state.sessions.remove(&device);
        Some(ended)
    }

    /// How many streams are open.
    pub(crate) fn open_count(&self) -> usize {
        self.state().open
    }
}
