//! DNS settings.

use bowline_model::audit::Target;
use bowline_model::dns::{Dns, Resolver, is_resolver_address};
use bowline_model::name::is_domain;
use indexmap::IndexMap;
use serde_json::json;

use crate::actor::{Access, Actor, Scope};
use crate::engine::Engine;
use crate::failure::Refusal;

/// The most entries of each list.
const ENTRIES_MAX: usize = 500;

/// A change of the DNS settings.
#[derive(Debug, Clone)]
pub enum DnsEdit {
    /// Replace the global nameservers. With none left, MagicDNS turns off.
    Nameservers(Vec<String>),
    /// Turn MagicDNS on or off. On needs a global nameserver.
    MagicDns(bool),
    /// Replace the search paths.
    SearchPaths(Vec<String>),
    /// Change nameservers of some domains; an empty list removes the domain.
    MergeSplit(IndexMap<String, Vec<String>>),
    /// Replace the nameservers of all domains; a domain with an empty list is left out.
    ReplaceSplit(IndexMap<String, Vec<String>>),
    /// Replace everything.
    Replace(Dns),
}

fn resolvers(addresses: &[String], present: &[Resolver]) -> Vec<Resolver> {
    addresses
        .iter()
        .map(|address| Resolver {
            address: address.clone(),
            // The lists of addresses say nothing of it: what was set elsewhere stays.
            use_with_exit_node: present
                .iter()
                .any(|r| r.address == *address && r.use_with_exit_node),
        })
        .collect()
}

fn check(dns: &Dns) -> Result<(), Refusal> {
    let lists = dns.split.values().chain([&dns.nameservers]);
    for resolver in lists.clone().flatten() {
        if !is_resolver_address(&resolver.address) {
            return Err(Refusal::invalid(format!(
                "invalid nameserver {:?}: expected an IP address or an https:// URL",
                resolver.address
            )));
        }
    }
    for domain in dns.search_paths.iter().chain(dns.split.keys()) {
        if !is_domain(domain.strip_suffix('.').unwrap_or(domain)) {
            return Err(Refusal::invalid(format!("invalid domain {domain:?}")));
        }
    }
    let longest = lists
        .map(Vec::len)
        .chain([dns.search_paths.len(), dns.split.len()])
        .max();
    if longest.unwrap_or(0) > ENTRIES_MAX {
        return Err(Refusal::invalid(format!(
            "a list can have at most {ENTRIES_MAX} entries"
        )));
    }
    Ok(())
}

fn edited(old: &Dns, edit: &DnsEdit) -> Result<Dns, Refusal> {
    let mut dns = old.clone();
    match edit {
        DnsEdit::Nameservers(list) => {
            dns.nameservers = resolvers(list, &old.nameservers);
            if list.is_empty() {
                dns.magic_dns = false;
            }
        }
        DnsEdit::MagicDns(on) => {
            if *on && dns.nameservers.is_empty() {
                return Err(Refusal::invalid(
                    "need at least one nameserver to enable MagicDNS",
                ));
            }
            dns.magic_dns = *on;
        }
        DnsEdit::SearchPaths(list) => dns.search_paths.clone_from(list),
        DnsEdit::MergeSplit(domains) => {
            for (domain, list) in domains {
                if list.is_empty() {
                    dns.split.shift_remove(domain);
                } else {
                    let present = old.split.get(domain).map_or(&[][..], Vec::as_slice);
                    dns.split.insert(domain.clone(), resolvers(list, present));
                }
            }
        }
        DnsEdit::ReplaceSplit(domains) => {
            dns.split = domains
                .iter()
                .filter(|(_, list)| !list.is_empty())
                .map(|(domain, list)| {
                    let present = old.split.get(domain).map_or(&[][..], Vec::as_slice);
                    (domain.clone(), resolvers(list, present))
                })
                .collect();
        }
        DnsEdit::Replace(new) => {
            dns = new.clone();
            dns.split.retain(|_, list| !list.is_empty());
        }
    }
    check(&dns)?;
    Ok(dns)
}

impl Engine {
    /// Changes the DNS settings; returns them as they are then. Connected devices obey at once.
    ///
    /// # Errors
    /// `Invalid` for something that is no nameserver or domain, or for MagicDNS without a
    /// nameserver.
    pub async fn edit_dns(&self, actor: &Actor, edit: DnsEdit) -> Result<Dns, Refusal> {
        if !actor.may(Scope::Dns, Access::Write) {
            return Err(Refusal::NotPermitted);
        }
        self.write(actor, move |draft| {
            let old = draft.view().dns().clone();
            let new = edited(&old, &edit)?;
            if *old != new {
                let tailnet = draft.view().tailnet().clone();
                let target = |property| Target::tailnet(tailnet.id, &tailnet.name, property);
                draft.audit("UPDATE", target("DNS_CONFIG"), json!(*old), json!(new));
                if old.magic_dns != new.magic_dns {
                    let action = if new.magic_dns { "ENABLE" } else { "DISABLE" };
                    draft.audit(
                        action,
                        target("MAGIC_DNS"),
                        json!(old.magic_dns),
                        json!(new.magic_dns),
                    );
                }
                draft.set_dns(new.clone());
            }
            Ok(new)
        })
        .await
    }
}
