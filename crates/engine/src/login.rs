//! Interactive logins: a device without an auth key waits until somebody says whose it is.
//!
//! Source: `docs/protocol/control-protocol.md`, sections 4.4 and 4.5. Until people can sign in, somebody with
//! the right to change devices confirms with the code that the device's user was shown. What waits
//! belongs to no tailnet yet: whoever confirms takes the device into theirs. It is a record of the
//! server, so that a restart changes nothing for anybody who waits.

pub mod ssh_check;
mod waiting;

use std::net::IpAddr;
use std::sync::Arc;

use bowline_model::audit::ActorRef;
use bowline_model::device::Device;
use bowline_model::event::Event;
use bowline_model::id::{DeviceId, TailnetId, UserId, WaitingLoginId};
use bowline_model::key::{MachineKey, NodeKey};
use bowline_model::kind::Stored as _;
use bowline_model::principal::Principal;
use bowline_model::record::Body;
use bowline_model::user::Status;
use bowline_model::waiting::{CodeOf, LoginOutcome, LoginRequest, WaitingLogin};
use bowline_netmap::snapshot::Snapshot;
use bowline_store::Column;
use jiff::Timestamp;

use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};
use crate::core::server::room::Waits as _;
use crate::core::server::state::ServerState;
use crate::device::tag;
use crate::people::acting;
use crate::registration::admit::{Admission, Asking, Continued, admit, continued, granted};
use crate::registration::{Registration, RegistrationRefused};
use waiting::{Stopping, Wait};

/// The most bytes of tags that are kept for a device that has proved nothing.
const TAGS_LIMIT: usize = 16 * 1024;

/// Refusal of a login that is confirmed for nobody. The command line adds how to name a user.
pub const NAME_A_USER: &str = "the device is new here: name the user whose device it is to be";

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

impl Engine {
    /// How many devices wait for somebody to say whose they are.
    pub fn logins_waiting(&self) -> usize {
        let state = self.0.server.state();
        let waiting = state.logins.all(self.now());
        waiting.filter(|login| login.outcome.is_none()).count()
    }

    /// Whether a machine has a device in any tailnet, or waits for its login.
    pub fn knows_machine(&self, key: MachineKey) -> bool {
        self.has_device(key) || {
            let state = self.0.server.state();
            let first = (key, NodeKey::MIN);
            let from = state.logins.keys_from(first, self.now());
            from.take_while(|login| login.request.machine_key == key)
                .any(|login| login.outcome.is_none())
        }
    }

    /// Begins an interactive login; its code. The same request asked again has the same code; one
    /// of the same device that asks for anything else ends the one before. `source`: where the
    /// request came from.
    ///
    /// It is stored when this returns: a restart of the server changes nothing for the device.
    ///
    /// # Errors
    /// When the device tells too much of itself to keep, or nothing can be stored.
    pub async fn begin_login(
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
        let mut request = waiting::kept(request);
        request.hostinfo = bowline_netmap::render::node::peers_part(&request.hostinfo);
        request.facts.advertised_routes.clear();
        self.begin(request, source).await
    }

    async fn begin(
        &self,
        request: LoginRequest,
        source: IpAddr,
    ) -> Result<String, RegistrationRefused> {
        let state = self.0.server.state();
        if let Some(login) = asked_before(&state, &request, self.now()) {
            return Ok(state.code(CodeOf::Login(login)).to_string());
        }
        let is_everybody = waiting::is_everybody(source, self.settings().loopback_is_a_source);
        let id: Result<_, StoreFailure> = self
            .write_server(ActorRef::System, move |draft| {
                let now = draft.now();
                if let Some(login) = asked_before(draft.view(), &request, now) {
                    return Ok(login);
                }
                // What somebody was shown under a code is what they decide about: one that asks for
                // anything else, or for the same after a decision, gets another.
                let key = (request.machine_key, request.node_key);
                let former = draft.view().logins.by_key(&key, now).map(|login| login.id);
                if let Some(former) = former {
                    draft.remove::<WaitingLogin>(former.get());
                }
                let id = WaitingLoginId::new(draft.new_id());
                let id = id.ok_or(StoreFailure::Defect("ran out of ids"))?;
                let login = WaitingLogin {
                    id,
                    request: request.clone(),
                    source,
                    since: now,
                    expires: now + waiting::LOGIN_LIFETIME,
                    outcome: None,
                };
                draft.enter(login, &waiting::logins(is_everybody));
                Ok(id)
            })
            .await;
        Ok(state.code(CodeOf::Login(id?)).to_string())
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
        let own = self.waiting_login(code);
        let own = own.filter(|login| login.record.key() == key);
        let follow = own.and_then(|login| {
            let wait = Wait {
                kind: WaitingLogin::KIND,
                number: login.record.id.get(),
                expires: login.record.expires,
                alone: true,
            };
            let changes = self.begin_to_wait(&wait)?;
            Some((login, wait, changes))
        });
        let Some((login, wait, changes)) = follow else {
            return self.begin_login(request, source).await.map(Followed::Begun);
        };
        // For as long as it waits there is one copy of what it asked, in the state.
        drop(request);
        let id = login.record.id;
        let decided = |state: &ServerState| {
            let login = state.logins.get(id, self.now())?;
            match self.login_state(&login.record) {
                LoginState::Waiting => None,
                decided => Some(decided),
            }
        };
        let outcome = self.decision(&wait, changes, decided).await;
        let again = async || {
            let begun = self.begin(login.record.request.clone(), source).await;
            begun.map(Followed::Begun)
        };
        match outcome {
            Ok(Some(LoginState::Confirmed { tailnet, device })) => {
                // It may have been deleted since: then it starts again.
                match self.find_device(&key.1) {
                    Some(_) => Ok(Followed::In { tailnet, device }),
                    None => again().await,
                }
            }
            Ok(Some(LoginState::Refused)) => Ok(Followed::Refused),
            Ok(Some(LoginState::Waiting) | None) => {
                let state = self.0.server.state();
                if state.logins.by_key(&key, self.now()).is_some() {
                    Ok(Followed::Replaced)
                } else if self.now() < wait.expires {
                    // Others took its place. To begin anew at once would take that of the next one,
                    // and so round and round; its user is told instead.
                    Err(RegistrationRefused::TooManyLogins)
                } else {
                    again().await
                }
            }
            Err(Stopping) => Ok(Followed::Stopping),
        }
    }

    fn waiting_login(&self, code: &str) -> Option<Arc<Body<WaitingLogin>>> {
        let state = self.0.server.state();
        state.logins.by_code(code, self.now()).cloned()
    }

    /// What became of a login. Where its device is in, somebody has confirmed it, although the server
    /// may have been stopped before it could note that.
    fn login_state(&self, login: &WaitingLogin) -> LoginState {
        match login.outcome {
            Some(LoginOutcome::Confirmed { tailnet, device }) => {
                LoginState::Confirmed { tailnet, device }
            }
            Some(LoginOutcome::Refused) => LoginState::Refused,
            None => match self.find_device(&login.request.node_key) {
                Some((tailnet, _, entry))
                    if entry.device.machine_key == login.request.machine_key
                        && !entry.device.expired =>
                {
                    let device = entry.device.id;
                    LoginState::Confirmed { tailnet, device }
                }
                _ => LoginState::Waiting,
            },
        }
    }

    fn shown(&self, state: &ServerState, login: &WaitingLogin) -> Login {
        Login {
            code: state.code(CodeOf::Login(login.id)).to_string(),
            request: Arc::new(waiting::registration(&login.request)),
            source: login.source,
            since: login.since,
            expires: login.expires,
            state: self.login_state(login),
        }
    }

    /// A login by its code, for whoever was shown it.
    pub fn login(&self, code: &str) -> Option<Login> {
        let state = self.0.server.state();
        let login = state.logins.by_code(code, self.now())?;
        Some(self.shown(&state, &login.record))
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
        let is_wanted = |login: &&WaitingLogin| {
            let request = &login.request;
            let old = || known_again(&snapshot, request.machine_key, request.old_node_key);
            (sees_all || old().is_some()) && self.login_state(login) == LoginState::Waiting
        };
        let state = self.0.server.state();
        let waiting = state.logins.all(self.now()).filter(is_wanted);
        Ok(waiting.map(|login| self.shown(&state, login)).collect())
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
        let waiting = self.waiting_login(code);
        let waiting = waiting.filter(|login| login.record.outcome.is_none());
        let request = &waiting.ok_or(Refusal::NotFound)?.record.request;
        let user = self.who(actor, user, &waiting::registration(request))?;
        // The draft knows this tailnet alone. Looked at afterwards as well: the device may come in
        // elsewhere at this moment, and then the database refuses it here.
        let node_key = request.node_key;
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
            draft.audit(Event::LoginRefused {
                code: code_copy.clone(),
                hostname: request.facts.hostname.clone(),
                node_key: request.node_key,
            });
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
        let login = self.waiting_login(code).ok_or(Refusal::NotFound)?;
        let id = login.record.id;
        let claim = self.0.server.claim(WaitingLogin::KIND, id.get());
        let claim = claim.ok_or(Refusal::NotFound)?;
        // Whoever decided before may have been done just now.
        let login = self.waiting_login(code).ok_or(Refusal::NotFound)?;
        if login.record.outcome.is_some() {
            return Err(Refusal::NotFound);
        }
        let (engine, actor) = (self.clone(), actor.clone());
        let work = async move {
            let _claim = claim;
            let request = waiting::registration(&login.record.request);
            let decided = engine
                .write(&actor, move |draft| decide(draft, &request))
                .await?;
            let noted = engine.note_outcome(id, decided).await;
            match decided {
                // The device is in, and whoever waits for it finds that.
                LoginState::Confirmed { .. } => {
                    if let Err(error) = noted {
                        tracing::debug!(%error, "could not note that a login was confirmed");
                        engine.0.server.wake(WaitingLogin::KIND, id.get());
                    }
                }
                LoginState::Refused | LoginState::Waiting => noted?,
            }
            Ok(decided)
        };
        self.0
            .tasks
            .spawn(work)
            .await
            .map_err(|_| Refusal::from(StoreFailure::Stopping))?
    }

    /// Notes what became of a login, for who asks again: the decision itself is in the tailnet.
    async fn note_outcome(
        &self,
        id: WaitingLoginId,
        decided: LoginState,
    ) -> Result<(), StoreFailure> {
        let outcome = match decided {
            LoginState::Confirmed { tailnet, device } => {
                Some(LoginOutcome::Confirmed { tailnet, device })
            }
            LoginState::Refused => Some(LoginOutcome::Refused),
            LoginState::Waiting => None,
        };
        self.write_server(ActorRef::System, move |draft| {
            // It may have gone meanwhile.
            draft.change::<WaitingLogin>(id, |login| WaitingLogin { outcome, ..login });
            Ok(())
        })
        .await
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

/// A request of the same device for the same that nobody has decided about.
fn asked_before(
    state: &ServerState,
    request: &LoginRequest,
    now: Timestamp,
) -> Option<WaitingLoginId> {
    let key = (request.machine_key, request.node_key);
    let login = state.logins.by_key(&key, now)?;
    (login.outcome.is_none() && login.request == *request).then_some(login.id)
}

/// The device of a tailnet that logs in again: one of the same machine that has the old node key
/// which the request names. A known machine key alone is not enough.
pub fn logs_in_again<'a>(snapshot: &'a Snapshot, request: &Registration) -> Option<&'a Device> {
    known_again(snapshot, request.machine_key, request.old_node_key)
}

fn known_again(
    snapshot: &Snapshot,
    machine_key: MachineKey,
    old_node_key: Option<NodeKey>,
) -> Option<&Device> {
    let entry = snapshot.device_by_node_key(old_node_key.as_ref()?)?;
    (entry.device.machine_key == machine_key).then_some(&*entry.device)
}

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
