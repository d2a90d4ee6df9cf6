//! Packet filters: what makes a client drop them.

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::check::{self, Checked};
use crate::violation::{ProtocolViolation, Rule};

const FIELDS: &[&str] = &["SrcIPs", "DstPorts", "IPProto", "CapGrant"];

/// Checks the rules of one named filter.
pub(crate) fn check(name: &str, rules: &[Value]) -> Checked<()> {
    rules
        .iter()
        .try_for_each(|rule| check_rule(name, check::object(name, rule)?))
}

fn check_rule(name: &str, rule: &Map<String, Value>) -> Checked<()> {
    let fail = |detail: &str| {
        Err(ProtocolViolation::new(
            Rule::BadFilter,
            format!("filter {name}: {detail}"),
        ))
    };
    // `SrcBits` is known to clients, but its presence makes them drop the filter.
    check::known_fields(&format!("filter {name}"), rule, FIELDS)?;
    for source in check::list("SrcIPs", rule.get("SrcIPs"))? {
        let source = check::text("SrcIPs", Some(source))?;
        if !is_ip_set(source) && !source.starts_with("cap:") {
            return fail(source);
        }
    }
    let ports = check::list("DstPorts", rule.get("DstPorts"))?;
    let grants = check::list("CapGrant", rule.get("CapGrant"))?;
    if ports.is_empty() == grants.is_empty() {
        return fail("a rule has either DstPorts or CapGrant");
    }
    for port in ports {
        let port = check::object("DstPorts", port)?;
        check::known_fields("DstPorts", port, &["IP", "Ports"])?;
        let ip = check::text("DstPorts.IP", port.get("IP"))?;
        let range = check::optional_object("DstPorts.Ports", port.get("Ports"))?;
        let bound = |field: &str| range?.get(field)?.as_u64().filter(|port| *port <= 65_535);
        match (bound("First"), bound("Last")) {
            (Some(first), Some(last)) if first <= last && is_ip_set(ip) => {}
            _ => return fail(&format!("destination {port:?}")),
        }
    }
    for grant in grants {
        let grant = check::object("CapGrant", grant)?;
        check::known_fields("CapGrant", grant, &["Dsts", "Caps", "CapMap"])?;
        for destination in check::list("CapGrant.Dsts", grant.get("Dsts"))? {
            if destination.as_str().and_then(check::prefix).is_none() {
                return fail(&format!("grant to {destination}"));
            }
        }
    }
    Ok(())
}

fn is_ip_set(text: &str) -> bool {
    if text == "*" || text.parse::<IpAddr>().is_ok() || check::prefix(text).is_some() {
        return true;
    }
    let Some((first, last)) = text.split_once('-') else {
        return false;
    };
    match (first.parse::<IpAddr>(), last.parse::<IpAddr>()) {
        (Ok(first), Ok(last)) => first.is_ipv4() == last.is_ipv4() && first <= last,
        _ => false,
    }
}
