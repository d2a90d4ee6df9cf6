//! `GET /tailnet/{tailnet}/dns/preferences`: get the DNS preferences.
//!
//! Source: official OpenAPI document, `getDnsPreferences`.

use super::Preferences;
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call) -> Result<Json<Preferences>, ApiError> {
    let snapshot = api.snapshot(call.actor.tailnet)?;
    let dns = snapshot.dns();
    Ok(Json(Preferences {
        magic_dns: Some(dns.magic_dns),
    }))
}
