//! `GET /tailnet/{tailnet}/keys/{keyId}`: get a key, also one that is no longer valid.
//!
//! Source: official OpenAPI document, `getKey`.

use bowline_engine::Refusal;
use bowline_model::credential::Kind;

use super::Key;
use crate::Api;
use crate::answer::Encoded;
use crate::call::{Call, NamedKey};
use crate::error::ApiError;

pub(crate) async fn handler(
    api: Api,
    call: Call<NamedKey>,
) -> Result<Encoded<Key<'static>>, ApiError> {
    let now = api.engine.now();
    let id = call.path.of(&call.actor)?;
    match api.engine.credential(&call.actor, id) {
        // Access tokens of OAuth clients are in the database only.
        Err(Refusal::NotFound) => {
            let token = api.engine.access_token(&call.actor, id).await?;
            Encoded::new(&Key::of_access_token(&token, now))
        }
        // The official document knows no key of that type: SCIM keys are listed by themselves.
        Ok(credential) if matches!(credential.kind, Kind::Scim) => Err(ApiError::not_found()),
        found => Encoded::new(&Key::new(call.actor.tailnet, &*found?, None, now)),
    }
}
