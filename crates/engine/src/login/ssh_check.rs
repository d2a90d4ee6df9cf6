//! SSH sessions that the policy wants confirmed (`"action": "check"`).
//!
//! The device that a session goes to asks whether it may begin. A confirmation is for one local user
//! of it, from one other device, as long as both belong to whom they did. What waits and what was
//! confirmed are records of the server, so that a restart changes nothing; a confirmation holds for
//! the rule's period. Until people can sign in, the session's user confirms with the code that they
//! were shown, or an administrator who did not let the source in.
//!
//! Source: `docs/protocol/control-protocol.md`, section 8.3 (ts-go `ssh/tailssh/tailssh.go`).

use std::sync::Arc;

use bowline_model::audit::ActorRef;
use bowline_model::event::{DeviceRef, Event, SshSessionRef};
use bowline_model::id::{ConfirmedSessionId, DeviceId, TailnetId, WaitingSessionId};
use bowline_model::key::MachineKey;
use bowline_model::kind::Stored as _;
use bowline_model::record::Body;
use bowline_model::requirement::Need;
use bowline_model::right::Right;
use bowline_model::scope::Scope;
pub use bowline_model::waiting::SshSession;
use bowline_model::waiting::{CodeOf, ConfirmedSession, DeviceOwner, SessionEnds, WaitingSession};
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::{CheckPeriod, SshDecision};
use jiff::{SignedDuration, Timestamp};

use super::waiting::{
    CONFIRMED_LIFETIME, CONFIRMED_LIMITS, SESSION_LIFETIME, SESSION_LIMITS, Stopping, Wait,
};
use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};
use crate::core::server::state::ServerState;
use crate::people::acting;

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

/// What lets somebody refuse a session that is not their own: the right to change devices. Who may
/// confirm one, `acting::check_session` says.
pub const REFUSE_SESSIONS: &[Need] = &[MAY_REFUSE];

const MAY_REFUSE: Need = Need {
    scopes: &[Scope::DEVICES_CORE],
    right: Right::WriteDevices,
};

const NOT_PERMITTED: &str = "the tailnet's policy does not allow this session";
const REFUSED: &str = "the session was refused";
const TOO_MANY: &str = "too many sessions wait to be confirmed; try again later";
const TOO_LATE: &str = "nobody confirmed the session in time";

/// Whose both devices of a session are; `None` where one of them is gone.
fn ends(session: &SshSession, snapshot: &Snapshot) -> Option<SessionEnds> {
    let owner = |id| {
        let device = &snapshot.device(id)?.device;
        Some(DeviceOwner {
            user: device.user,
            tags: device.tags.clone(),
        })
    };
    Some(SessionEnds {
        source: owner(session.source)?,
        target: owner(session.target)?,
    })
}

/// The session that waits under a key, where it may have one more who waits for it.
fn asked_before(
    state: &ServerState,
    session: &SshSession,
    now: Timestamp,
) -> Option<WaitingSessionId> {
    let waiting = state.sessions.by_key(session, now)?;
    waiting.decided.is_none().then_some(waiting.id)
}

impl Engine {
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
        let is_good = |id| snapshot.device(id).is_some_and(|entry| entry.sees_peers());
        let (source, target) = (session.source.get(), session.target.get());
        let net = snapshot.compiled();
        if !is_good(session.source) || !is_good(session.target) || !net.visible(target, source) {
            return SshDecision::Deny;
        }
        net.ssh_decision(source, target, &session.user)
    }

    /// Whether a session may begin, as its target asks. With the code of a session that somebody
    /// must confirm it waits for that; `None` when the server stops or can store nothing: the device
    /// asks again.
    pub async fn ssh_answer(&self, session: SshSession, code: Option<&str>) -> Option<SshAnswer> {
        let period = match self.ssh_decision(&session) {
            SshDecision::Accept => return Some(SshAnswer::Accept),
            SshDecision::Deny => return Some(SshAnswer::Reject(NOT_PERMITTED)),
            SshDecision::Check(period) => period,
        };
        if self.is_confirmed(&session, period) {
            return Some(SshAnswer::Accept);
        }
        let asked = code.and_then(|code| self.waiting_session(code));
        let asked = asked.filter(|waiting| waiting.record.session == session);
        let follow = asked.and_then(|waiting| {
            let wait = Wait {
                kind: WaitingSession::KIND,
                number: waiting.record.id.get(),
                expires: waiting.record.expires,
                alone: false,
            };
            Some((waiting.record.id, self.begin_to_wait(&wait)?, wait))
        });
        let Some((id, changes, wait)) = follow else {
            // Where each session is to be confirmed, no two have one code.
            let is_shared = period != CheckPeriod::Always;
            return match self.begin_check(session, is_shared).await {
                Ok(code) => Some(SshAnswer::Ask(code)),
                Err(error) => {
                    tracing::debug!(
                        error = error.with_causes(),
                        "could not store an SSH session"
                    );
                    None
                }
            };
        };
        let decided = |state: &ServerState| state.sessions.get(id, self.now())?.record.decided;
        match self.decision(&wait, changes, decided).await {
            Err(Stopping) => None,
            // Others took its place.
            Ok(None) if self.now() < wait.expires => Some(SshAnswer::Reject(TOO_MANY)),
            Ok(None) => Some(SshAnswer::Reject(TOO_LATE)),
            Ok(Some(false)) => Some(SshAnswer::Reject(REFUSED)),
            // The policy may be another by now.
            Ok(Some(true)) => Some(match self.ssh_decision(&session) {
                SshDecision::Accept | SshDecision::Check(_) => SshAnswer::Accept,
                SshDecision::Deny => SshAnswer::Reject(NOT_PERMITTED),
            }),
        }
    }

    /// Lets a session wait; its code. `is_shared`: the same session that is asked for again has the
    /// same code, while nobody has decided. It is stored when this returns.
    async fn begin_check(
        &self,
        session: SshSession,
        is_shared: bool,
    ) -> Result<String, StoreFailure> {
        let state = self.0.server.state();
        if let Some(id) = asked_before(&state, &session, self.now()).filter(|_| is_shared) {
            return Ok(state.code(CodeOf::Session(id)).to_string());
        }
        let id = self
            .write_server(ActorRef::System, move |draft| {
                let now = draft.now();
                let waiting = asked_before(draft.view(), &session, now);
                if let Some(id) = waiting.filter(|_| is_shared) {
                    return Ok(id);
                }
                let former = draft.view().sessions.by_key(&session, now);
                let decided = former.filter(|former| former.decided.is_some());
                if let Some(id) = decided.map(|former| former.id) {
                    draft.remove::<WaitingSession>(id.get());
                }
                let id = WaitingSessionId::new(draft.new_id());
                let id = id.ok_or(StoreFailure::Defect("ran out of ids"))?;
                let waiting = WaitingSession {
                    id,
                    session: session.clone(),
                    since: now,
                    expires: now + SESSION_LIFETIME,
                    decided: None,
                };
                draft.enter(waiting, &SESSION_LIMITS);
                Ok::<_, StoreFailure>(id)
            })
            .await?;
        Ok(state.code(CodeOf::Session(id)).to_string())
    }

    fn is_confirmed(&self, session: &SshSession, period: CheckPeriod) -> bool {
        let CheckPeriod::Seconds(seconds) = period else {
            return false;
        };
        let now = self.now();
        let state = self.0.server.state();
        let Some(confirmed) = state.confirmed.by_key(session, now) else {
            return false;
        };
        let snapshot = self.snapshot(session.tailnet);
        let ends = snapshot.and_then(|snapshot| ends(session, &snapshot));
        ends.is_some_and(|ends| ends == confirmed.ends)
            && now.duration_since(confirmed.at) < SignedDuration::from_secs(seconds)
    }

    fn waiting_session(&self, code: &str) -> Option<Arc<Body<WaitingSession>>> {
        let state = self.0.server.state();
        state.sessions.by_code(code, self.now()).cloned()
    }

    /// A session by its code, for whoever was shown it.
    pub fn ssh_check(&self, code: &str) -> Option<SshCheck> {
        let waiting = self.waiting_session(code)?;
        Some(shown(&self.0.server.state(), &waiting.record))
    }

    /// Sessions of the actor's tailnet that wait, the oldest first.
    ///
    /// # Errors
    /// `NotPermitted` without the role.
    pub fn ssh_checks(&self, actor: &Actor) -> Result<Vec<SshCheck>, Refusal> {
        actor.check()?;
        let state = self.0.server.state();
        let is_wanted = |waiting: &&WaitingSession| {
            waiting.session.tailnet == actor.tailnet && waiting.decided.is_none()
        };
        let waiting = state.sessions.all(self.now()).filter(is_wanted);
        Ok(waiting.map(|waiting| shown(&state, waiting)).collect())
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
        let find = || {
            let waiting = self.waiting_session(code)?;
            let is_open =
                waiting.record.session.tailnet == actor.tailnet && waiting.record.decided.is_none();
            is_open.then_some(waiting)
        };
        let id = find().ok_or(Refusal::NotFound)?.record.id;
        let claim = self.0.server.claim(WaitingSession::KIND, id.get());
        let claim = claim.ok_or(Refusal::NotFound)?;
        // Whoever decided before may have been done just now.
        let session = find().ok_or(Refusal::NotFound)?.record.session.clone();
        let (engine, actor) = (self.clone(), actor.clone());
        let work = async move {
            let _claim = claim;
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
                    draft.audit(Event::SshSessionDecided {
                        device: DeviceRef::of(&target),
                        session: Box::new(SshSessionRef {
                            source: DeviceRef::of(&source),
                            user: source.user,
                            registered_by: source.registered_by,
                            tags: source.tags.clone(),
                            ssh_user: asked.user.clone(),
                        }),
                        accepted: accept,
                    });
                    let ends = ends(&asked, draft.view()).ok_or(Refusal::NotFound)?;
                    Ok((ends, draft.now()))
                })
                .await?;
            // The session begins when both are durable: the event in the tailnet, and this.
            let (ends, at) = decided;
            engine.note_decision(id, session, accept, ends, at).await?;
            Ok(())
        };
        self.0
            .tasks
            .spawn(work)
            .await
            .map_err(|_| Refusal::from(StoreFailure::Stopping))?
    }

    async fn note_decision(
        &self,
        id: WaitingSessionId,
        session: SshSession,
        accept: bool,
        ends: SessionEnds,
        at: Timestamp,
    ) -> Result<(), StoreFailure> {
        self.write_server(ActorRef::System, move |draft| {
            // Others may have taken its place meanwhile.
            draft.change::<WaitingSession>(id, |waiting| WaitingSession {
                decided: Some(accept),
                ..waiting
            });
            if !accept {
                return Ok(());
            }
            let former = draft.view().confirmed.by_key(&session, draft.now());
            if let Some(id) = former.map(|former| former.id) {
                draft.remove::<ConfirmedSession>(id.get());
            }
            let id = ConfirmedSessionId::new(draft.new_id());
            let confirmed = ConfirmedSession {
                id: id.ok_or(StoreFailure::Defect("ran out of ids"))?,
                session: session.clone(),
                ends: ends.clone(),
                at,
                expires: at + CONFIRMED_LIFETIME,
            };
            draft.enter(confirmed, &CONFIRMED_LIMITS);
            Ok(())
        })
        .await
    }
}

fn shown(state: &ServerState, waiting: &WaitingSession) -> SshCheck {
    SshCheck {
        code: state.code(CodeOf::Session(waiting.id)).to_string(),
        session: waiting.session.clone(),
        since: waiting.since,
        expires: waiting.expires,
        decided: waiting.decided,
    }
}
