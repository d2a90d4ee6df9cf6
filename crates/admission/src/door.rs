//! Connections, from the moment that they are accepted.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bowline_model::key::MachineKey;
use ipnet::IpNet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::alarm::{Alarms, Condition};
use crate::bodies::{Bodies, BodyLimits};
use crate::connection::{Ended, Listener, Open, Refused, Shown, State};
use crate::crowd::Crowd;
use crate::source::{networks, share};
use crate::turns::Turns;

/// How often silent connections are looked for that have had their time.
const TICK: Duration = Duration::from_millis(500);

/// How many file descriptors the process may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptors {
    /// Their limit.
    pub limit: u64,
    /// How many are kept free of connections, for files and databases.
    pub reserve: u64,
}

/// How much there is room for.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most half-open connections at once. One more ends the oldest of the largest source.
    /// Default 4096, at least 1.
    pub half_open: usize,
    /// How long a half-open connection may be silent. Default 10 s.
    pub half_open_timeout: Duration,
    /// The most connections of one source, whatever they are: of one IPv4 address or IPv6 /64; a
    /// /56 has twice as many, a /48 four times. Default 32,768.
    pub per_source: usize,
    /// The most connections of one machine key. One more ends its oldest. Default 16.
    pub per_machine: usize,
    /// The descriptors of the process; `None` where nobody knows.
    pub descriptors: Option<Descriptors>,
    /// What request bodies may take.
    pub bodies: BodyLimits,
    /// How many handshakes are worked on at once. Default: one for each processor.
    pub handshakes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            half_open: 4096,
            half_open_timeout: Duration::from_secs(10),
            per_source: 32_768,
            per_machine: 16,
            descriptors: None,
            bodies: BodyLimits::default(),
            handshakes: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        }
    }
}

/// The admission layer of a server. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    inside: Mutex<Inside>,
    alarms: Alarms,
    refused: [AtomicU64; 2],
    ended: [AtomicU64; 3],
    turns: Turns,
    bodies: Bodies,
}

#[derive(Debug, Default)]
struct Inside {
    counter: u64,
    places: HashMap<u64, Place>,
    /// Half-open connections; their numbers say since when.
    half_open: Crowd<IpNet>,
    /// Those again, the one that is silent for longest first.
    silent: BTreeMap<u64, Silent>,
    /// Established connections that ask nothing and have shown a credential only.
    idle: Crowd<IpNet>,
    /// Those again, with their places.
    idle_places: HashMap<u64, u64>,
    by_source: HashMap<IpNet, usize>,
    by_machine: HashMap<MachineKey, VecDeque<u64>>,
}

#[derive(Debug)]
struct Silent {
    place: u64,
    since: Instant,
}

#[derive(Debug)]
struct Place {
    listener: Listener,
    source: IpAddr,
    /// Whether the source is a reverse proxy, behind which is everybody.
    is_proxy: bool,
    /// How many requests are the server's turn.
    busy: usize,
    shown: Shown,
    /// Its number among the half-open ones.
    silent: Option<u64>,
    /// Its number among those that make room after them.
    idle: Option<u64>,
    machine: Option<MachineKey>,
    end: CancellationToken,
}

impl Place {
    /// What it counts for among all connections: a proxy may have any number.
    fn counted(&self) -> impl Iterator<Item = IpNet> + Clone {
        let source = (!self.is_proxy).then_some(self.source);
        source.into_iter().flat_map(networks)
    }

    fn state(&self) -> State {
        if self.shown != Shown::Nothing {
            State::Established
        } else if self.busy > 0 {
            State::Busy
        } else {
            State::HalfOpen
        }
    }
}

impl Admission {
    /// With these limits. Somebody must run [`tend`](Self::tend).
    pub fn new(limits: Limits) -> Self {
        let limits = Limits {
            half_open: limits.half_open.max(1),
            per_machine: limits.per_machine.max(1),
            ..limits
        };
        let alarms = Alarms::default();
        Self(Arc::new(Inner {
            inside: Mutex::default(),
            refused: Default::default(),
            ended: Default::default(),
            turns: Turns::new(limits.handshakes),
            bodies: Bodies::new(limits.bodies.clone(), alarms.clone()),
            alarms,
            limits,
        }))
    }

    /// Without limits, for tests and for what no stranger reaches.
    pub fn unlimited() -> Self {
        Self::new(Limits {
            half_open: usize::MAX,
            half_open_timeout: Duration::MAX,
            per_source: usize::MAX,
            per_machine: usize::MAX,
            ..Limits::default()
        })
    }

    /// Whose turn a handshake is.
    pub fn turns(&self) -> &Turns {
        &self.0.turns
    }

    /// The budget of request bodies.
    pub fn bodies(&self) -> &Bodies {
        &self.0.bodies
    }

    /// Gives a connection that was just accepted its place, and never waits.
    ///
    /// `source`: where it comes from. `is_proxy`: whether that is a reverse proxy, behind which is
    /// everybody: until [`Ticket::attribute`] says whose the connection is, it counts for the proxy
    /// among the half-open ones only. `descriptor`: the number of its file descriptor. The system
    /// gives the smallest that is free, so that it says how many are in use.
    ///
    /// # Errors
    /// When it is to be closed at once.
    pub fn admit(
        &self,
        listener: Listener,
        source: IpAddr,
        is_proxy: bool,
        descriptor: Option<u64>,
    ) -> Result<Ticket, Refused> {
        let end = CancellationToken::new();
        let place = Place {
            listener,
            source: source.to_canonical(),
            is_proxy,
            busy: 0,
            shown: Shown::Nothing,
            silent: None,
            idle: None,
            machine: None,
            end: end.clone(),
        };
        let mut inside = self.inside();
        if let (Some(descriptors), Some(number)) = (self.0.limits.descriptors, descriptor) {
            let Descriptors { limit, reserve } = descriptors;
            if number >= limit.saturating_sub(reserve) {
                self.0
                    .alarms
                    .raise(Condition::Descriptors, Some(place.source));
                // One that nobody vouches for makes room; the last half of the reserve is for the
                // time until its socket is closed.
                let made_room =
                    self.end_first(&mut inside, None) || self.end_idle(&mut inside, None);
                if !made_room || number >= limit.saturating_sub(reserve / 2) {
                    return Err(self.refuse(Refused::Descriptors));
                }
            }
        }
        let most = self.0.limits.per_source;
        let full = place.counted().find(|network| {
            inside.by_source.get(network).copied().unwrap_or(0) >= share(network, most)
        });
        if let Some(network) = full {
            self.0.alarms.raise(Condition::Source, Some(place.source));
            let made_room = self.end_first(&mut inside, Some(&network))
                || self.end_idle(&mut inside, Some(&network));
            if !made_room {
                return Err(self.refuse(Refused::Source));
            }
        }
        inside.count(&place);
        inside.counter += 1;
        let number = inside.counter;
        inside.places.insert(number, place);
        self.settle(&mut inside, number);
        drop(inside);
        Ok(Ticket(Arc::new(Held {
            admission: self.clone(),
            number,
            end,
        })))
    }

    /// Notes that the system gave no descriptor for a connection: a half-open one makes room.
    pub fn out_of_descriptors(&self) {
        self.0.alarms.raise(Condition::Descriptors, None);
        self.refuse(Refused::Descriptors);
        let mut inside = self.inside();
        let _ = self.end_first(&mut inside, None) || self.end_idle(&mut inside, None);
    }

    /// The descriptors of the process, where they are known.
    pub fn descriptors(&self) -> Option<Descriptors> {
        self.0.limits.descriptors
    }

    /// Ends silent connections in time, and says in the log when a limit is no longer reached,
    /// until `stop`.
    pub async fn tend(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.sweep(Instant::now()),
                () = stop.cancelled() => return,
            }
        }
    }

    /// What [`tend`](Self::tend) does at one moment.
    pub fn sweep(&self, now: Instant) {
        let mut inside = self.inside();
        while let Some((number, silent)) = inside.silent.first_key_value() {
            if now.saturating_duration_since(silent.since) < self.0.limits.half_open_timeout {
                break;
            }
            let number = *number;
            self.end(&mut inside, number, Ended::Silent);
        }
        drop(inside);
        self.0.alarms.sweep(now);
    }

    /// Open connections by listener and state, all combinations.
    pub fn open(&self) -> Vec<Open> {
        let mut counts: HashMap<(Listener, State), usize> = HashMap::new();
        for place in self.inside().places.values() {
            *counts.entry((place.listener, place.state())).or_default() += 1;
        }
        let of = |listener, state| Open {
            listener,
            state,
            count: counts.get(&(listener, state)).copied().unwrap_or(0),
        };
        let listeners = Listener::ALL.into_iter();
        listeners
            .flat_map(|listener| State::ALL.map(|state| of(listener, state)))
            .collect()
    }

    /// Connections that were refused as they came, by reason.
    pub fn refused(&self) -> [(&'static str, u64); 2] {
        let count = |reason: Refused| self.0.refused[reason as usize].load(Ordering::Relaxed);
        [
            ("descriptors", count(Refused::Descriptors)),
            ("source", count(Refused::Source)),
        ]
    }

    /// Connections that were ended for others, or for their silence, by reason.
    pub fn ended(&self) -> [(&'static str, u64); 3] {
        Ended::ALL.map(|reason| {
            let count = self.0.ended[reason as usize].load(Ordering::Relaxed);
            (reason.name(), count)
        })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, reason: Refused) -> Refused {
        self.0.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
        reason
    }

    /// Ends the half-open connection that goes first; false where there is none.
    fn end_first(&self, inside: &mut Inside, within: Option<&IpNet>) -> bool {
        match inside.half_open.first_to_go(within) {
            Some(number) => {
                self.end(inside, number, Ended::Crowded);
                true
            }
            None => false,
        }
    }

    /// Ends the idle connection that goes first; false where there is none.
    fn end_idle(&self, inside: &mut Inside, within: Option<&IpNet>) -> bool {
        let Some(number) = inside.idle.first_to_go(within) else {
            return false;
        };
        inside.idle.remove(number);
        let place = inside.idle_places.remove(&number);
        if let Some(place) = place.and_then(|place| inside.places.get_mut(&place)) {
            place.idle = None;
            place.end.cancel();
            self.0.ended[Ended::Crowded as usize].fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    /// Ends a half-open connection. Whoever serves it sees that and drops its ticket.
    fn end(&self, inside: &mut Inside, number: u64, reason: Ended) {
        inside.half_open.remove(number);
        let Some(silent) = inside.silent.remove(&number) else {
            return;
        };
        if let Some(place) = inside.places.get_mut(&silent.place) {
            place.silent = None;
            place.end.cancel();
            self.0.ended[reason as usize].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Puts a connection among those of its state where it belongs there, and takes it out where it
    /// does not.
    fn settle(&self, inside: &mut Inside, number: u64) {
        let Some(place) = inside.places.get_mut(&number) else {
            return;
        };
        let is_idle =
            place.shown == Shown::Credential && place.busy == 0 && !place.end.is_cancelled();
        match (place.idle, is_idle) {
            (Some(_), true) | (None, false) => {}
            (Some(idle), false) => {
                place.idle = None;
                inside.idle.remove(idle);
                inside.idle_places.remove(&idle);
            }
            (None, true) => {
                inside.counter += 1;
                place.idle = Some(inside.counter);
                inside
                    .idle
                    .insert(inside.counter, networks(place.source), 1);
                inside.idle_places.insert(inside.counter, number);
            }
        }
        let belongs = place.state() == State::HalfOpen && !place.end.is_cancelled();
        match (place.silent, belongs) {
            (Some(_), true) | (None, false) => {}
            (Some(silent), false) => {
                place.silent = None;
                inside.silent.remove(&silent);
                inside.half_open.remove(silent);
            }
            (None, true) => {
                let path = networks(place.source);
                inside.counter += 1;
                let silent = inside.counter;
                place.silent = Some(silent);
                inside.half_open.insert(silent, path, 1);
                let entry = Silent {
                    place: number,
                    since: Instant::now(),
                };
                inside.silent.insert(silent, entry);
                // After it was counted: one more of a source is a reason for that source to lose.
                while inside.half_open.len() > self.0.limits.half_open {
                    let largest = inside.half_open.largest();
                    let source = largest.map(|(network, _)| network.addr());
                    self.0.alarms.raise(Condition::HalfOpen, source);
                    if !self.end_first(inside, None) {
                        break;
                    }
                }
            }
        }
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Place)) {
        let mut inside = self.inside();
        if let Some(place) = inside.places.get_mut(&number) {
            change(place);
            self.settle(&mut inside, number);
        }
    }

    fn leave(&self, number: u64) {
        let mut inside = self.inside();
        let Some(mut place) = inside.places.remove(&number) else {
            return;
        };
        inside.take_out(&mut place);
        inside.discount(&place);
        if let Some(key) = place.machine {
            inside.leave_machine(&key, number);
        }
    }
}

impl Inside {
    /// Takes a connection out of those of its state.
    fn take_out(&mut self, place: &mut Place) {
        if let Some(silent) = place.silent.take() {
            self.silent.remove(&silent);
            self.half_open.remove(silent);
        }
        if let Some(idle) = place.idle.take() {
            self.idle.remove(idle);
            self.idle_places.remove(&idle);
        }
    }

    fn count(&mut self, place: &Place) {
        for network in place.counted() {
            *self.by_source.entry(network).or_default() += 1;
        }
    }

    fn discount(&mut self, place: &Place) {
        for network in place.counted() {
            if let Some(count) = self.by_source.get_mut(&network) {
                *count -= 1;
                if *count == 0 {
                    self.by_source.remove(&network);
                }
            }
        }
    }

    fn leave_machine(&mut self, key: &MachineKey, number: u64) {
        if let Some(places) = self.by_machine.get_mut(key) {
            places.retain(|other| *other != number);
            if places.is_empty() {
                self.by_machine.remove(key);
            }
        }
    }
}

/// A connection's place. Clones are one place, which is given back when the last of them is
/// dropped.
#[derive(Debug, Clone)]
#[must_use = "dropping it gives the place back"]
pub struct Ticket(Arc<Held>);

#[derive(Debug)]
struct Held {
    admission: Admission,
    number: u64,
    end: CancellationToken,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.admission.leave(self.number);
    }
}

impl Ticket {
    /// The layer that gave it.
    pub fn admission(&self) -> &Admission {
        &self.0.admission
    }

    /// Waits until the connection has lost its place. Whoever serves it then closes it.
    pub async fn ended(&self) {
        self.0.end.cancelled().await;
    }

    /// Whether the connection has lost its place.
    pub fn has_ended(&self) -> bool {
        self.0.end.is_cancelled()
    }

    /// It is the server's turn until the guard is dropped: the connection is not half-open
    /// meanwhile, whatever the peer has shown.
    pub fn busy(&self) -> Busy {
        let Held {
            admission, number, ..
        } = &*self.0;
        admission.change(*number, |place| place.busy += 1);
        Busy(self.clone())
    }

    /// What the peer has shown. To be said again when that may have changed.
    pub fn establish(&self, shown: Shown) {
        let Held {
            admission, number, ..
        } = &*self.0;
        admission.change(*number, |place| place.shown = shown);
    }

    /// Whose connection it is, where a reverse proxy says so.
    pub fn attribute(&self, source: IpAddr) {
        let Held {
            admission, number, ..
        } = &*self.0;
        let source = source.to_canonical();
        let mut inside = admission.inside();
        let Some(mut place) = inside.places.remove(number) else {
            return;
        };
        if place.is_proxy || place.source != source {
            inside.take_out(&mut place);
            inside.discount(&place);
            place.source = source;
            place.is_proxy = false;
            inside.count(&place);
        }
        inside.places.insert(*number, place);
        admission.settle(&mut inside, *number);
    }

    /// The machine key that the peer has proved to hold: one connection too many of a key ends its
    /// oldest.
    pub fn identify(&self, key: MachineKey) {
        let Held {
            admission, number, ..
        } = &*self.0;
        let mut inside = admission.inside();
        let Some(place) = inside.places.get_mut(number) else {
            return;
        };
        let source = place.source;
        if let Some(before) = place.machine.replace(key) {
            inside.leave_machine(&before, *number);
        }
        let places = inside.by_machine.entry(key).or_default();
        places.push_back(*number);
        if places.len() > admission.0.limits.per_machine
            && let Some(oldest) = places.pop_front()
            && let Some(place) = inside.places.get_mut(&oldest)
        {
            place.end.cancel();
            admission.0.ended[Ended::Machine as usize].fetch_add(1, Ordering::Relaxed);
            admission.settle(&mut inside, oldest);
            admission.0.alarms.raise(Condition::Machine, Some(source));
        }
    }
}

/// Where a request comes from: an extension of it, for whoever counts or logs that.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The place of its connection.
    pub ticket: Ticket,
    /// The address of the client, as a trusted proxy says it.
    pub address: IpAddr,
}

/// The server's turn on a connection.
#[derive(Debug)]
#[must_use = "dropping it makes it the peer's turn"]
pub struct Busy(Ticket);

impl Drop for Busy {
    fn drop(&mut self) {
        let Held {
            admission, number, ..
        } = &*self.0.0;
        admission.change(*number, |place| place.busy -= 1);
    }
}

#[cfg(test)]
mod tests;
