//! `PUT /tailnet/{tailnet}/keys/{keyId}`: change an OAuth client. What is absent is empty from then on;
//! other kinds of keys cannot be changed.
//!
//! Source: official OpenAPI document, `setKey`.

use bowline_engine::credential::client::NewOAuthClient;
use bowline_model::credential::Kind;
use bowline_model::id::KeyId;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Key, read_scopes};
use crate::Api;
use crate::answer::Encoded;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

/// All of a key that can be changed. Members of other kinds of keys are ignored.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangedKey {
    /// `client`. It never changes; absent: as the key is.
    key_type: Option<String>,
    /// At most 50 letters, digits, spaces, `-` and `_`.
    description: Option<String>,
    /// What its access tokens may be given. One at least.
    scopes: Option<Vec<String>>,
    /// Tags of what it makes. Required with the scopes `devices:core` and `auth_keys`.
    tags: Option<Vec<String>>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<KeyId, (), Json<ChangedKey>>,
) -> Result<Encoded<Key<'static>>, ApiError> {
    let Json(body) = call.body;
    let old = api.engine.credential_to_change(&call.actor, call.path)?;
    let asked = body.key_type.filter(|name| !name.is_empty());
    if asked.is_some_and(|asked| asked != old.kind.name()) {
        return Err(ApiError::bad_request("keyType is not that of this key"));
    }
    let changed = match &old.kind {
        Kind::Client(_) => {
            let new = NewOAuthClient {
                scopes: read_scopes(body.scopes)?,
                tags: body.tags.unwrap_or_default(),
                description: body.description.unwrap_or_default(),
            };
            let engine = &api.engine;
            engine
                .change_oauth_client(&call.actor, call.path, new)
                .await?
        }
        Kind::Auth(_) | Kind::Api | Kind::Federated(_) => {
            return Err(ApiError::bad_request(
                "only OAuth clients and federated identities can be changed",
            ));
        }
    };
    Encoded::new(&Key::new(&changed, None, api.engine.now()))
}
