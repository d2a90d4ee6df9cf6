//! `POST /tailnets`: make a tailnet with its owner and their first API access token.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Api;
use crate::call::Call;
use crate::caller::NoTailnet;
use crate::error::ApiError;
use crate::extract::Json;
use crate::text::{Time, time};

/// A tailnet to be made.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct NewTailnet {
    /// Login name of its owner.
    owner: String,
    /// The organisation's name. Absent: the owner's login name.
    name: Option<String>,
}

/// A tailnet that was made.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewTailnetMade {
    id: String,
    owner: String,
    user_id: String,
    /// API access token of the owner, shown here only.
    token: String,
    /// When the token expires.
    expires: Option<Time>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<NewTailnet>, NoTailnet>,
) -> Result<Json<NewTailnetMade>, ApiError> {
    let Json(body) = call.body;
    let made = api
        .engine
        .create_tailnet(&body.owner, body.name.as_deref())
        .await?;
    Ok(Json(NewTailnetMade {
        id: made.tailnet.stable(),
        owner: body.owner,
        user_id: made.owner.stable(),
        token: made.token.expose().to_owned(),
        expires: made.credential.expires.map(time),
    }))
}
