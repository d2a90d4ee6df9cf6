//! `GET /tailnet/{tailnet}/keys/{keyId}`: get a key, also one that is no longer valid.
//!
//! Source: official OpenAPI document, `getKey`.

use bowline_engine::Refusal;
use bowline_model::id::KeyId;

use super::Key;
use crate::Api;
use crate::answer::Encoded;
use crate::call::Call;
use crate::error::ApiError;

pub(crate) async fn handler(
    api: Api,
    call: Call<KeyId>,
) -> Result<Encoded<Key<'static>>, ApiError> {
    let now = api.engine.now();
    match api.engine.credential(&call.actor, call.path) {
        // Access tokens of OAuth clients are in the database only.
        Err(Refusal::NotFound) => {
            let token = api.engine.access_token(&call.actor, call.path).await?;
            Encoded::new(&Key::of_access_token(&token, now))
        }
        found => Encoded::new(&Key::new(&*found?, None, now)),
    }
}
