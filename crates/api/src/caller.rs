//! Who calls, and whether they may.

use std::future::Future;
use std::net::IpAddr;

use axum::extract::RawPathParams;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_admission::{Origin, Shown};
use bowline_engine::{Actor, StoreFailure};
use bowline_model::id::{DeviceId, TailnetId, UserId, WebhookId};
use bowline_model::requirement::Requirement;
use bowline_model::secret::Presented;
use bowline_netmap::snapshot::Snapshot;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::Api;
use crate::call::param;
use crate::error::ApiError;

/// Header by which the operator names a tailnet where the path does not.
pub const OPERATOR_TAILNET: &str = "x-bowline-tailnet";

/// Who is let in, and as whom.
pub(crate) struct Admission<C> {
    /// Whose credential it is, also where they may not call the operation.
    pub(crate) known: Option<Actor>,
    /// The caller, where they meet the requirement.
    pub(crate) caller: Result<C, ApiError>,
}

impl<C> Admission<C> {
    fn refused(error: ApiError) -> Self {
        Self {
            known: None,
            caller: Err(error),
        }
    }
}

/// As whom a handler wants its callers.
pub(crate) trait Caller: Sized + Send {
    /// Finds out who calls, and checks the requirement of the operation.
    fn admit(
        parts: &mut Parts,
        params: &RawPathParams,
        api: &Api,
        requirement: Requirement,
    ) -> impl Future<Output = Admission<Self>> + Send;
}

/// In the tailnet that the path names.
impl Caller for Actor {
    async fn admit(
        parts: &mut Parts,
        params: &RawPathParams,
        api: &Api,
        requirement: Requirement,
    ) -> Admission<Self> {
        // A credential may have been revoked, and what is read changed, by whoever took over.
        if let Err(failure) = api.engine.ensure_current().await {
            return Admission::refused(failure.into());
        }
        if api.options.operator {
            let operator = operator(parts, params, api);
            return Admission {
                known: None,
                caller: operator.map(|operator| ready(operator, requirement, api)),
            };
        }
        let actor = match presented(parts, api).await {
            Ok(actor) => ready(actor, requirement, api),
            Err(error) => return Admission::refused(error),
        };
        if let Some(origin) = parts.extensions.get::<Origin>() {
            origin.ticket.establish(Shown::Credential);
        }
        // Whether another tailnet exists is not told.
        let is_foreign = param(params, "tailnet").is_some_and(|named| !is_own(api, &actor, named));
        let caller = if is_foreign {
            Err(ApiError::forbidden())
        } else {
            actor
                .check()
                .map(|()| actor.clone())
                .map_err(ApiError::from)
        };
        Admission {
            known: Some(actor),
            caller,
        }
    }
}

/// Somebody who acts in no tailnet: the operator of the server, or, where the operation needs nothing
/// at the door, anybody.
pub(crate) struct NoTailnet {
    /// Where the request came from; absent on the operator's socket.
    pub(crate) origin: Option<Origin>,
}

impl NoTailnet {
    fn of(parts: &Parts) -> Self {
        Self {
            origin: parts.extensions.get::<Origin>().cloned(),
        }
    }

    /// The address that the request came from.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.origin.as_ref().map(|origin| origin.address)
    }

    /// Says that the request showed a credential that is good.
    pub(crate) fn establish(&self) {
        if let Some(origin) = &self.origin {
            origin.ticket.establish(Shown::Credential);
        }
    }
}

impl Caller for NoTailnet {
    async fn admit(
        parts: &mut Parts,
        _: &RawPathParams,
        api: &Api,
        requirement: Requirement,
    ) -> Admission<Self> {
        if requirement == Requirement::ANYBODY || requirement == Requirement::SHOWS {
            return Admission {
                known: None,
                caller: Ok(Self::of(parts)),
            };
        }
        if let Err(failure) = api.engine.ensure_current().await {
            return Admission::refused(failure.into());
        }
        if api.options.operator {
            return Admission {
                known: None,
                caller: Ok(Self::of(parts)),
            };
        }
        match presented(parts, api).await {
            // No credential makes somebody the operator.
            Ok(actor) => Admission {
                known: Some(actor),
                caller: Err(ApiError::forbidden()),
            },
            Err(error) => Admission::refused(error),
        }
    }
}

/// The actor of a request: with what they are about to do, and, where they may change something, a
/// group for its events.
fn ready(actor: Actor, requirement: Requirement, api: &Api) -> Actor {
    let actor = actor.asking(requirement);
    if requirement.only_reads() {
        return actor;
    }
    actor.in_group(api.engine.new_group())
}

async fn presented(parts: &Parts, api: &Api) -> Result<Actor, ApiError> {
    let address = parts.extensions.get::<Origin>().map(|from| from.address);
    match token(parts) {
        Some(token) => authenticate(api, address, &token).await,
        // Nothing was guessed.
        None => Err(ApiError::unauthorized()),
    }
}

/// Who presents a token. One that the process knows costs no look-up, and only what is not good is
/// counted.
async fn authenticate(api: &Api, address: Option<IpAddr>, token: &str) -> Result<Actor, ApiError> {
    let shown = Presented::parse(token);
    if let Some(shown) = &shown {
        api.failures.check(address, Some(shown.id))?;
        if let Some(actor) = api.engine.authenticate_presented(shown) {
            return Ok(actor);
        }
    }
    // Whether it is good is known when its tailnet is served.
    if api.engine.is_token_out_of_order(token) {
        return Err(StoreFailure::WriterLost.into());
    }
    api.failures.check(address, None)?;
    if let Some(actor) = api.engine.authenticate_stored(token).await? {
        return Ok(actor);
    }
    Err(api.failures.failed(address, shown.map(|shown| shown.id)))
}

fn is_own(api: &Api, actor: &Actor, named: &str) -> bool {
    if named == "-" {
        return true;
    }
    // Not the decimal form: the API has never had it.
    if named.starts_with('T') && TailnetId::parse(named) == Some(actor.tailnet) {
        return true;
    }
    api.engine
        .snapshot(actor.tailnet)
        .is_some_and(|snapshot| snapshot.tailnet().name.eq_ignore_ascii_case(named))
}

/// The operator, in the tailnet that the request is about: the one that it names, the one of the
/// device or the user in its path, or the only one.
fn operator(parts: &Parts, params: &RawPathParams, api: &Api) -> Result<Actor, ApiError> {
    let named = param(params, "tailnet");
    let header = parts
        .headers
        .get(OPERATOR_TAILNET)
        .and_then(|value| value.to_str().ok());
    let named = named.filter(|name| *name != "-").or(header);
    if let Some(named) = named {
        return api
            .engine
            .find_tailnet(named)
            .map(Actor::operator)
            .ok_or_else(|| {
                if api.engine.is_tailnet_held_back(named) {
                    return ApiError::starting();
                }
                ApiError::new(
                    http::StatusCode::NOT_FOUND,
                    format!("there is no tailnet {named:?}"),
                )
            });
    }
    // Which tailnet is meant follows from all of them.
    if api.engine.has_starting() {
        return Err(ApiError::starting());
    }
    let tailnets = api.engine.tailnets();
    let that_has = |has: &dyn Fn(&Snapshot) -> bool| {
        let has = |id: &TailnetId| api.engine.snapshot(*id).is_some_and(|it| has(&it));
        let found = tailnets.iter().copied().find(has);
        found.map(Actor::operator).ok_or_else(ApiError::not_found)
    };
    if let Some(device) = param(params, "deviceId") {
        let id = DeviceId::parse(device).ok_or_else(ApiError::not_found)?;
        return that_has(&|snapshot| snapshot.device(id).is_some());
    }
    if let Some(user) = param(params, "userId") {
        let id = UserId::parse(user).ok_or_else(ApiError::not_found)?;
        return that_has(&|snapshot| snapshot.user(id).is_some());
    }
    if let Some(endpoint) = param(params, "endpointId") {
        let id = WebhookId::parse(endpoint).ok_or_else(ApiError::not_found)?;
        return that_has(&|snapshot| snapshot.webhook(id).is_some());
    }
    match tailnets.as_slice() {
        [only] => Ok(Actor::operator(*only)),
        [] => Err(ApiError::bad_request("there is no tailnet yet")),
        _ => Err(ApiError::bad_request(
            "there are several tailnets: name one",
        )),
    }
}

/// The token that a request presents: as the user name of Basic, or as Bearer. Of several headers
/// the last counts.
fn token(parts: &Parts) -> Option<String> {
    let header = parts
        .headers
        .get_all(AUTHORIZATION)
        .iter()
        .next_back()?
        .to_str()
        .ok()?;
    let (scheme, rest) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic") {
        let decoded = String::from_utf8(BASE64_STANDARD.decode(rest.trim()).ok()?).ok()?;
        return decoded.split_once(':').map(|(user, _)| user.to_owned());
    }
    None
}
