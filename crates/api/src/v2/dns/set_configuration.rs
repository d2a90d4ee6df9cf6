//! `POST /tailnet/{tailnet}/dns/configuration`: replace everything; what is missing is off.
//!
//! Source: official OpenAPI document, `setDnsConfiguration`.

use bowline_engine::dns::DnsEdit;

use super::Configuration;
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<Configuration>>,
) -> Result<Json<Configuration>, ApiError> {
    let Json(body) = call.body;
    let edit = DnsEdit::Replace(body.into_dns());
    let dns = api.engine.edit_dns(&call.actor, edit).await?;
    Ok(Json(Configuration::of(&dns)))
}
