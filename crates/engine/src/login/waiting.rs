//! How logins and SSH sessions wait: what they are counted by, how many there may be and for how long.

use std::net::IpAddr;

use bowline_admission::{networks, share};
use bowline_model::id::{DeviceId, TailnetId};
use bowline_model::key::{MachineKey, NodeKey};
use bowline_model::kind::Kind;
use bowline_model::waiting::{
    CodeOf, ConfirmedSession, LoginRequest, SshSession, WaitingLogin, WaitingSession,
};
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::core::engine::Engine;
use crate::core::server::room::{Limits, Waits};
use crate::core::server::state::ServerState;
use crate::registration::Registration;

/// How long a login waits.
pub(super) const LOGIN_LIFETIME: SignedDuration = SignedDuration::from_hours(1);
/// How long a session waits. Clients give up after half an hour.
pub(super) const SESSION_LIFETIME: SignedDuration = SignedDuration::from_mins(20);
/// How long a confirmation is kept: the longest period that a policy can name (`checkPeriod`).
pub(super) const CONFIRMED_LIFETIME: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The most logins of one IPv4 address or IPv6 /64: an office may be behind it. A /56 has twice as
/// many, a /48 four times.
const LOGINS_PER_SOURCE: usize = 128;
/// The most logins.
const LOGINS: usize = 2048;
/// The most logins of one machine key. Clients have one; a few more for those that have begun anew.
const LOGINS_PER_MACHINE: usize = 4;
/// The most sessions.
const SESSIONS: usize = 16 * 1024;
/// The most sessions of one tailnet, so that others have room.
const SESSIONS_PER_TAILNET: usize = 1024;
/// The most sessions that go to one device.
const SESSIONS_PER_TARGET: usize = 64;
/// The most sessions between two devices: whoever may be any local user can ask for as many as they
/// like.
const SESSIONS_PER_PAIR: usize = 16;
/// The most confirmations.
const CONFIRMED: usize = 16 * 1024;

/// What logins are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum LoginGroup {
    Network(IpNet),
    Machine(MachineKey),
}

/// What sessions are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum SessionGroup {
    Tailnet(TailnetId),
    Target(TailnetId, DeviceId),
    Pair(TailnetId, DeviceId, DeviceId),
}

impl Waits for WaitingLogin {
    type Key = (MachineKey, NodeKey);
    type Group = LoginGroup;

    fn number(&self) -> u64 {
        self.id.get()
    }

    fn key(&self) -> Self::Key {
        (self.request.machine_key, self.request.node_key)
    }

    fn expires(&self) -> Timestamp {
        self.expires
    }

    fn is_decided(&self) -> bool {
        self.outcome.is_some()
    }

    fn groups(&self) -> Vec<LoginGroup> {
        networks(self.source).map(LoginGroup::Network).collect()
    }

    fn asker(&self) -> Option<LoginGroup> {
        Some(LoginGroup::Machine(self.request.machine_key))
    }

    fn code(&self) -> Option<CodeOf> {
        Some(CodeOf::Login(self.id))
    }
}

impl Waits for WaitingSession {
    type Key = SshSession;
    type Group = SessionGroup;

    fn number(&self) -> u64 {
        self.id.get()
    }

    fn key(&self) -> SshSession {
        self.session.clone()
    }

    fn expires(&self) -> Timestamp {
        self.expires
    }

    fn is_decided(&self) -> bool {
        self.decided.is_some()
    }

    fn groups(&self) -> Vec<SessionGroup> {
        let SshSession {
            tailnet,
            source,
            target,
            ..
        } = self.session;
        vec![
            SessionGroup::Tailnet(tailnet),
            SessionGroup::Target(tailnet, target),
            SessionGroup::Pair(tailnet, source, target),
        ]
    }

    fn asker(&self) -> Option<SessionGroup> {
        None
    }

    fn code(&self) -> Option<CodeOf> {
        Some(CodeOf::Session(self.id))
    }
}

impl Waits for ConfirmedSession {
    type Key = SshSession;
    /// Confirmations are made by people: the oldest of all goes.
    type Group = ();

    fn number(&self) -> u64 {
        self.id.get()
    }

    fn key(&self) -> SshSession {
        self.session.clone()
    }

    fn expires(&self) -> Timestamp {
        self.expires
    }

    fn is_decided(&self) -> bool {
        false
    }

    fn groups(&self) -> Vec<()> {
        Vec::new()
    }

    fn asker(&self) -> Option<()> {
        None
    }

    fn code(&self) -> Option<CodeOf> {
        None
    }
}

/// Limits of logins. `is_everybody`: behind the address may be everybody.
pub(super) fn logins(is_everybody: bool) -> Limits<LoginGroup> {
    let by_network = |group: &LoginGroup| match group {
        LoginGroup::Network(network) => share(network, LOGINS_PER_SOURCE),
        LoginGroup::Machine(_) => LOGINS_PER_MACHINE,
    };
    Limits {
        records: LOGINS,
        share: if is_everybody {
            |_| usize::MAX
        } else {
            by_network
        },
        asker: LOGINS_PER_MACHINE,
    }
}

/// Limits of sessions that wait.
pub(super) const SESSION_LIMITS: Limits<SessionGroup> = Limits {
    records: SESSIONS,
    share: |group| match group {
        SessionGroup::Tailnet(_) => SESSIONS_PER_TAILNET,
        SessionGroup::Target(..) => SESSIONS_PER_TARGET,
        SessionGroup::Pair(..) => SESSIONS_PER_PAIR,
    },
    asker: usize::MAX,
};

/// Limits of confirmations.
pub(super) const CONFIRMED_LIMITS: Limits<()> = Limits {
    records: CONFIRMED,
    share: |()| usize::MAX,
    asker: usize::MAX,
};

/// What is kept of a registration while it waits. It has no auth key.
pub(super) fn kept(request: Registration) -> LoginRequest {
    LoginRequest {
        machine_key: request.machine_key,
        node_key: request.node_key,
        old_node_key: request.old_node_key,
        lock_key: request.lock_key,
        expiry: request.expiry,
        ephemeral: request.ephemeral,
        capability_version: request.capability_version,
        hostinfo: request.hostinfo,
        facts: request.facts,
    }
}

/// The registration that waits.
pub(super) fn registration(request: &LoginRequest) -> Registration {
    Registration {
        machine_key: request.machine_key,
        node_key: request.node_key,
        old_node_key: request.old_node_key,
        lock_key: request.lock_key.clone(),
        auth_key: None,
        expiry: request.expiry,
        ephemeral: request.ephemeral,
        capability_version: request.capability_version,
        hostinfo: request.hostinfo.clone(),
        facts: request.facts.clone(),
    }
}

/// The server stops while somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopping;

/// Something that waits to be decided, and how to learn of that.
pub(super) struct Wait {
    pub(super) kind: Kind,
    pub(super) number: u64,
    pub(super) expires: Timestamp,
    /// Whether one at a time waits for it, and another takes their place.
    pub(super) alone: bool,
}

impl Engine {
    /// Begins to wait for something: from here on no decision about it is missed.
    pub(super) fn begin_to_wait(&self, wait: &Wait) -> Option<watch::Receiver<()>> {
        let server = &self.0.server;
        server.follow(wait.kind, wait.number, wait.alone)
    }

    /// Waits for a decision, which `read` finds; `None` when nobody decides in time, when what waits
    /// is forgotten, or when somebody else waits in this place.
    pub(super) async fn decision<O>(
        &self,
        wait: &Wait,
        mut changes: watch::Receiver<()>,
        read: impl Fn(&ServerState) -> Option<O>,
    ) -> Result<Option<O>, Stopping> {
        let stop = self.ending();
        loop {
            if let Some(decided) = read(&self.0.server.state()) {
                return Ok(Some(decided));
            }
            let left = wait.expires.duration_since(self.now());
            let Ok(left) = std::time::Duration::try_from(left) else {
                return Ok(None);
            };
            if left.is_zero() {
                return Ok(None);
            }
            tokio::select! {
                () = stop.cancelled() => return Err(Stopping),
                changed = changes.changed() => if changed.is_err() {
                    return Ok(None);
                },
                () = tokio::time::sleep(left) => {}
            }
        }
    }
}

/// The networks of an address, and whether everybody may be behind it: a proxy on this machine that
/// nobody trusts. It is one source among others, but one without a limit of its own.
pub(super) fn is_everybody(source: IpAddr, loopback_is_a_source: bool) -> bool {
    source.to_canonical().is_loopback() && !loopback_is_a_source
}
