//! `PUT /tailnet/{tailnet}/dns/split-dns`: replace all domains.
//!
//! Source: official OpenAPI document, `setSplitDns`.

use bowline_engine::dns::DnsEdit;

use super::{SetSplitDns, SplitDns};
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<SetSplitDns>>,
) -> Result<Json<SplitDns>, ApiError> {
    let Json(body) = call.body;
    let edit = DnsEdit::ReplaceSplit(body.into_edit());
    let dns = api.engine.edit_dns(&call.actor, edit).await?;
    Ok(Json(SplitDns::of(&dns)))
}
