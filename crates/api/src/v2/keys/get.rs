//! `GET /tailnet/{tailnet}/keys/{keyId}`: get a key, also one that is no longer valid.
//!
//! Source: official OpenAPI document, `getKey`.

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
    let credential = api.engine.credential(&call.actor, call.path)?;
    Encoded::new(&Key::new(&credential, None, api.engine.now()))
}
