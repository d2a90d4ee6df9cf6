//! `POST /tailnet/{tailnet}/acl/preview`.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use bowline_policy::{Budget, Compiled, Match, PreviewTarget};
use schemars::JsonSchema;
use serde::Serialize;

use super::{PolicyBody, beside, exhausted, proposed};
use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::{Call, FromQuery, Pairs};
use crate::error::ApiError;

/// What is asked for: `type=user&previewFor=LOGIN` or `type=ipport&previewFor=IP:PORT`.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Asked {
    /// What `previewFor` is.
    #[serde(rename = "type")]
    #[schemars(with = "Kind")]
    kind: String,
    /// A login name, or an address and port.
    preview_for: String,
    #[schemars(skip)]
    target: PreviewTarget,
}

/// Kinds of what a preview is for.
#[derive(JsonSchema)]
#[schemars(inline, rename_all = "lowercase")]
#[expect(dead_code, reason = "only its schema is used")]
enum Kind {
    User,
    IpPort,
}

impl FromQuery for Asked {
    fn read(pairs: Pairs) -> Result<Self, ApiError> {
        let parameter = |name: &str| {
            let found = pairs.iter().find(|(key, _)| key == name);
            found.map_or_else(String::new, |(_, value)| value.clone())
        };
        let (kind, preview_for) = (parameter("type"), parameter("previewFor"));
        let target = target(&kind, &preview_for)?;
        Ok(Self {
            kind,
            preview_for,
            target,
        })
    }
}

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

/// Rules that concern a user or an address.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PolicyPreview")]
pub(crate) struct Preview {
    matches: Vec<Match>,
    #[serde(rename = "type")]
    #[schemars(with = "Kind")]
    kind: String,
    preview_for: String,
    /// Assertions of the postures that the rules name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    postures: BTreeMap<String, Vec<String>>,
}

impl Shape for Preview {
    type Schema = Self;
}

fn answer(net: &Compiled, asked: Asked, budget: &Budget) -> Result<Preview, ApiError> {
    let matches = net
        .preview_within(&asked.target, budget)
        .map_err(exhausted)?;
    let mut postures = net.posture_assertions();
    let named: HashSet<&String> = matches.iter().flat_map(|found| &found.postures).collect();
    postures.retain(|name, _| named.contains(name));
    Ok(Preview {
        matches,
        kind: asked.kind,
        preview_for: asked.preview_for,
        postures,
    })
}

/// Lists the rules of a policy, or with an empty body of the one in force, that concern a user or
/// an address and port. Nothing is stored.
///
/// Source: official OpenAPI document, `previewRuleMatches`.
pub(crate) async fn handler(
    api: Api,
    call: Call<(), Asked, PolicyBody>,
) -> Result<Encoded<Preview>, ApiError> {
    let asked = call.query;
    let text = call.body.into_text()?;
    let tailnet = call.actor.tailnet;
    let snapshot = api.snapshot(tailnet)?;
    let own = api.clone();
    let answer = beside(&api, tailnet, move |budget| {
        let net = snapshot.compiled();
        match text {
            Some(text) => {
                let policy = proposed(&own, &snapshot, &text, budget)?;
                let net = net.with_policy_within(&policy, budget).map_err(exhausted)?;
                answer(&net, asked, budget)
            }
            None => answer(net, asked, budget),
        }
    });
    Encoded::new(&answer.await?)
}
