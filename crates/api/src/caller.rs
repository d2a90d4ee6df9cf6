//! Who calls, and whether they may: the one place where an operation declares its scope.

use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};

use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_admission::{Origin, Shown};
use bowline_engine::credential::{CHANGE_KEYS, READ_KEYS, WRITE_KEYS};
use bowline_engine::login::ssh_check::REFUSE_SESSIONS;
use bowline_engine::settings::{CHANGED_SETTINGS, SHOWN_SETTINGS};
use bowline_engine::{Actor, StoreFailure};
use bowline_model::id::{DeviceId, TailnetId};
use bowline_model::requirement::Requirement;
use bowline_model::right::Right;
use bowline_model::scope::Scope;
use http::StatusCode;
use http::header::AUTHORIZATION;
use http::request::Parts;

use crate::Api;
use crate::error::{ApiError, NOT_PERMITTED};

/// Header by which the operator names a tailnet where the path does not.
pub const OPERATOR_TAILNET: &str = "x-bowline-tailnet";

/// What an operation needs.
pub(crate) trait Need: Send + Sync + 'static {
    /// What it needs.
    const REQUIREMENT: Requirement;
}

macro_rules! need {
    ($($(#[$doc:meta])* $name:ident = $requirement:expr;)*) => {
        $(
            $(#[$doc])*
            pub(crate) struct $name;
            impl Need for $name {
                const REQUIREMENT: Requirement = $requirement;
            }
        )*
    };
}

need! {
    /// Reads devices.
    DevicesRead = Requirement::all(&[Scope::DEVICES_CORE_READ], Right::ReadDevices);
    /// Changes devices.
    DevicesWrite = Requirement::all(&[Scope::DEVICES_CORE], Right::WriteDevices);
    /// Changes tags of devices.
    TagsWrite = Requirement::all(&[Scope::DEVICES_CORE], Right::SetDeviceTags);
    /// Reads routes of devices.
    RoutesRead = Requirement::all(&[Scope::DEVICES_ROUTES_READ], Right::ReadNetwork);
    /// Changes routes of devices.
    RoutesWrite = Requirement::all(&[Scope::DEVICES_ROUTES], Right::WriteNetwork);
    /// Reads posture attributes.
    AttributesRead = Requirement::all(&[Scope::DEVICES_POSTURE_ATTRIBUTES_READ], Right::PostureAttributes);
    /// Changes posture attributes.
    AttributesWrite = Requirement::all(&[Scope::DEVICES_POSTURE_ATTRIBUTES], Right::PostureAttributes);
    /// Makes auth keys.
    AuthKeysWrite = Requirement::all(&[Scope::AUTH_KEYS], Right::AuthKeys);
    /// Makes API access tokens. A token shows nobody but its user.
    TokensWrite = Requirement::all(&[Scope::API_ACCESS_TOKENS], Right::ApiCredentials).people_only();
    /// Lists keys.
    KeysList = Requirement::any(READ_KEYS);
    /// Reads a key.
    KeysRead = Requirement::any_or_own(READ_KEYS);
    /// Changes a key: an OAuth client or a federated identity.
    KeysChange = Requirement::any(CHANGE_KEYS);
    /// Revokes a key.
    KeysRevoke = Requirement::any_or_own(WRITE_KEYS);
    /// Confirms an SSH session: a person's word about a person.
    SessionsConfirm = Requirement::any_or_own(REFUSE_SESSIONS).people_only();
    /// Refuses an SSH session.
    SessionsRefuse = Requirement::any_or_own(REFUSE_SESSIONS);
    /// Reads the policy file.
    PolicyRead = Requirement::all(&[Scope::POLICY_FILE_READ], Right::ReadPolicyFile);
    /// Changes the policy file.
    PolicyWrite = Requirement::all(&[Scope::POLICY_FILE], Right::WritePolicyFile);
    /// Reads DNS settings.
    DnsRead = Requirement::all(&[Scope::DNS_READ], Right::ReadNetwork);
    /// Changes DNS settings.
    DnsWrite = Requirement::all(&[Scope::DNS], Right::WriteNetwork);
    /// Reads users.
    UsersRead = Requirement::all(&[Scope::USERS_READ], Right::ReadUsers).hidden();
    /// Changes users. Not hidden: of a change it is told that it was refused.
    UsersWrite = Requirement::all(&[Scope::USERS], Right::WriteUsers);
    /// Reads settings.
    SettingsRead = Requirement::shown(SHOWN_SETTINGS);
    /// Changes settings.
    SettingsWrite = Requirement::fields(CHANGED_SETTINGS);
}

/// A caller who has what the operation needs, in the tailnet that the path names.
pub(crate) struct Caller<N> {
    pub(crate) actor: Actor,
    need: PhantomData<fn() -> N>,
}

impl<N: Need> FromRequestParts<Api> for Caller<N> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        let actor = actor(parts, api).await?.asking(N::REQUIREMENT);
        actor.check()?;
        Ok(Self {
            actor,
            need: PhantomData,
        })
    }
}

/// Who calls, in the tailnet that the path names.
async fn actor(parts: &mut Parts, api: &Api) -> Result<Actor, ApiError> {
    let params = RawPathParams::from_request_parts(parts, api)
        .await
        .map_err(|_| ApiError::not_found())?;
    let param = |name: &str| {
        params
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    };
    // A credential may have been revoked, and what is read changed, by whoever took over.
    api.engine.ensure_current().await?;
    if api.options.operator {
        let actor = operator(parts, api, param("tailnet"), param("deviceId"))?;
        return Ok(actor.in_group(api.engine.new_group()));
    }
    let token = token(parts).ok_or_else(ApiError::unauthorized)?;
    let actor = authenticate(api, &token)?.in_group(api.engine.new_group());
    if let Some(origin) = parts.extensions.get::<Origin>() {
        origin.ticket.establish(Shown::Credential);
    }
    note(parts, &actor);
    // Whether another tailnet exists is not told.
    if param("tailnet").is_some_and(|named| !is_own(api, &actor, named)) {
        return Err(ApiError::forbidden());
    }
    Ok(actor)
}

/// The operator of the server, who belongs to no tailnet.
pub(crate) struct ServerOperator;

impl FromRequestParts<Api> for ServerOperator {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, ApiError> {
        api.engine.ensure_current().await?;
        if api.options.operator {
            return Ok(Self);
        }
        let token = token(parts).ok_or_else(ApiError::unauthorized)?;
        let actor = authenticate(api, &token)?;
        note(parts, &actor);
        Err(ApiError::forbidden())
    }
}

/// Who made a request, once that is known: for those outside the handler who ask afterwards.
#[derive(Debug, Clone, Default)]
pub(crate) struct Who(Arc<OnceLock<Actor>>);

impl Who {
    pub(crate) fn get(&self) -> Option<&Actor> {
        self.0.get()
    }
}

fn note(parts: &Parts, actor: &Actor) {
    if let Some(who) = parts.extensions.get::<Who>() {
        // Once: a request has one caller.
        let _ = who.0.set(actor.clone());
    }
}

/// Lets a change that is refused for lack of permission leave an audit event: `operation` names it.
pub(crate) async fn note_refused(
    State((api, operation)): State<(Api, &'static str)>,
    mut request: Request,
    next: Next,
) -> Response {
    let who = Who::default();
    request.extensions_mut().insert(who.clone());
    let asked = format!("{} {}", request.method(), request.uri().path());
    let response = next.run(request).await;
    if response.status() == StatusCode::FORBIDDEN
        && let Some(actor) = who.get()
    {
        api.engine
            .note_refused(actor, operation, &asked, NOT_PERMITTED)
            .await;
    }
    response
}

fn authenticate(api: &Api, token: &str) -> Result<Actor, ApiError> {
    if let Some(actor) = api.engine.authenticate(token) {
        return Ok(actor);
    }
    // Whether it is good is known when its tailnet is served.
    Err(if api.engine.is_token_out_of_order(token) {
        ApiError::from(StoreFailure::WriterLost)
    } else {
        ApiError::unauthorized()
    })
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

fn operator(
    parts: &Parts,
    api: &Api,
    named: Option<&str>,
    device: Option<&str>,
) -> Result<Actor, ApiError> {
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
    if let Some(device) = device {
        let id = DeviceId::parse(device).ok_or_else(ApiError::not_found)?;
        return tailnets
            .into_iter()
            .find(|tailnet| {
                api.engine
                    .snapshot(*tailnet)
                    .is_some_and(|snapshot| snapshot.device(id).is_some())
            })
            .map(Actor::operator)
            .ok_or_else(ApiError::not_found);
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
