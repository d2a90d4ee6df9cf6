//! `POST /tailnet/{tailnet}/access-tokens`: make an API access token. Its secret is in this answer
//! only.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::Api;
use crate::answer::Encoded;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::{Integer, Json};
use crate::v2::keys::{Key, find_user};

/// An API access token to be made.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewAccessToken {
    /// Whose it is to be, by id or login name. Absent: the caller's.
    user: Option<String>,
    /// At most 50 letters, digits, spaces, `-` and `_`.
    description: Option<String>,
    /// 1 to 7776000. 0 and absent: 7776000.
    expiry_seconds: Option<Integer>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<NewAccessToken>>,
) -> Result<Encoded<Key<'static>>, ApiError> {
    let Json(body) = call.body;
    let user = find_user(&api, &call.actor, body.user.as_deref())?;
    let description = body.description.unwrap_or_default();
    let seconds = body.expiry_seconds.map(|Integer(seconds)| seconds);
    let (minted, credential) = api
        .engine
        .create_access_token(&call.actor, user, &description, seconds)
        .await?;
    Encoded::new(&Key::new(
        call.actor.tailnet,
        &credential,
        Some(&minted),
        api.engine.now(),
    ))
}
