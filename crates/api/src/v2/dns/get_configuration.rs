//! `GET /tailnet/{tailnet}/dns/configuration`: get the whole DNS configuration.
//!
//! Source: official OpenAPI document, `getDnsConfiguration`.

use super::Configuration;
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call) -> Result<Json<Configuration>, ApiError> {
    let snapshot = api.snapshot(call.actor.tailnet)?;
    let dns = snapshot.dns();
    Ok(Json(Configuration::of(dns)))
}
