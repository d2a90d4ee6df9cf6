//! `GET /tailnet/{tailnet}/dns/nameservers`: list the global nameservers.
//!
//! Source: official OpenAPI document, `listDnsNameservers`.

use super::{Nameservers, addresses};
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call) -> Result<Json<Nameservers>, ApiError> {
    let snapshot = api.snapshot(call.actor.tailnet)?;
    let dns = snapshot.dns();
    Ok(Json(Nameservers {
        dns: Some(addresses(&dns.nameservers)),
    }))
}
