//! `GET /tailnet/{tailnet}/dns/split-dns`: get the nameservers of domains.
//!
//! Source: official OpenAPI document, `getSplitDns`.

use super::SplitDns;
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call) -> Result<Json<SplitDns>, ApiError> {
    let snapshot = api.snapshot(call.actor.tailnet)?;
    let dns = snapshot.dns();
    Ok(Json(SplitDns::of(dns)))
}
