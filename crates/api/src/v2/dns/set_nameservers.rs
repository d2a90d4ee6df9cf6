//! `POST /tailnet/{tailnet}/dns/nameservers`: replace the global nameservers.
//!
//! Source: official OpenAPI document, `setDnsNameservers`.

use bowline_engine::dns::DnsEdit;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Nameservers, addresses};
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

/// The global nameservers as they are now, and whether that changed MagicDNS.
#[derive(Serialize, JsonSchema)]
pub(crate) struct NameserversSet {
    dns: Vec<String>,
    #[serde(rename = "magicDNS")]
    magic_dns: bool,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<Nameservers>>,
) -> Result<Json<NameserversSet>, ApiError> {
    let Json(body) = call.body;
    let list = body
        .dns
        .ok_or_else(|| ApiError::bad_request("dns is required: a list of nameservers"))?;
    let dns = api
        .engine
        .edit_dns(&call.actor, DnsEdit::Nameservers(list))
        .await?;
    Ok(Json(NameserversSet {
        dns: addresses(&dns.nameservers),
        magic_dns: dns.magic_dns,
    }))
}
