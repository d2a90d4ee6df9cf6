//! `DELETE /tailnet/{tailnet}/ssh-checks/{code}`: refuse a session.

use crate::Api;
use crate::answer::Empty;
use crate::call::{Call, Code};
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call<Code>) -> Result<Json<Empty>, ApiError> {
    let Code(code) = call.path;
    api.engine
        .decide_ssh_check(&call.actor, &code, false)
        .await?;
    Ok(Json(Empty {}))
}
