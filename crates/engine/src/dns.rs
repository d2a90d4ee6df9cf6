//! DNS settings.

use std::collections::{HashMap, HashSet};

use bowline_model::dns::{Dns, Resolver, is_resolver_address, plain};
use bowline_model::event::{Event, TailnetRef};
use bowline_model::name::is_domain;
use indexmap::IndexMap;

use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::Refusal;

/// The most entries of each list.
const ENTRIES_MAX: usize = 500;
/// The most nameservers of a tailnet, those of domains included: every device is sent them.
const NAMESERVERS_MAX: usize = 1000;

/// A change of the DNS settings.
#[derive(Debug, Clone)]
pub enum DnsEdit {
    /// Replace the global nameservers. With none left, MagicDNS turns off.
    Nameservers(Vec<String>),
    /// Turn MagicDNS on or off. On needs a global nameserver where
    /// [`Settings::magic_dns_needs_nameserver`](crate::Settings::magic_dns_needs_nameserver) says so.
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

/// Nameservers by address. The lists of addresses say nothing of exit nodes: what was set elsewhere
/// of an address stays.
fn resolvers(addresses: &[String], present: &[Resolver]) -> Vec<Resolver> {
    let with_exit_node: HashSet<&str> = present
        .iter()
        .filter(|resolver| resolver.use_with_exit_node)
        .map(|resolver| resolver.address.as_str())
        .collect();
    addresses
        .iter()
        .map(|address| Resolver {
            address: address.clone(),
            use_with_exit_node: with_exit_node.contains(address.as_str()),
        })
        .collect()
}

/// Refuses lists that are longer than any may be, before they reach the writer.
fn check_counts(edit: &DnsEdit) -> Result<(), Refusal> {
    let by_address = |domains: &IndexMap<String, Vec<String>>| {
        let lists = domains.values().map(Vec::len);
        (domains.len(), lists.sum::<usize>())
    };
    let (entries, nameservers) = match edit {
        DnsEdit::Nameservers(list) => (list.len(), list.len()),
        DnsEdit::MagicDns(_) => (0, 0),
        DnsEdit::SearchPaths(list) => (list.len(), 0),
        DnsEdit::MergeSplit(domains) | DnsEdit::ReplaceSplit(domains) => by_address(domains),
        DnsEdit::Replace(dns) => (
            dns.split
                .len()
                .max(dns.search_paths.len())
                .max(dns.nameservers.len()),
            nameservers_of(dns),
        ),
    };
    if entries > ENTRIES_MAX {
        return Err(Refusal::invalid(format!(
            "a list can have at most {ENTRIES_MAX} entries"
        )));
    }
    check_nameservers(nameservers)
}

fn nameservers_of(dns: &Dns) -> usize {
    dns.nameservers.len() + dns.split.values().map(Vec::len).sum::<usize>()
}

fn check_nameservers(count: usize) -> Result<(), Refusal> {
    if count > NAMESERVERS_MAX {
        return Err(Refusal::invalid(format!(
            "a tailnet can have at most {NAMESERVERS_MAX} nameservers, those of domains included"
        )));
    }
    Ok(())
}

fn check(dns: &Dns) -> Result<(), Refusal> {
    for resolver in dns.split.values().chain([&dns.nameservers]).flatten() {
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
    check_distinct(dns.split.keys())?;
    if dns.split.len() > ENTRIES_MAX {
        return Err(Refusal::invalid(format!(
            "a list can have at most {ENTRIES_MAX} entries"
        )));
    }
    check_nameservers(nameservers_of(dns))
}

/// Refuses a second spelling of a domain: devices would use the nameservers of both.
fn check_distinct<'a>(domains: impl Iterator<Item = &'a String>) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    for domain in domains {
        if !seen.insert(plain(domain)) {
            return Err(Refusal::invalid(format!(
                "domain {domain:?} is there twice, in different spellings"
            )));
        }
    }
    Ok(())
}

/// Split DNS with some domains changed; one with an empty list is removed. A domain keeps its place
/// and has the spelling that was sent last: who sent it looks for that.
fn merged(
    old: &IndexMap<String, Vec<Resolver>>,
    changes: &IndexMap<String, Vec<String>>,
) -> IndexMap<String, Vec<Resolver>> {
    let mut changes_by_name: HashMap<String, (&String, &Vec<String>)> = changes
        .iter()
        .map(|(domain, list)| (plain(domain), (domain, list)))
        .collect();
    let mut split = IndexMap::with_capacity(old.len() + changes.len());
    for (domain, present) in old {
        match changes_by_name.remove(&plain(domain)) {
            None => {
                split.insert(domain.clone(), present.clone());
            }
            Some((_, list)) if list.is_empty() => {}
            Some((domain, list)) => {
                split.insert(domain.clone(), resolvers(list, present));
            }
        }
    }
    for (domain, list) in changes {
        if !list.is_empty() && changes_by_name.contains_key(&plain(domain)) {
            split.insert(domain.clone(), resolvers(list, &[]));
        }
    }
    split
}

fn edited(old: &Dns, edit: &DnsEdit, needs_nameserver: bool) -> Result<Dns, Refusal> {
    let mut dns = old.clone();
    match edit {
        DnsEdit::Nameservers(list) => {
            dns.nameservers = resolvers(list, &old.nameservers);
            if list.is_empty() {
                dns.magic_dns = false;
            }
        }
        DnsEdit::MagicDns(on) => {
            let is_turned_on = *on && !old.magic_dns;
            if is_turned_on && needs_nameserver && old.nameservers.is_empty() {
                return Err(Refusal::invalid(
                    "need at least one nameserver to enable MagicDNS",
                ));
            }
            dns.magic_dns = *on;
        }
        DnsEdit::SearchPaths(list) => dns.search_paths.clone_from(list),
        DnsEdit::MergeSplit(domains) => {
            check_distinct(domains.keys())?;
            dns.split = merged(&old.split, domains);
        }
        DnsEdit::ReplaceSplit(domains) => {
            let present: HashMap<String, &Vec<Resolver>> = old
                .split
                .iter()
                .map(|(domain, list)| (plain(domain), list))
                .collect();
            check_distinct(domains.keys())?;
            dns.split = domains
                .iter()
                .filter(|(_, list)| !list.is_empty())
                .map(|(domain, list)| {
                    let present = present.get(&plain(domain));
                    let present = present.map_or(&[][..], |list| list.as_slice());
                    (domain.clone(), resolvers(list, present))
                })
                .collect();
        }
        DnsEdit::Replace(new) => {
            check_distinct(new.split.keys())?;
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
    /// `Invalid` for something that is not a nameserver or domain, or for MagicDNS without a
    /// nameserver.
    pub async fn edit_dns(&self, actor: &Actor, edit: DnsEdit) -> Result<Dns, Refusal> {
        check_counts(&edit)?;
        let needs_nameserver = self.settings().magic_dns_needs_nameserver;
        self.write(actor, move |draft| {
            let old = draft.view().dns().clone();
            let new = edited(&old, &edit, needs_nameserver)?;
            if *old != new {
                let tailnet = TailnetRef::of(draft.view().tailnet());
                draft.audit(Event::DnsConfig {
                    tailnet: tailnet.clone(),
                    old: Box::new((*old).clone()),
                    new: Box::new(new.clone()),
                });
                if old.magic_dns != new.magic_dns {
                    draft.audit(Event::MagicDns {
                        tailnet,
                        old: old.magic_dns,
                        new: new.magic_dns,
                    });
                }
                draft.put(new.clone());
            }
            Ok(new)
        })
        .await
    }
}
