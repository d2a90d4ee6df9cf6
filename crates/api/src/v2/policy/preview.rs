//! `POST /tailnet/{tailnet}/acl/preview`.

use std::collections::HashSet;
use std::net::SocketAddr;

use axum::extract::{RawQuery, State};
use axum::response::Response;
use bowline_policy::{Budget, Compiled, PreviewTarget};
use serde_json::{Value, json};

use super::{PolicyBody, beside, exhausted, proposed, snapshot};
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

fn answer(
    net: &Compiled,
    target: &PreviewTarget,
    (kind, wanted): (&str, &str),
    budget: &Budget,
) -> Result<Value, ApiError> {
    let matches = net.preview_within(target, budget).map_err(exhausted)?;
    let mut postures = net.posture_assertions();
    let named: HashSet<&String> = matches.iter().flat_map(|found| &found.postures).collect();
    postures.retain(|name, _| named.contains(name));
    let mut answer = json!({"matches": matches, "type": kind, "previewFor": wanted});
    if !postures.is_empty() {
        answer["postures"] = json!(postures);
    }
    Ok(answer)
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
    let tailnet = caller.actor.tailnet;
    let snapshot = snapshot(&api, tailnet)?;
    let own = api.clone();
    let answer = beside(&api, tailnet, move |budget| {
        let net = snapshot.compiled();
        let asked = (kind.as_str(), wanted.as_str());
        match text {
            Some(text) => {
                let policy = proposed(&own, &snapshot, &text, budget)?;
                let net = net.with_policy_within(&policy, budget).map_err(exhausted)?;
                answer(&net, &target, asked, budget)
            }
            None => answer(net, &target, asked, budget),
        }
    });
    json(&answer.await?)
}
