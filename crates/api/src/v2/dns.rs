//! DNS settings.

use axum::extract::State;
use axum::response::Response;
use bowline_engine::dns::DnsEdit;
use bowline_model::dns::{Dns, Resolver};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::Api;
use crate::caller::{Caller, DnsRead, DnsWrite, Need};
use crate::error::ApiError;
use crate::extract::{Json, Members, Object, json, null_is_empty};

fn current<N: Need>(api: &Api, caller: &Caller<N>) -> Result<std::sync::Arc<Dns>, ApiError> {
    let snapshot = api
        .engine
        .snapshot(caller.actor.tailnet)
        .ok_or_else(ApiError::not_found)?;
    Ok(snapshot.dns().clone())
}

fn addresses(list: &[Resolver]) -> Vec<&str> {
    list.iter()
        .map(|resolver| resolver.address.as_str())
        .collect()
}

fn split_json(dns: &Dns) -> IndexMap<&str, Vec<&str>> {
    dns.split
        .iter()
        .map(|(domain, list)| (domain.as_str(), addresses(list)))
        .collect()
}

/// `GET /tailnet/{tailnet}/dns/nameservers`. Exactly one key: clients read a map of lists.
///
/// Source: official OpenAPI document, `listDnsNameservers`.
pub(crate) async fn nameservers(
    caller: Caller<DnsRead>,
    State(api): State<Api>,
) -> Result<Response, ApiError> {
    json(&json!({"dns": addresses(&current(&api, &caller)?.nameservers)}))
}

/// Body of "set nameservers".
#[derive(Deserialize)]
pub(crate) struct NameserversBody {
    #[serde(default, deserialize_with = "null_is_empty")]
    dns: Option<Vec<String>>,
}

/// `POST /tailnet/{tailnet}/dns/nameservers`: replace the global nameservers.
///
/// Source: official OpenAPI document, `setDnsNameservers`.
pub(crate) async fn set_nameservers(
    caller: Caller<DnsWrite>,
    State(api): State<Api>,
    Json(body): Json<NameserversBody>,
) -> Result<Response, ApiError> {
    let list = body
        .dns
        .ok_or_else(|| ApiError::bad_request("dns is required: a list of nameservers"))?;
    let dns = api
        .engine
        .edit_dns(&caller.actor, DnsEdit::Nameservers(list))
        .await?;
    json(&json!({"dns": addresses(&dns.nameservers), "magicDNS": dns.magic_dns}))
}

/// `GET /tailnet/{tailnet}/dns/preferences`.
///
/// Source: official OpenAPI document, `getDnsPreferences`.
pub(crate) async fn preferences(
    caller: Caller<DnsRead>,
    State(api): State<Api>,
) -> Result<Response, ApiError> {
    json(&json!({"magicDNS": current(&api, &caller)?.magic_dns}))
}

/// Body of "set preferences".
#[derive(Deserialize)]
pub(crate) struct PreferencesBody {
    #[serde(rename = "magicDNS")]
    magic_dns: Option<bool>,
}

/// `POST /tailnet/{tailnet}/dns/preferences`: turn MagicDNS on or off.
///
/// Source: official OpenAPI document, `setDnsPreferences`.
pub(crate) async fn set_preferences(
    caller: Caller<DnsWrite>,
    State(api): State<Api>,
    Json(body): Json<PreferencesBody>,
) -> Result<Response, ApiError> {
    let on = body
        .magic_dns
        .ok_or_else(|| ApiError::bad_request("magicDNS must be true or false"))?;
    let dns = api
        .engine
        .edit_dns(&caller.actor, DnsEdit::MagicDns(on))
        .await?;
    json(&json!({"magicDNS": dns.magic_dns}))
}

/// `GET /tailnet/{tailnet}/dns/searchpaths`.
///
/// Source: official OpenAPI document, `listDnsSearchPaths`.
pub(crate) async fn search_paths(
    caller: Caller<DnsRead>,
    State(api): State<Api>,
) -> Result<Response, ApiError> {
    json(&json!({"searchPaths": current(&api, &caller)?.search_paths}))
}

/// Body of "set search paths".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SearchPathsBody {
    #[serde(default, deserialize_with = "null_is_empty")]
    search_paths: Option<Vec<String>>,
}

/// `POST /tailnet/{tailnet}/dns/searchpaths`: replace the search paths.
///
/// Source: official OpenAPI document, `setDnsSearchPaths`.
pub(crate) async fn set_search_paths(
    caller: Caller<DnsWrite>,
    State(api): State<Api>,
    Json(body): Json<SearchPathsBody>,
) -> Result<Response, ApiError> {
    let list = body
        .search_paths
        .ok_or_else(|| ApiError::bad_request("searchPaths is required: a list of domains"))?;
    let dns = api
        .engine
        .edit_dns(&caller.actor, DnsEdit::SearchPaths(list))
        .await?;
    json(&json!({"searchPaths": dns.search_paths}))
}

/// `GET /tailnet/{tailnet}/dns/split-dns`.
///
/// Source: official OpenAPI document, `getSplitDns`.
pub(crate) async fn split(
    caller: Caller<DnsRead>,
    State(api): State<Api>,
) -> Result<Response, ApiError> {
    json(&split_json(&*current(&api, &caller)?))
}

/// Body of the changes of split DNS: nameservers by domain.
pub(crate) type SplitBody = Members<Option<Vec<String>>>;

pub(crate) fn split_edit(body: SplitBody) -> IndexMap<String, Vec<String>> {
    body.0
        .into_iter()
        .map(|(domain, list)| (domain, list.unwrap_or_default()))
        .collect()
}

/// `PATCH /tailnet/{tailnet}/dns/split-dns`: change some domains; `null` and `[]` remove one.
///
/// Source: official OpenAPI document, `updateSplitDns`.
pub(crate) async fn merge_split(
    caller: Caller<DnsWrite>,
    State(api): State<Api>,
    Json(body): Json<SplitBody>,
) -> Result<Response, ApiError> {
    let dns = api
        .engine
        .edit_dns(&caller.actor, DnsEdit::MergeSplit(split_edit(body)))
        .await?;
    json(&split_json(&dns))
}

/// `PUT /tailnet/{tailnet}/dns/split-dns`: replace all domains.
///
/// Source: official OpenAPI document, `setSplitDns`.
pub(crate) async fn replace_split(
    caller: Caller<DnsWrite>,
    State(api): State<Api>,
    Json(body): Json<SplitBody>,
) -> Result<Response, ApiError> {
    let dns = api
        .engine
        .edit_dns(&caller.actor, DnsEdit::ReplaceSplit(split_edit(body)))
        .await?;
    json(&split_json(&dns))
}

/// The whole DNS configuration. Source: official OpenAPI document, `DnsConfiguration`.
#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Configuration {
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    nameservers: Vec<Object<ResolverJson>>,
    #[serde(
        rename = "splitDNS",
        skip_serializing_if = "Members::is_empty",
        deserialize_with = "null_is_default"
    )]
    split_dns: Members<Option<Vec<Object<ResolverJson>>>>,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    search_paths: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    preferences: Object<Preferences>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Preferences {
    #[serde(rename = "overrideLocalDNS", deserialize_with = "null_is_default")]
    override_local_dns: bool,
    #[serde(rename = "magicDNS", deserialize_with = "null_is_default")]
    magic_dns: bool,
}

#[derive(Serialize, Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
struct ResolverJson {
    address: String,
    #[serde(default, deserialize_with = "null_is_default")]
    use_with_exit_node: bool,
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn to_json(list: &[Resolver]) -> Vec<Object<ResolverJson>> {
    list.iter()
        .map(|r| {
            Object(ResolverJson {
                address: r.address.clone(),
                use_with_exit_node: r.use_with_exit_node,
            })
        })
        .collect()
}

fn from_json(list: Vec<Object<ResolverJson>>) -> Vec<Resolver> {
    list.into_iter()
        .map(|Object(r)| Resolver {
            address: r.address,
            use_with_exit_node: r.use_with_exit_node,
        })
        .collect()
}

impl Configuration {
    fn of(dns: &Dns) -> Self {
        Self {
            nameservers: to_json(&dns.nameservers),
            split_dns: Members(
                dns.split
                    .iter()
                    .map(|(domain, list)| (domain.clone(), Some(to_json(list))))
                    .collect(),
            ),
            search_paths: dns.search_paths.clone(),
            preferences: Object(Preferences {
                override_local_dns: dns.override_local_dns,
                magic_dns: dns.magic_dns,
            }),
        }
    }

    pub(crate) fn into_dns(self) -> Dns {
        Dns {
            nameservers: from_json(self.nameservers),
            split: self
                .split_dns
                .0
                .into_iter()
                .map(|(domain, list)| (domain, from_json(list.unwrap_or_default())))
                .collect(),
            search_paths: self.search_paths,
            magic_dns: self.preferences.0.magic_dns,
            override_local_dns: self.preferences.0.override_local_dns,
        }
    }
}

/// `GET /tailnet/{tailnet}/dns/configuration`.
///
/// Source: official OpenAPI document, `getDnsConfiguration`.
pub(crate) async fn configuration(
    caller: Caller<DnsRead>,
    State(api): State<Api>,
) -> Result<Response, ApiError> {
    json(&Configuration::of(&*current(&api, &caller)?))
}

/// `POST /tailnet/{tailnet}/dns/configuration`: replace everything; what is missing is off.
///
/// Source: official OpenAPI document, `setDnsConfiguration`.
pub(crate) async fn set_configuration(
    caller: Caller<DnsWrite>,
    State(api): State<Api>,
    Json(body): Json<Configuration>,
) -> Result<Response, ApiError> {
    let dns = api
        .engine
        .edit_dns(&caller.actor, DnsEdit::Replace(body.into_dns()))
        .await?;
    json(&Configuration::of(&dns))
}
