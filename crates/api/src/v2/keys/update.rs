//! `PUT /tailnet/{tailnet}/keys/{keyId}`: change an OAuth client or a federated identity. There are
//! none yet, and other keys cannot be changed.
//!
//! Source: official OpenAPI document, `setKey`.

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
    api.engine.credential_to_change(&call.actor, call.path)?;
    Err(ApiError::bad_request(
        "only OAuth clients and federated identities can be changed",
    ))
}
