//! Interactive logins: a device without an auth key waits until somebody says whose it is.
//!
//! Source: `docs/protocol/control-protocol.md`, sections 4.4 and 4.5. Until people can sign in, somebody with
//! the right to change devices confirms with the code that the device's user was shown. What waits
//! belongs to no tailnet yet: whoever confirms takes the device into theirs.

pub mod ssh_check;

use std::net::IpAddr;
use std::sync::Arc;

use bowline_admission::{networks, share};
use bowline_model::audit::Target;
use bowline_model::device::{Device, HostFacts};
use bowline_model::id::{DeviceId, TailnetId, UserId};
use bowline_model::key::{MachineKey, NodeKey};
use bowline_model::principal::Principal;
use bowline_model::user::Status;
use bowline_netmap::snapshot::Snapshot;
use bowline_store::Column;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};
use crate::core::waiting::{Entrant, Limits, Waiting, WaitingRoom};
use crate::device::tag;
use crate::people::acting;
use crate::registration::admit::{Admission, Asking, Continued, admit, continued, granted};
use crate::registration::{Registration, RegistrationRefused};

/// How long a login waits.
const LIFETIME: SignedDuration = SignedDuration::from_hours(1);
/// The most that wait at once.
const LIMIT: usize = 2048;
/// The most of them from one IPv4 address or IPv6 /64: an office may be behind it. A /56 has twice
/// as many, a /48 four times.
const LIMIT_PER_SOURCE: usize = 128;
/// The most of one machine key. Clients have one; a few more for those that have begun anew.
const LIMIT_PER_MACHINE: usize = 4;
/// The most bytes of tags that are kept for a device that has proved nothing.
const TAGS_LIMIT: usize = 16 * 1024;

/// Refusal of a login that is confirmed for nobody. The command line adds how to name a user.
pub const NAME_A_USER: &str = "the device is new here: name the user whose device it is to be";

pub(crate) type Logins = WaitingRoom<(MachineKey, NodeKey), Arc<Asked>, LoginState, CountedBy>;

/// What a device asked for, and from where. The same asked from elsewhere is the same.
#[derive(Debug)]
pub(crate) struct Asked {
    request: Arc<Registration>,
    source: IpAddr,
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        self.request == other.request
    }
}

/// What logins that wait are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CountedBy {
    Network(IpNet),
    Machine(MachineKey),
}

fn room() -> Logins {
    WaitingRoom::new(Limits {
        requests: LIMIT,
        lifetime: LIFETIME,
        one_follower: true,
    })
}

/// A login that somebody waits for.
#[derive(Debug, Clone)]
pub struct Login {
    /// Its code: 32 hexadecimal digits.
    pub code: String,
    /// What the device sent.
    pub request: Arc<Registration>,
    /// Where its request came from: the address that the server saw, or that a trusted proxy named.
    pub source: IpAddr,
    /// Since when it waits.
    pub since: Timestamp,
    /// Until when.
    pub expires: Timestamp,
    /// What became of it.
    pub state: LoginState,
}

/// What became of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginState {
    /// Nobody has decided.
    Waiting,
    /// The device is in.
    Confirmed {
        /// Its tailnet.
        tailnet: TailnetId,
        /// The device.
        device: DeviceId,
    },
    /// Somebody refused it.
    Refused,
}

/// What a device learns that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// It is in.
    In {
        /// Its tailnet.
        tailnet: TailnetId,
        /// The device.
        device: DeviceId,
    },
    /// Somebody refused it.
    Refused,
    /// There was no such login, or it waited too long: another has begun, of this code.
    Begun(String),
    /// Another request of the device waits in place of this one.
    Replaced,
    /// The server stops: the device asks again.
    Stopping,
}

impl From<Waiting<Arc<Asked>, LoginState>> for Login {
    fn from(waiting: Waiting<Arc<Asked>, LoginState>) -> Self {
        Self {
            code: waiting.code,
            request: waiting.subject.request.clone(),
            source: waiting.subject.source,
            since: waiting.since,
            expires: waiting.expires,
            state: waiting.outcome.unwrap_or(LoginState::Waiting),
        }
    }
}

/// Forgets logins whose time is over.
pub(crate) fn sweep(engine: &Engine) {
    engine.logins_room().sweep(engine.now());
}

impl Engine {
    fn logins_room(&self) -> Arc<Logins> {
        self.0.memory.get(room)
    }

    /// How many devices wait for somebody to say whose they are.
    pub fn logins_waiting(&self) -> usize {
        self.logins_room().count(self.now())
    }

    /// Whether a machine has a device in any tailnet, or waits for its login.
    pub fn knows_machine(&self, key: bowline_model::key::MachineKey) -> bool {
        self.has_device(key) || self.logins_room().counts(&CountedBy::Machine(key))
    }

    /// Begins an interactive login; its code. The same request asked again has the same code; one
    /// of the same device that asks for anything else ends the one before. `source`: where the
    /// request came from.
    ///
    /// # Errors
    /// When the device tells too much of itself to keep.
    pub fn begin_login(
        &self,
        request: Registration,
        source: IpAddr,
    ) -> Result<String, RegistrationRefused> {
        // What is kept for a device that has proved nothing is what its confirmer decides about and
        // its peers will see. It says the rest again with its first map request.
        let tags = request.facts.request_tags.iter().map(String::len);
        if tags.sum::<usize>() > TAGS_LIMIT {
            return Err(RegistrationRefused::HostinfoTooLarge);
        }
        let request = Registration {
            hostinfo: bowline_netmap::render::node::peers_part(&request.hostinfo),
            facts: HostFacts {
                advertised_routes: Vec::new(),
                ..request.facts
            },
            ..request
        };
        Ok(self.begin(Arc::new(request), source))
    }

    fn begin(&self, request: Arc<Registration>, source: IpAddr) -> String {
        // Behind a proxy on this machine that nobody trusts is everybody: one source among others,
        // but one without a limit of its own.
        let is_everybody =
            source.to_canonical().is_loopback() && !self.settings().loopback_is_a_source;
        let limit = |network: &IpNet| {
            if is_everybody {
                return usize::MAX;
            }
            share(network, LIMIT_PER_SOURCE)
        };
        let entrant = Entrant {
            key: (request.machine_key, request.node_key),
            path: networks(source)
                .map(|network| (CountedBy::Network(network), limit(&network)))
                .collect(),
            asker: Some((CountedBy::Machine(request.machine_key), LIMIT_PER_MACHINE)),
            subject: Arc::new(Asked { request, source }),
            shared: true,
        };
        self.logins_room()
            .enter(self.now(), &*self.0.random, entrant)
    }

    /// Waits until a login is decided about. Only the device that began it learns anything; where
    /// there is none of this code that is its own, it begins one.
    ///
    /// # Errors
    /// As [`Self::begin_login`], and when others took the place of the login for want of room.
    pub async fn follow_login(
        &self,
        code: &str,
        request: Registration,
        source: IpAddr,
    ) -> Result<Followed, RegistrationRefused> {
        let key = (request.machine_key, request.node_key);
        let followed = self
            .logins_room()
            .follow(self.now(), code, |own| *own == key);
        let Some(mut following) = followed else {
            return self.begin_login(request, source).map(Followed::Begun);
        };
        // For as long as it waits there is one copy of what it asked, in the room.
        drop(request);
        let outcome = self
            .outcome(&mut following.outcome, following.expires)
            .await;
        let expires = following.expires;
        let again = || {
            Ok(Followed::Begun(
                self.begin(following.subject.request.clone(), source),
            ))
        };
        match outcome {
            Ok(Some(LoginState::Confirmed { tailnet, device })) => {
                // It may have been deleted since: then it starts again.
                match self.find_device(&key.1) {
                    Some(_) => Ok(Followed::In { tailnet, device }),
                    None => again(),
                }
            }
            Ok(Some(LoginState::Refused)) => Ok(Followed::Refused),
            Ok(Some(LoginState::Waiting) | None) if self.logins_room().has(self.now(), &key) => {
                Ok(Followed::Replaced)
            }
            // Others took its place. To begin anew at once would take that of the next one, and so
            // round and round; its user is told instead.
            Ok(Some(LoginState::Waiting) | None) if self.now() < expires => {
                Err(RegistrationRefused::TooManyLogins)
            }
            Ok(Some(LoginState::Waiting) | None) => again(),
            Err(Stopping) => Ok(Followed::Stopping),
        }
    }

    /// Waits for a decision; `None` when nobody decides in time.
    pub(crate) async fn outcome<O: Clone>(
        &self,
        outcome: &mut tokio::sync::watch::Receiver<Option<O>>,
        expires: Timestamp,
    ) -> Result<Option<O>, Stopping> {
        let stop = self.ending();
        loop {
            if let Some(decided) = outcome.borrow_and_update().clone() {
                return Ok(Some(decided));
            }
            let left = expires.duration_since(self.now());
            let Ok(left) = std::time::Duration::try_from(left) else {
                return Ok(None);
            };
            if left.is_zero() {
                return Ok(None);
            }
            tokio::select! {
                () = stop.cancelled() => return Err(Stopping),
                changed = outcome.changed() => if changed.is_err() {
                    // Forgotten; what was decided just before still counts.
                    return Ok(outcome.borrow().clone());
                },
                () = tokio::time::sleep(left) => {}
            }
        }
    }

    /// A login by its code, for whoever was shown it.
    pub fn login(&self, code: &str) -> Option<Login> {
        self.logins_room().get(self.now(), code).map(Login::from)
    }

    /// Logins that wait, the oldest first. The operator sees all; others those by which a device of
    /// their tailnet logs in again, and all where there is no other tailnet: that a machine was
    /// here once does not make its next login ours. Whoever was told a code needs no list.
    ///
    /// # Errors
    /// `NotPermitted` without the role.
    pub fn logins(&self, actor: &Actor) -> Result<Vec<Login>, Refusal> {
        actor.check()?;
        let snapshot = self.snapshot(actor.tailnet).ok_or(Refusal::NotFound)?;
        let sees_all = matches!(actor.principal, Principal::Operator) || self.tailnets().len() == 1;
        let is_wanted =
            |asked: &Arc<Asked>| sees_all || logs_in_again(&snapshot, &asked.request).is_some();
        let waiting = self.logins_room().list(self.now(), is_wanted);
        Ok(waiting.into_iter().map(Login::from).collect())
    }

    /// Lets a device in that waits. `user` is a login name or an id. Absent: the user of the device
    /// that logs in again; a device that is new here is nobody's until somebody says whose. `tags`
    /// replace those that the device asks for.
    ///
    /// The tags that a device asks for itself must be the user's and the actor's to assign, others
    /// the actor's.
    ///
    /// # Errors
    /// `NotFound` when no such login waits; `NotPermitted` for a user whom the actor may not act for;
    /// `Invalid` for a user who is not there or may not act, for no user where one must be named, for
    /// tags that are not permitted, and for a device that another tailnet has by now: then it still waits.
    pub async fn confirm_login(
        &self,
        actor: &Actor,
        code: &str,
        user: Option<&str>,
        tags: Option<Vec<String>>,
    ) -> Result<DeviceId, Refusal> {
        actor.check()?;
        tag::check_count(tags.as_deref().unwrap_or_default())?;
        let waiting = self.login(code);
        let waiting = waiting.filter(|login| login.state == LoginState::Waiting);
        let waiting = waiting.ok_or(Refusal::NotFound)?;
        let user = self.who(actor, user, &waiting.request)?;
        // The draft knows this tailnet alone. Looked at afterwards as well: the device may come in
        // elsewhere at this moment, and then the database refuses it here.
        let node_key = waiting.request.node_key;
        let is_elsewhere = || {
            let known = self.find_device(&node_key);
            known.is_some_and(|(tailnet, _, _)| tailnet != actor.tailnet)
        };
        let elsewhere = || Refusal::invalid("the device came into another tailnet meanwhile");
        if is_elsewhere() {
            return Err(elsewhere());
        }
        let decided = self
            .decide_login(actor, code, move |draft, request| {
                let device = confirm(draft, request, user, tags.as_deref())?;
                let tailnet = draft.view().id();
                Ok(LoginState::Confirmed { tailnet, device })
            })
            .await;
        match decided {
            Ok(LoginState::Confirmed { device, .. }) => Ok(device),
            Ok(LoginState::Waiting | LoginState::Refused) => Err(Refusal::NotFound),
            Err(Refusal::Store(StoreFailure::Taken(Column::NodeKey))) => Err(elsewhere()),
            Err(refused) => Err(refused),
        }
    }

    /// Refuses a device that waits. It is told.
    ///
    /// # Errors
    /// `NotFound` when no such login waits.
    pub async fn refuse_login(&self, actor: &Actor, code: &str) -> Result<(), Refusal> {
        actor.check()?;
        let code_copy = code.to_owned();
        self.decide_login(actor, code, move |draft, request| {
            let target = Target {
                id: code_copy.clone(),
                name: request.facts.hostname.clone(),
                kind: "LOGIN".to_owned(),
                property: None,
            };
            let new = json!({"nodeKey": request.node_key});
            draft.audit("DENY", target, Value::Null, new);
            Ok(LoginState::Refused)
        })
        .await
        .map(|_| ())
    }

    /// Runs a decision to its end, whatever becomes of the caller: the device must learn of it.
    async fn decide_login<F>(
        &self,
        actor: &Actor,
        code: &str,
        mut decide: F,
    ) -> Result<LoginState, Refusal>
    where
        F: FnMut(&mut Draft<'_>, &Registration) -> Result<LoginState, Refusal> + Send + 'static,
    {
        let logins = self.logins_room();
        let request = logins.claim(self.now(), code).ok_or(Refusal::NotFound)?;
        let (engine, actor, code) = (self.clone(), actor.clone(), code.to_owned());
        let work = async move {
            let decided = engine
                .write(&actor, move |draft| decide(draft, &request.request))
                .await;
            let outcome = decided.as_ref().ok().copied();
            engine.logins_room().settle(engine.now(), &code, outcome);
            decided
        };
        self.0
            .tasks
            .spawn(work)
            .await
            .map_err(|_| Refusal::from(StoreFailure::Stopping))?
    }

    /// The user that a device is to belong to.
    fn who(
        &self,
        actor: &Actor,
        named: Option<&str>,
        request: &Registration,
    ) -> Result<UserId, Refusal> {
        let snapshot = self.snapshot(actor.tailnet).ok_or(Refusal::NotFound)?;
        let user = if let Some(named) = named {
            UserId::parse(named)
                .and_then(|id| snapshot.user(id))
                .or_else(|| snapshot.user_by_login(named))
                .ok_or_else(|| Refusal::invalid(format!("there is no user {named:?}")))?
        } else {
            // A tagged device belongs to its tags: to whom it would go back is not for us to say.
            logs_in_again(&snapshot, request)
                .filter(|device| !device.is_tagged())
                .and_then(|device| snapshot.user(device.user?))
                .ok_or_else(|| Refusal::invalid(NAME_A_USER))?
        };
        Ok(user.id)
    }
}

/// The device of a tailnet that logs in again: one of the same machine that has the old node key
/// which the request names. A known machine key alone is not enough.
pub fn logs_in_again<'a>(snapshot: &'a Snapshot, request: &Registration) -> Option<&'a Device> {
    let entry = snapshot.device_by_node_key(request.old_node_key.as_ref()?)?;
    (entry.device.machine_key == request.machine_key).then_some(&*entry.device)
}

/// The server stops while somebody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stopping;

fn confirm(
    draft: &mut Draft<'_>,
    request: &Registration,
    user: UserId,
    tags: Option<&[String]>,
) -> Result<DeviceId, Refusal> {
    let actor = draft.actor();
    acting::check(draft.view(), actor, user)?;
    let is_active = draft
        .view()
        .user(user)
        .is_some_and(|user| user.status == Status::Active);
    if !is_active {
        return Err(Refusal::invalid("the user is suspended or gone"));
    }
    let asked = &request.facts.request_tags;
    let tags = if let Some(tags) = tags {
        tag::permitted(draft.view(), actor, tags)?
    } else {
        // Who acts for somebody else gives no tags by it that they could not give.
        if !actor.is_user(user) {
            tag::permitted(draft.view(), actor, asked)?;
        }
        granted(draft, asked, &Asking::User(user)).map_err(refusal)?
    };
    let admission = Admission {
        user: Some(user),
        tags,
        ephemeral: false,
        preauthorized: false,
        auth_key: None,
        keeps_hostinfo: false,
        registered_by: acting::maker(actor),
    };
    let old = match continued(draft, request, &admission).map_err(refusal)? {
        // It came in by an auth key meanwhile.
        Continued::As(device) if device.node_key == request.node_key && !device.expired => {
            return Ok(device.id);
        }
        Continued::As(device) => Some(*device),
        Continued::New => None,
        Continued::SomebodyElse => {
            return Err(Refusal::invalid("the device belongs to another user"));
        }
    };
    Ok(admit(draft, request, &admission, old)?)
}

fn refusal(refused: RegistrationRefused) -> Refusal {
    match refused {
        RegistrationRefused::Store(failure) => failure.into(),
        other => Refusal::Invalid(other.to_string()),
    }
}
