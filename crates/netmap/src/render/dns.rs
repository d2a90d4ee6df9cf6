//! The DNS configuration of a device, exactly as it was set through the API.

use bowline_model::dns::{Dns, Resolver, plain};
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
    config
        .domains
        .extend(dns.search_paths.iter().map(|path| plain(path)));
    for (domain, list) in &dns.split {
        config.routes.insert(plain(domain), resolvers(list));
    }
    let global = resolvers(&dns.nameservers);
    if dns.override_local_dns {
        config.resolvers = global;
    } else {
        config.fallback_resolvers = global;
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_as_clients_compare_them() {
        let resolver = |n: u8| Resolver {
            address: format!("10.0.0.{n}"),
            use_with_exit_node: false,
        };
        let dns = Dns {
            split: [("Corp.Example.".to_owned(), vec![resolver(1), resolver(2)])]
                .into_iter()
                .collect(),
            search_paths: vec!["Corp.Example.".to_owned()],
            magic_dns: true,
            ..Dns::default()
        };
        let config = config(&dns, "tail1.internal");
        assert_eq!(config.domains, ["tail1.internal", "corp.example"]);
        let servers = &config.routes["corp.example"];
        let servers: Vec<&str> = servers.iter().map(|server| &*server.addr).collect();
        assert_eq!(servers, ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(config.routes.len(), 2);
    }
}
