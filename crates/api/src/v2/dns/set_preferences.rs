//! `POST /tailnet/{tailnet}/dns/preferences`: turn MagicDNS on or off.
//!
//! Source: official OpenAPI document, `setDnsPreferences`.

use bowline_engine::dns::DnsEdit;

use super::Preferences;
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<Preferences>>,
) -> Result<Json<Preferences>, ApiError> {
    let Json(body) = call.body;
    let on = body
        .magic_dns
        .ok_or_else(|| ApiError::bad_request("magicDNS must be true or false"))?;
    let dns = api
        .engine
        .edit_dns(&call.actor, DnsEdit::MagicDns(on))
        .await?;
    Ok(Json(Preferences {
        magic_dns: Some(dns.magic_dns),
    }))
}
