//! Interactive logins: devices without an auth key that wait until somebody says whose they are.
//! Operations of ours: the official service lets people sign in.

use axum::extract::{Path, State};
use axum::response::Response;
use bowline_engine::Login;
use bowline_engine::login::logs_in_again;
use bowline_model::key::{MachineKey, NodeKey};
use bowline_netmap::snapshot::Snapshot;
use serde::{Deserialize, Serialize};

use crate::Api;
use crate::caller::{Caller, DevicesRead, DevicesWrite};
use crate::error::ApiError;
use crate::extract::{Json, empty_object, json};
use crate::lists::MANY;
use crate::text::time;
use crate::v2::device_json::{DeviceJson, Fields};

/// A login that waits.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LoginJson<'a> {
    code: &'a str,
    created: String,
    expires: String,
    hostname: &'a str,
    os: &'a str,
    client_version: &'a str,
    machine_key: MachineKey,
    node_key: NodeKey,
    /// Where the request came from, as far as the server can tell.
    source: std::net::IpAddr,
    /// Tags that the device asks for.
    tags: &'a [String],
    is_ephemeral: bool,
    /// The device of the tailnet that logs in again.
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<String>,
    /// Its user: whose it stays where nobody else is named. Absent for a device with tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

fn login_json<'a>(login: &'a Login, snapshot: &'a Snapshot) -> LoginJson<'a> {
    let request = &login.request;
    let facts = &request.facts;
    let again = logs_in_again(snapshot, request);
    let user = again
        .filter(|device| !device.is_tagged())
        .and_then(|device| snapshot.user(device.user?));
    LoginJson {
        code: &login.code,
        created: time(login.since),
        expires: time(login.expires),
        hostname: &facts.hostname,
        os: &facts.os,
        client_version: &facts.client_version,
        machine_key: request.machine_key,
        node_key: request.node_key,
        source: login.source,
        tags: &facts.request_tags,
        is_ephemeral: request.ephemeral,
        node_id: again.map(|device| device.id.stable()),
        user: user.map(|user| user.login_name.as_str()),
    }
}

/// `GET /tailnet/{tailnet}/logins`: list the logins that wait. Where the server has several
/// tailnets, those by which a device of this one logs in again; the operator sees all.
pub(crate) async fn list(
    caller: Caller<DevicesRead>,
    State(api): State<Api>,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    struct Answer<'a> {
        logins: Vec<LoginJson<'a>>,
    }
    let snapshot = api
        .engine
        .snapshot(caller.actor.tailnet)
        .ok_or_else(ApiError::not_found)?;
    let (engine, tailnet) = (api.engine.clone(), caller.actor.tailnet);
    let work = move || {
        let logins = engine.logins(&caller.actor)?;
        let logins = logins.iter().map(|login| login_json(login, &snapshot));
        json(&Answer {
            logins: logins.collect(),
        })
    };
    api.lists.answer(tailnet, MANY, work).await
}

/// Body of "confirm login".
#[derive(Deserialize)]
pub(crate) struct ConfirmBody {
    /// Login name or id of the user; absent: that of the device that logs in again. For a device
    /// that is new here, or has tags, it must be named.
    user: Option<String>,
    /// In place of the tags that the device asks for.
    tags: Option<Vec<String>>,
}

/// `POST /tailnet/{tailnet}/logins/{code}`: let the device in. Whoever has the code may: the
/// device belongs to no tailnet before.
pub(crate) async fn confirm(
    caller: Caller<DevicesWrite>,
    State(api): State<Api>,
    Path((_, code)): Path<(String, String)>,
    Json(body): Json<ConfirmBody>,
) -> Result<Response, ApiError> {
    let device = api
        .engine
        .confirm_login(&caller.actor, &code, body.user.as_deref(), body.tags)
        .await?;
    let (snapshot, entry) = api.engine.device(&caller.actor, device)?;
    json(&DeviceJson::new(&entry, &snapshot, Fields::Default))
}

/// `DELETE /tailnet/{tailnet}/logins/{code}`: refuse the device.
pub(crate) async fn refuse(
    caller: Caller<DevicesWrite>,
    State(api): State<Api>,
    Path((_, code)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    api.engine.refuse_login(&caller.actor, &code).await?;
    Ok(empty_object())
}
