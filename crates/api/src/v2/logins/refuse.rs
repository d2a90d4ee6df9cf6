//! `DELETE /tailnet/{tailnet}/logins/{code}`: refuse the device.

use crate::Api;
use crate::answer::Empty;
use crate::call::{Call, Code};
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call<Code>) -> Result<Json<Empty>, ApiError> {
    let Code(code) = call.path;
    api.engine.refuse_login(&call.actor, &code).await?;
    Ok(Json(Empty {}))
}
