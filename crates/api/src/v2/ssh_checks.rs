//! SSH sessions that wait to be confirmed. Operations of ours: the official service lets people
//! sign in.

use axum::extract::{Path, State};
use axum::response::Response;
use bowline_engine::{Actor, SshCheck};
use bowline_model::id::DeviceId;
use bowline_netmap::snapshot::Snapshot;
use serde::Serialize;

use crate::Api;
use crate::caller::{Caller, DevicesRead, SessionsConfirm, SessionsRefuse};
use crate::error::ApiError;
use crate::extract::{empty_object, json};
use crate::lists::MANY;
use crate::text::time;

/// A session that waits.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckJson {
    code: String,
    created: String,
    expires: String,
    source: EndJson,
    destination: EndJson,
    /// The local user on the destination.
    ssh_user: String,
}

/// A device of a session.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EndJson {
    node_id: String,
    name: String,
    /// Login name of the user who registered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

fn end_json(id: DeviceId, snapshot: &Snapshot) -> Option<EndJson> {
    let device = &snapshot.device(id)?.device;
    let user = device.user.and_then(|id| snapshot.user(id));
    Some(EndJson {
        node_id: id.stable(),
        name: format!("{}.{}", device.name, snapshot.tailnet().dns_name),
        user: user.map(|user| user.login_name.clone()),
        tags: device.tags.iter().map(ToString::to_string).collect(),
    })
}

fn check_json(check: SshCheck, snapshot: &Snapshot) -> Option<CheckJson> {
    let session = check.session;
    Some(CheckJson {
        code: check.code,
        created: time(check.since),
        expires: time(check.expires),
        source: end_json(session.source, snapshot)?,
        destination: end_json(session.target, snapshot)?,
        ssh_user: session.user,
    })
}

/// `GET /tailnet/{tailnet}/ssh-checks`: list the sessions that wait to be confirmed.
pub(crate) async fn list(
    caller: Caller<DevicesRead>,
    State(api): State<Api>,
) -> Result<Response, ApiError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Answer {
        ssh_checks: Vec<CheckJson>,
    }
    let snapshot = api
        .engine
        .snapshot(caller.actor.tailnet)
        .ok_or_else(ApiError::not_found)?;
    let (engine, tailnet) = (api.engine.clone(), caller.actor.tailnet);
    let work = move || {
        let checks = engine.ssh_checks(&caller.actor)?.into_iter();
        // A device may have been deleted meanwhile.
        let ssh_checks = checks.filter_map(|check| check_json(check, &snapshot));
        json(&Answer {
            ssh_checks: ssh_checks.collect(),
        })
    };
    api.lists.answer(tailnet, MANY, work).await
}

/// `POST /tailnet/{tailnet}/ssh-checks/{code}`: confirm a session: its own user, an administrator
/// who may act for them, or the operator.
pub(crate) async fn confirm(
    caller: Caller<SessionsConfirm>,
    State(api): State<Api>,
    Path((_, code)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    decide(&api, &caller.actor, &code, true).await
}

/// `DELETE /tailnet/{tailnet}/ssh-checks/{code}`: refuse a session.
pub(crate) async fn refuse(
    caller: Caller<SessionsRefuse>,
    State(api): State<Api>,
    Path((_, code)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    decide(&api, &caller.actor, &code, false).await
}

async fn decide(api: &Api, actor: &Actor, code: &str, accept: bool) -> Result<Response, ApiError> {
    api.engine.decide_ssh_check(actor, code, accept).await?;
    Ok(empty_object())
}
