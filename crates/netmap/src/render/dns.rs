//! The DNS configuration of a device, exactly as it was set through the API.

use bowline_model::dns::{Dns, Resolver};
use bowline_wire::dns::{DnsConfig, Resolver as WireResolver};

fn resolvers(list: &[Resolver]) -> Vec<WireResolver> {
    list.iter()
        .map(|resolver| WireResolver {
            addr: resolver.address.clone(),
            use_with_exit_node: resolver.use_with_exit_node,
        })
        .collect()
}

/// Renders a tailnet's DNS settings. `suffix` is its MagicDNS suffix, without a dot at the end.
///
/// Global nameservers are a fallback unless they override the local ones. With MagicDNS the
/// tailnet's own domain is answered by the client and searched first.
pub fn config(dns: &Dns, suffix: &str) -> DnsConfig {
    let mut config = DnsConfig {
        proxied: dns.magic_dns,
        ..DnsConfig::default()
    };
    if dns.magic_dns {
        config.routes.insert(suffix.to_owned(), Vec::new());
        config.domains.push(suffix.to_owned());
    }
    config.domains.extend(dns.search_paths.iter().cloned());
    for (domain, list) in &dns.split {
        config.routes.insert(domain.clone(), resolvers(list));
    }
    let global = resolvers(&dns.nameservers);
    if dns.override_local_dns {
        config.resolvers = global;
    } else {
        config.fallback_resolvers = global;
    }
    config
}
