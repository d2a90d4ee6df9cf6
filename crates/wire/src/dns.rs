//! DNS configuration in map responses. Source: `docs/protocol/control-protocol.md`, section 6.4.

use indexmap::IndexMap;
use serde::Serialize;

/// What a client does about DNS. `{}` clears everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DnsConfig {
    /// Global resolvers that replace the system's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resolvers: Vec<Resolver>,
    /// Resolvers by domain suffix; an empty list: the client answers from its netmap.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub routes: IndexMap<String, Vec<Resolver>>,
    /// Resolvers used only where the platform needs a full default and none is known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fallback_resolvers: Vec<Resolver>,
    /// Search domains, the tailnet's own first, no dot at the end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<String>,
    /// MagicDNS is on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub proxied: bool,
}

/// One resolver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Resolver {
    /// IP address, `ip:port` or `https://` URL.
    pub addr: String,
    /// Use it also while an exit node is in use. Since capability version 125.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub use_with_exit_node: bool,
}
