//! `POST /tailnet/{tailnet}/acl/preview`.

use std::net::SocketAddr;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use bowline_policy::{Compiled, PreviewTarget};
use serde_json::{Value, json};

use super::{PolicyBody, beside, proposed, refused, snapshot};
use crate::Api;
use crate::caller::{Caller, PolicyRead};
use crate::error::ApiError;
use crate::extract::{json, pairs};

/// What is asked for: `type=user&previewFor=LOGIN` or `type=ipport&previewFor=IP:PORT`.
fn target(kind: &str, wanted: &str) -> Result<PreviewTarget, ApiError> {
    if wanted.is_empty() {
        return Err(ApiError::bad_request("previewFor is required"));
    }
    match kind {
        "user" => Ok(PreviewTarget::User(wanted.to_owned())),
        "ipport" => wanted
            .parse()
            .map(|address: SocketAddr| PreviewTarget::IpPort(address.ip(), address.port()))
            .map_err(|_| {
                ApiError::bad_request(format!(
                    "invalid previewFor {wanted:?}: expected an address and a port, like \
                     100.64.0.1:443 or [fd7a:115c:a1e0::1]:443"
                ))
            }),
        _ => Err(ApiError::bad_request("type must be user or ipport")),
    }
}

fn answer(net: &Compiled, target: &PreviewTarget, kind: &str, wanted: &str) -> Value {
    let matches = net.preview(target);
    let mut postures = net.posture_assertions();
    postures.retain(|name, _| matches.iter().any(|found| found.postures.contains(name)));
    let mut answer = json!({"matches": matches, "type": kind, "previewFor": wanted});
    if !postures.is_empty() {
        answer["postures"] = json!(postures);
    }
    answer
}

/// Lists the rules of a policy, or with an empty body of the one in force, that concern a user or
/// an address and port. Nothing is stored.
///
/// Source: official OpenAPI document, `previewRuleMatches`.
pub(crate) async fn handler(
    caller: Caller<PolicyRead>,
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    body: PolicyBody,
) -> Result<Response, ApiError> {
    let pairs = pairs(query.as_deref());
    let parameter = |name: &str| {
        let found = pairs.iter().find(|(key, _)| key == name);
        found.map_or_else(String::new, |(_, value)| value.clone())
    };
    let (kind, wanted) = (parameter("type"), parameter("previewFor"));
    let target = target(&kind, &wanted)?;
    let text = body.into_text()?;
    let snapshot = snapshot(&api, caller.actor.tailnet)?;
    let answer = beside(&api, move || {
        let net = snapshot.compiled();
        Ok(match text {
            Some(text) => {
                let policy = proposed(&snapshot, &text).map_err(refused)?;
                answer(&net.with_policy(&policy), &target, &kind, &wanted)
            }
            None => answer(net, &target, &kind, &wanted),
        })
    });
    json(&answer.await?)
}
