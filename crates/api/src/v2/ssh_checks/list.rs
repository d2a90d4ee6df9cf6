//! `GET /tailnet/{tailnet}/ssh-checks`: list the sessions that wait to be confirmed.

use bowline_engine::SshCheck;
use bowline_model::id::DeviceId;
use bowline_netmap::snapshot::Snapshot;
use schemars::JsonSchema;
use serde::Serialize;

use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::Call;
use crate::error::ApiError;
use crate::lists::MANY;
use crate::text::{Time, time};

/// A session that waits.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SshCheck")]
pub(crate) struct CheckShown {
    code: String,
    created: Time,
    expires: Time,
    source: EndShown,
    destination: EndShown,
    /// The local user on the destination.
    ssh_user: String,
}

/// A device of a session.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SshEnd")]
struct EndShown {
    node_id: String,
    name: String,
    /// Login name of the user who registered it.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

fn end(id: DeviceId, snapshot: &Snapshot) -> Option<EndShown> {
    let device = &snapshot.device(id)?.device;
    let user = device.user.and_then(|id| snapshot.user(id));
    Some(EndShown {
        node_id: id.stable(),
        name: format!("{}.{}", device.name, snapshot.tailnet().dns_name),
        user: user.map(|user| user.login_name.clone()),
        tags: device.tags.iter().map(ToString::to_string).collect(),
    })
}

fn shown(check: SshCheck, snapshot: &Snapshot) -> Option<CheckShown> {
    let session = check.session;
    Some(CheckShown {
        code: check.code,
        created: time(check.since),
        expires: time(check.expires),
        source: end(session.source, snapshot)?,
        destination: end(session.target, snapshot)?,
        ssh_user: session.user,
    })
}

/// The SSH sessions that wait.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SshCheckList {
    ssh_checks: Vec<CheckShown>,
}

impl Shape for SshCheckList {
    type Schema = Self;
}

pub(crate) async fn handler(api: Api, call: Call) -> Result<Encoded<SshCheckList>, ApiError> {
    let tailnet = call.actor.tailnet;
    let snapshot = api.snapshot(tailnet)?;
    let engine = api.engine.clone();
    let work = move || {
        let checks = engine.ssh_checks(&call.actor)?.into_iter();
        // A device may have been deleted meanwhile.
        let ssh_checks = checks.filter_map(|check| shown(check, &snapshot));
        Encoded::new(&SshCheckList {
            ssh_checks: ssh_checks.collect(),
        })
    };
    api.lists.answer(tailnet, MANY, work).await
}
