//! SSH sessions that the policy wants confirmed (`"action": "check"`).
//!
//! The device that a session goes to asks whether it may begin. A confirmation is for one local user
//! of it, from one other device, as long as both belong to whom they did. Confirmations are
//! remembered in memory for the rule's period; a restart forgets them, and people confirm once more. Until
//! people can sign in, the session's user confirms with the code that they were shown, or an
//! administrator who did not let the source in.
//!
//! Source: `docs/protocol/control-protocol.md`, section 8.3 (ts-go `ssh/tailssh/tailssh.go`).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bowline_model::id::{DeviceId, TailnetId, UserId};
use bowline_model::key::MachineKey;
use bowline_model::requirement::Need;
use bowline_model::right::Right;
use bowline_model::scope::Scope;
use bowline_model::tag::Tag;
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::{CheckPeriod, SshDecision};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};
use crate::core::waiting::{Entrant, Limits, Waiting, WaitingRoom};
use crate::device::target::device_target;
use crate::login::Stopping;
use crate::people::acting;

/// How long a session waits. Clients give up after half an hour.
const LIFETIME: SignedDuration = SignedDuration::from_mins(20);
/// The most that wait at once.
const LIMIT: usize = 16 * 1024;
/// The most of one tailnet, so that others have room.
const LIMIT_PER_TAILNET: usize = 1024;
/// The most that go to one device.
const LIMIT_PER_TARGET: usize = 64;
/// The most between two devices: whoever may be any local user can ask for as many as they like.
const LIMIT_PER_PAIR: usize = 16;
/// The most confirmations that are remembered.
const REMEMBERED: usize = 16 * 1024;

pub(crate) type Checks = WaitingRoom<SshSession, SshSession, bool, CountedBy>;

/// What sessions that wait are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CountedBy {
    Tailnet(TailnetId),
    Target(TailnetId, DeviceId),
    Pair(TailnetId, DeviceId, DeviceId),
}

fn room() -> Checks {
    WaitingRoom::new(Limits {
        requests: LIMIT,
        lifetime: LIFETIME,
        one_follower: false,
    })
}

fn entrant(session: SshSession, shared: bool) -> Entrant<SshSession, SshSession, CountedBy> {
    let SshSession {
        tailnet,
        source,
        target,
        ..
    } = session;
    Entrant {
        key: session.clone(),
        subject: session,
        shared,
        path: vec![
            (CountedBy::Tailnet(tailnet), LIMIT_PER_TAILNET),
            (CountedBy::Target(tailnet, target), LIMIT_PER_TARGET),
            (CountedBy::Pair(tailnet, source, target), LIMIT_PER_PAIR),
        ],
        asker: None,
    }
}

/// A session that is to begin.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SshSession {
    /// The tailnet of both devices.
    pub tailnet: TailnetId,
    /// Where it comes from.
    pub source: DeviceId,
    /// Where it goes to.
    pub target: DeviceId,
    /// The local user there.
    pub user: String,
}

/// A session that waits for somebody to confirm it.
#[derive(Debug, Clone)]
pub struct SshCheck {
    /// Its code: 32 hexadecimal digits.
    pub code: String,
    /// The session.
    pub session: SshSession,
    /// Since when it waits.
    pub since: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// What somebody decided: whether it may begin.
    pub decided: Option<bool>,
}

impl From<Waiting<SshSession, bool>> for SshCheck {
    fn from(waiting: Waiting<SshSession, bool>) -> Self {
        Self {
            code: waiting.code,
            session: waiting.subject,
            since: waiting.since,
            expires: waiting.expires,
            decided: waiting.outcome,
        }
    }
}

/// What a device is told about a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshAnswer {
    /// It may begin.
    Accept,
    /// It may not; a sentence for its user.
    Reject(&'static str),
    /// Somebody must confirm it, by this code; the device asks again with it.
    Ask(String),
}

/// What lets somebody refuse a session that they may not confirm: the right to change devices.
const MAY_REFUSE: Need = Need {
    scopes: &[Scope::DEVICES_CORE],
    right: Right::WriteDevices,
};

const NOT_PERMITTED: &str = "the tailnet's policy does not allow this session";
const REFUSED: &str = "the session was refused";
const TOO_MANY: &str = "too many sessions wait to be confirmed; try again later";
const TOO_LATE: &str = "nobody confirmed the session in time";

/// Sessions that were confirmed, with what both devices were then.
#[derive(Debug, Default)]
pub(crate) struct Confirmations(Mutex<HashMap<SshSession, Confirmation>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Confirmation {
    ends: Ends,
    at: Timestamp,
}

/// Whose both devices of a session are: the policy speaks of that, and so did who confirmed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ends {
    source: (Option<UserId>, BTreeSet<Tag>),
    target: (Option<UserId>, BTreeSet<Tag>),
}

impl Ends {
    /// `None` where one of the devices is gone.
    fn of(session: &SshSession, snapshot: &Snapshot) -> Option<Self> {
        let owner = |id| {
            let device = &snapshot.device(id)?.device;
            Some((device.user, device.tags.clone()))
        };
        Some(Self {
            source: owner(session.source)?,
            target: owner(session.target)?,
        })
    }
}

impl Confirmations {
    fn note(&self, session: SshSession, ends: Ends, at: Timestamp) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            let oldest = known.iter().min_by_key(|(_, confirmation)| confirmation.at);
            if let Some(oldest) = oldest.map(|(session, _)| session.clone()) {
                known.remove(&oldest);
            }
        }
        known.insert(session, Confirmation { ends, at });
    }

    fn holds(
        &self,
        session: &SshSession,
        ends: &Ends,
        period: CheckPeriod,
        now: Timestamp,
    ) -> bool {
        let CheckPeriod::Seconds(seconds) = period else {
            return false;
        };
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(session).is_some_and(|confirmation| {
            confirmation.ends == *ends
                && now.duration_since(confirmation.at) < SignedDuration::from_secs(seconds)
        })
    }
}

/// Forgets sessions whose time is over.
pub(crate) fn sweep(engine: &Engine) {
    engine.checks_room().sweep(engine.now());
}

impl Engine {
    fn checks_room(&self) -> Arc<Checks> {
        self.0.memory.get(room)
    }

    fn confirmations(&self) -> Arc<Confirmations> {
        self.0.memory.get(Confirmations::default)
    }

    /// The tailnet in which a machine has a device with this id.
    pub fn tailnet_of(&self, machine_key: MachineKey, device: DeviceId) -> Option<TailnetId> {
        let tailnet = self.0.directory.device(device)?;
        let snapshot = self.snapshot(tailnet)?;
        let entry = snapshot.device(device)?;
        (entry.device.machine_key == machine_key).then_some(tailnet)
    }

    /// What the policy says about a session now; a session between devices of which one is not
    /// there or not visible to the other is one that it does not allow.
    fn ssh_decision(&self, session: &SshSession) -> SshDecision {
        let Some(snapshot) = self.snapshot(session.tailnet) else {
            return SshDecision::Deny;
        };
        let is_good = |id| {
            snapshot
                .device(id)
                .is_some_and(|entry| entry.device.authorized && !entry.device.expired)
        };
        let (source, target) = (session.source.get(), session.target.get());
        let net = snapshot.compiled();
        if !is_good(session.source) || !is_good(session.target) || !net.visible(target, source) {
            return SshDecision::Deny;
        }
        net.ssh_decision(source, target, &session.user)
    }

    /// Whether a session may begin, as its target asks. With the code of a session that somebody
    /// must confirm it waits for that; `None` when the server stops.
    pub async fn ssh_answer(&self, session: SshSession, code: Option<&str>) -> Option<SshAnswer> {
        let period = match self.ssh_decision(&session) {
            SshDecision::Accept => return Some(SshAnswer::Accept),
            SshDecision::Deny => return Some(SshAnswer::Reject(NOT_PERMITTED)),
            SshDecision::Check(period) => period,
        };
        if self.is_confirmed(&session, period) {
            return Some(SshAnswer::Accept);
        }
        let checks = self.checks_room();
        let followed = code.and_then(|code| checks.follow(self.now(), code, |own| *own == session));
        let Some(mut following) = followed else {
            // Where each session is to be confirmed, no two have one code.
            let entrant = entrant(session, period != CheckPeriod::Always);
            let code = checks.enter(self.now(), &*self.0.random, entrant);
            return Some(SshAnswer::Ask(code));
        };
        match self
            .outcome(&mut following.outcome, following.expires)
            .await
        {
            Err(Stopping) => None,
            // Others took its place.
            Ok(None) if self.now() < following.expires => Some(SshAnswer::Reject(TOO_MANY)),
            Ok(None) => Some(SshAnswer::Reject(TOO_LATE)),
            Ok(Some(false)) => Some(SshAnswer::Reject(REFUSED)),
            // The policy may be another by now.
            Ok(Some(true)) => Some(match self.ssh_decision(&session) {
                SshDecision::Accept | SshDecision::Check(_) => SshAnswer::Accept,
                SshDecision::Deny => SshAnswer::Reject(NOT_PERMITTED),
            }),
        }
    }

    fn is_confirmed(&self, session: &SshSession, period: CheckPeriod) -> bool {
        let snapshot = self.snapshot(session.tailnet);
        let ends = snapshot.and_then(|snapshot| Ends::of(session, &snapshot));
        ends.is_some_and(|ends| {
            let confirmations = self.confirmations();
            confirmations.holds(session, &ends, period, self.now())
        })
    }

    /// A session by its code, for whoever was shown it.
    pub fn ssh_check(&self, code: &str) -> Option<SshCheck> {
        self.checks_room().get(self.now(), code).map(SshCheck::from)
    }

    /// Sessions of the actor's tailnet that wait, the oldest first.
    ///
    /// # Errors
    /// `NotPermitted` without the role.
    pub fn ssh_checks(&self, actor: &Actor) -> Result<Vec<SshCheck>, Refusal> {
        actor.check()?;
        let is_own = |session: &SshSession| session.tailnet == actor.tailnet;
        let waiting = self.checks_room().list(self.now(), is_own);
        Ok(waiting.into_iter().map(SshCheck::from).collect())
    }

    /// Confirms a session that waits, or refuses it.
    ///
    /// # Errors
    /// `NotPermitted` for an actor who may not confirm it (`acting::check_session`; refuse it may
    /// also whoever may change devices); `NotFound` when no such session waits in the actor's tailnet.
    pub async fn decide_ssh_check(
        &self,
        actor: &Actor,
        code: &str,
        accept: bool,
    ) -> Result<(), Refusal> {
        actor.check()?;
        let checks = self.checks_room();
        self.ssh_check(code)
            .filter(|check| check.session.tailnet == actor.tailnet)
            .ok_or(Refusal::NotFound)?;
        let session = checks.claim(self.now(), code).ok_or(Refusal::NotFound)?;
        let (engine, actor, code) = (self.clone(), actor.clone(), code.to_owned());
        let work = async move {
            let asked = session.clone();
            let decided = engine
                .write(&actor, move |draft| {
                    let view = draft.view();
                    let device = |id| view.device(id).map(|entry| entry.device.clone());
                    let (source, target) = (device(asked.source), device(asked.target));
                    let (Some(source), Some(target)) = (source, target) else {
                        return Err(Refusal::NotFound);
                    };
                    let by = draft.actor();
                    let may_refuse = !accept && by.may(&MAY_REFUSE);
                    if !may_refuse {
                        acting::check_session(view, by, &source)?;
                    }
                    let action = if accept { "APPROVE" } else { "DENY" };
                    let new = json!({
                        "source": source.id.stable(),
                        "sourceName": source.name,
                        "user": source.user.map(UserId::stable),
                        "maker": source.registered_by.map(UserId::stable),
                        "tags": source.tags,
                        "sshUser": asked.user,
                    });
                    draft.audit(
                        action,
                        device_target(&target, Some("SSH_SESSION")),
                        Value::Null,
                        new,
                    );
                    let ends = Ends::of(&asked, draft.view()).ok_or(Refusal::NotFound)?;
                    Ok((ends, draft.now()))
                })
                .await;
            let outcome = decided.is_ok().then_some(accept);
            let result = decided.map(|(ends, at)| {
                if accept {
                    engine.confirmations().note(session, ends, at);
                }
            });
            engine.checks_room().settle(engine.now(), &code, outcome);
            result
        };
        self.0
            .tasks
            .spawn(work)
            .await
            .map_err(|_| Refusal::from(StoreFailure::Stopping))?
    }
}
