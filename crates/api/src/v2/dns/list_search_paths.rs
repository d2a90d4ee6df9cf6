//! `GET /tailnet/{tailnet}/dns/searchpaths`: list the search paths.
//!
//! Source: official OpenAPI document, `listDnsSearchPaths`.

use super::SearchPaths;
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;

pub(crate) async fn handler(api: Api, call: Call) -> Result<Json<SearchPaths>, ApiError> {
    let snapshot = api.snapshot(call.actor.tailnet)?;
    let dns = snapshot.dns();
    Ok(Json(SearchPaths {
        search_paths: Some(dns.search_paths.clone()),
    }))
}
