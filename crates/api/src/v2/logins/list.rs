//! `GET /tailnet/{tailnet}/logins`: list the logins that wait. Where the server has several
//! tailnets, those by which a device of this one logs in again; the operator sees all.

use bowline_engine::Login;
use bowline_engine::login::logs_in_again;
use bowline_model::key::{MachineKey, NodeKey};
use bowline_netmap::snapshot::Snapshot;
use schemars::JsonSchema;
use serde::Serialize;

use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::Call;
use crate::error::ApiError;
use crate::lists::MANY;
use crate::text::{Time, time};

/// A login that waits.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Login")]
pub(crate) struct LoginShown<'a> {
    code: &'a str,
    created: Time,
    expires: Time,
    hostname: &'a str,
    os: &'a str,
    client_version: &'a str,
    #[schemars(with = "String")]
    machine_key: MachineKey,
    #[schemars(with = "String")]
    node_key: NodeKey,
    /// Where the request came from, as far as the server can tell.
    source: std::net::IpAddr,
    /// Tags that the device asks for.
    tags: &'a [String],
    is_ephemeral: bool,
    /// The device of the tailnet that logs in again.
    #[serde(skip_serializing_if = "Option::is_none")]
    node_id: Option<String>,
    /// Its user, by login name: whose it stays where nobody else is named. Absent for a device with tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

fn shown<'a>(login: &'a Login, snapshot: &'a Snapshot) -> LoginShown<'a> {
    let request = &login.request;
    let facts = &request.facts;
    let again = logs_in_again(snapshot, request);
    let user = again
        .filter(|device| !device.is_tagged())
        .and_then(|device| snapshot.user(device.user?));
    LoginShown {
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

/// The logins that wait.
#[derive(Serialize, JsonSchema)]
pub(crate) struct LoginList<'a> {
    logins: Vec<LoginShown<'a>>,
}

impl Shape for LoginList<'_> {
    type Schema = LoginList<'static>;
}

pub(crate) async fn handler(api: Api, call: Call) -> Result<Encoded<LoginList<'static>>, ApiError> {
    let tailnet = call.actor.tailnet;
    let snapshot = api.snapshot(tailnet)?;
    let engine = api.engine.clone();
    let work = move || {
        let logins = engine.logins(&call.actor)?;
        let logins = logins.iter().map(|login| shown(login, &snapshot));
        Encoded::new(&LoginList {
            logins: logins.collect(),
        })
    };
    api.lists.answer(tailnet, MANY, work).await
}
