//! `GET /tailnet/{tailnet}/keys`: list valid keys, the caller's own or all.
//!
//! Source: official OpenAPI document, `listTailnetKeys`.

use bowline_model::credential::Kind;
use schemars::JsonSchema;
use serde::Serialize;

use super::Key;
use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::{Call, FromQuery, Pairs};
use crate::error::ApiError;

/// Parameters of the list.
#[derive(JsonSchema)]
pub(crate) struct Whose {
    /// Whether to list everybody's keys.
    #[schemars(with = "Option<bool>")]
    all: bool,
}

impl FromQuery for Whose {
    fn read(pairs: Pairs) -> Result<Self, ApiError> {
        let all = pairs
            .iter()
            .any(|(key, value)| key == "all" && matches!(value.as_str(), "true" | "1"));
        Ok(Self { all })
    }
}

/// Keys.
#[derive(Serialize, JsonSchema)]
pub(crate) struct KeyList<'a> {
    keys: Vec<Key<'a>>,
}

impl Shape for KeyList<'_> {
    type Schema = KeyList<'static>;
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), Whose>,
) -> Result<Encoded<KeyList<'static>>, ApiError> {
    let tailnet = call.actor.tailnet;
    let count = api.snapshot(tailnet)?.credential_count();
    let engine = api.engine.clone();
    // They are in the database only, and are asked for with everything else alone.
    let tokens = if call.query.all {
        engine.access_tokens(&call.actor).await?
    } else {
        Vec::new()
    };
    let work = move || {
        let now = engine.now();
        let credentials = engine.credentials(&call.actor, call.query.all);
        let keys = credentials
            .iter()
            .filter(|credential| !matches!(credential.kind, Kind::Scim))
            .map(|credential| Key::new(tailnet, credential, None, now));
        let tokens = tokens.iter().map(|token| Key::of_access_token(token, now));
        Encoded::new(&KeyList {
            keys: keys.chain(tokens).collect(),
        })
    };
    api.lists.answer(tailnet, count, work).await
}
