//! `POST /tailnet/{tailnet}/dns/searchpaths`: replace the search paths.
//!
//! Source: official OpenAPI document, `setDnsSearchPaths`.

use bowline_engine::dns::DnsEdit;

use super::SearchPaths;
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<SearchPaths>>,
) -> Result<Json<SearchPaths>, ApiError> {
    let Json(body) = call.body;
    let list = body
        .search_paths
        .ok_or_else(|| ApiError::bad_request("searchPaths is required: a list of domains"))?;
    let dns = api
        .engine
        .edit_dns(&call.actor, DnsEdit::SearchPaths(list))
        .await?;
    Ok(Json(SearchPaths {
        search_paths: Some(dns.search_paths),
    }))
}
