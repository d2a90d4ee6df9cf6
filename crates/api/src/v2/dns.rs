//! DNS settings.

pub(crate) mod get_configuration;
pub(crate) mod get_preferences;
pub(crate) mod get_split;
pub(crate) mod list_nameservers;
pub(crate) mod list_search_paths;
pub(crate) mod set_configuration;
pub(crate) mod set_nameservers;
pub(crate) mod set_preferences;
pub(crate) mod set_search_paths;
pub(crate) mod set_split;
pub(crate) mod update_split;

use bowline_model::dns::{Dns, Resolver};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::extract::{Members, Object, null_is_empty};
use crate::schema::OrNull;

/// Nameservers for everything that no domain has nameservers for.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(extend("required" = ["dns"]))]
pub(crate) struct Nameservers {
    /// IP addresses, with a port or without, and `https://` URLs. `null` means `[]`.
    // One member in an answer: clients read a map of lists.
    #[serde(default, deserialize_with = "null_is_empty")]
    #[schemars(with = "OrNull<Vec<String>>")]
    dns: Option<Vec<String>>,
}

/// Whether devices use the tailnet's DNS.
#[derive(Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "DnsPreferences")]
pub(crate) struct Preferences {
    #[serde(rename = "magicDNS")]
    #[schemars(required)]
    magic_dns: Option<bool>,
}

/// Domains in which short names are looked up.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("required" = ["searchPaths"]))]
pub(crate) struct SearchPaths {
    /// `null` means `[]`.
    #[serde(default, deserialize_with = "null_is_empty")]
    #[schemars(with = "OrNull<Vec<String>>")]
    search_paths: Option<Vec<String>>,
}

/// Nameservers by domain.
#[derive(Serialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct SplitDns(Members<Vec<String>>);

impl SplitDns {
    fn of(dns: &Dns) -> Self {
        let domains = dns.split.iter();
        Self(Members(
            domains
                .map(|(domain, list)| (domain.clone(), addresses(list)))
                .collect(),
        ))
    }
}

/// Nameservers by domain, to be changed or replaced. `null` and `[]`: none.
#[derive(Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct SetSplitDns(Members<Option<Vec<String>>>);

impl SetSplitDns {
    fn into_edit(self) -> IndexMap<String, Vec<String>> {
        let domains = self.0.0.into_iter();
        domains
            .map(|(domain, list)| (domain, list.unwrap_or_default()))
            .collect()
    }
}

fn addresses(list: &[Resolver]) -> Vec<String> {
    let addresses = list.iter().map(|resolver| resolver.address.clone());
    addresses.collect()
}

// Source: official OpenAPI document, `DnsConfiguration`.
/// The whole DNS configuration. What is absent in a request is off, and so is what is `null`.
#[derive(Serialize, Deserialize, Default, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(rename = "DnsConfiguration")]
pub(crate) struct Configuration {
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    #[schemars(with = "OrNull<Vec<ResolverShown>>")]
    nameservers: Vec<Object<ResolverShown>>,
    /// By domain.
    #[serde(
        rename = "splitDNS",
        skip_serializing_if = "Members::is_empty",
        deserialize_with = "null_is_default"
    )]
    #[schemars(with = "OrNull<Members<OrNull<Vec<ResolverShown>>>>")]
    split_dns: Members<Option<Vec<Object<ResolverShown>>>>,
    #[serde(
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    #[schemars(with = "OrNull<Vec<String>>")]
    search_paths: Vec<String>,
    #[serde(deserialize_with = "null_is_default")]
    #[schemars(with = "OrNull<ConfigurationPreferences>")]
    preferences: Object<ConfigurationPreferences>,
}

#[derive(Serialize, Deserialize, Default, JsonSchema)]
#[serde(default)]
#[schemars(inline)]
struct ConfigurationPreferences {
    /// Whether devices use these nameservers alone.
    #[serde(rename = "overrideLocalDNS", deserialize_with = "null_is_default")]
    #[schemars(with = "OrNull<bool>")]
    override_local_dns: bool,
    #[serde(rename = "magicDNS", deserialize_with = "null_is_default")]
    #[schemars(with = "OrNull<bool>")]
    magic_dns: bool,
}

/// A nameserver.
#[derive(Serialize, Deserialize, Clone, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Resolver")]
struct ResolverShown {
    /// An IP address, with a port or without, or an `https://` URL.
    address: String,
    /// Whether it is used while an exit node is.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(with = "OrNull<bool>")]
    use_with_exit_node: bool,
}

fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn to_json(list: &[Resolver]) -> Vec<Object<ResolverShown>> {
    list.iter()
        .map(|r| {
            Object(ResolverShown {
                address: r.address.clone(),
                use_with_exit_node: r.use_with_exit_node,
            })
        })
        .collect()
}

fn from_json(list: Vec<Object<ResolverShown>>) -> Vec<Resolver> {
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
            preferences: Object(ConfigurationPreferences {
                override_local_dns: dns.override_local_dns,
                magic_dns: dns.magic_dns,
            }),
        }
    }

    fn into_dns(self) -> Dns {
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
