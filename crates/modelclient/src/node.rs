//! One node: what clients accept, and the form in which two of them are compared.

use std::net::SocketAddr;

use serde_json::{Map, Value};

use crate::check::{self, Checked};
use crate::session::Rules;
use crate::violation::{ProtocolViolation, Rule};

const FIELDS: &[&str] = &[
    "ID",
    "StableID",
    "Name",
    "User",
    "Sharer",
    "Key",
    "KeyExpiry",
    "KeySignature",
    "Machine",
    "DiscoKey",
    "Addresses",
    "AllowedIPs",
    "Endpoints",
    "DERP",
    "HomeDERP",
    "Hostinfo",
    "Created",
    "Cap",
    "Tags",
    "PrimaryRoutes",
    "LastSeen",
    "Online",
    "MachineAuthorized",
    "Capabilities",
    "CapMap",
    "UnsignedPeerAPIOnly",
    "ComputedName",
    "ComputedNameWithHost",
    "DataPlaneAuditLogID",
    "Expired",
    "SelfNodeV4MasqAddrForThisPeer",
    "SelfNodeV6MasqAddrForThisPeer",
    "IsWireGuardOnly",
    "IsJailed",
    "ExitNodeDNSResolvers",
];

/// Checks a node as it is sent. `is_self`: the receiver's own.
pub(crate) fn check(node: &Map<String, Value>, is_self: bool, rules: &Rules) -> Checked<()> {
    let id = check::id("node ID", node.get("ID"))?;
    let path = format!("node {id}");
    let fail = |rule, detail: &str| Err(ProtocolViolation::new(rule, format!("{path}: {detail}")));
    check::known_fields(&path, node, FIELDS)?;
    check::id(&format!("{path}.User"), node.get("User"))?;
    if check::text("StableID", node.get("StableID"))?.is_empty() {
        return fail(Rule::BadStableId, "no StableID");
    }
    let name = check::text("Name", node.get("Name"))?;
    if !is_fqdn(name) {
        return fail(Rule::BadName, name);
    }
    check_keys(&path, node, is_self)?;
    check_addresses(&path, node, rules)?;
    for endpoint in check::list("Endpoints", node.get("Endpoints"))? {
        check_endpoint(&path, endpoint)?;
    }
    if !node.get("Hostinfo").is_some_and(Value::is_object) {
        return fail(Rule::NoHostinfo, "Hostinfo must be an object");
    }
    if check::flag("Online", node.get("Online"))?
        && !node.get("LastSeen").is_none_or(check::is_zero)
    {
        return fail(Rule::OnlineWithLastSeen, "online, and last seen");
    }
    if check::flag("Expired", node.get("Expired"))?
        && node.get("KeyExpiry").is_none_or(check::is_zero)
    {
        return fail(Rule::ExpiredWithoutKeyExpiry, "expired at no time");
    }
    if let (Some(legacy), Some(home)) = (legacy_derp(node), node.get("HomeDERP"))
        && !check::is_zero(home)
        && home.as_u64() != Some(legacy)
    {
        return fail(Rule::DerpMismatch, "DERP and HomeDERP differ");
    }
    Ok(())
}

fn check_keys(path: &str, node: &Map<String, Value>, is_self: bool) -> Checked<()> {
    let missing = |name| ProtocolViolation::new(Rule::BadKey, format!("{path}: no {name}"));
    let key = node.get("Key").ok_or_else(|| missing("Key"))?;
    if !check::key(path, key, "nodekey:")? {
        return Err(missing("Key"));
    }
    if let Some(disco) = node.get("DiscoKey") {
        check::key(path, disco, "discokey:")?;
    }
    let machine = node
        .get("Machine")
        .map(|key| check::key(path, key, "mkey:"))
        .transpose()?;
    if is_self && machine != Some(true) {
        return Err(missing("Machine"));
    }
    Ok(())
}

fn check_addresses(path: &str, node: &Map<String, Value>, rules: &Rules) -> Checked<()> {
    let fail = |value: &Value| {
        Err(ProtocolViolation::new(
            Rule::BadAddresses,
            format!("{path}: {value}"),
        ))
    };
    for field in ["Addresses", "AllowedIPs", "PrimaryRoutes"] {
        for value in check::list(field, node.get(field))? {
            if value.as_str().and_then(check::prefix).is_none() {
                return fail(value);
            }
        }
    }
    let addresses: Vec<_> = check::list("Addresses", node.get("Addresses"))?
        .iter()
        .filter_map(|value| check::prefix(value.as_str()?))
        .collect();
    let is_single = |(address, bits): &(std::net::IpAddr, u32)| {
        *bits == if address.is_ipv4() { 32 } else { 128 }
    };
    let is_good = if rules.rust_client && rules.both_addresses {
        matches!(addresses.as_slice(), [(v4, _), (v6, _)] if v4.is_ipv4() && v6.is_ipv6())
    } else {
        !addresses.is_empty()
    };
    if is_good && addresses.iter().all(is_single) {
        Ok(())
    } else {
        fail(node.get("Addresses").unwrap_or(&Value::Null))
    }
}

pub(crate) fn check_endpoint(path: &str, endpoint: &Value) -> Checked<()> {
    match endpoint.as_str().map(str::parse::<SocketAddr>) {
        Some(Ok(_)) => Ok(()),
        _ => Err(ProtocolViolation::new(
            Rule::BadEndpoint,
            format!("{path}: {endpoint}"),
        )),
    }
}

fn is_fqdn(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.strip_suffix('.').is_some_and(|name| {
        name.contains('.') && name.len() <= 253 && name.split('.').all(is_label)
    })
}

fn legacy_derp(node: &Map<String, Value>) -> Option<u64> {
    node.get("DERP")?
        .as_str()?
        .strip_prefix("127.3.3.40:")?
        .parse()
        .ok()
}

/// A node in the form in which clients keep it: nothing said in two ways, nothing said that is the
/// default. Two nodes that are equal for a client are equal values.
pub(crate) fn normalise(node: &Map<String, Value>) -> Map<String, Value> {
    let mut kept = Map::new();
    for (field, value) in node {
        let value = match (field.as_str(), value) {
            // Filled in by clients themselves, or read by none.
            ("DERP" | "ComputedName" | "ComputedNameWithHost" | "DataPlaneAuditLogID", _) => {
                continue;
            }
            // Empty means "no routes at all" here, and false means "known to be offline".
            ("AllowedIPs", Value::Array(_)) | ("Online", Value::Bool(_)) => value.clone(),
            ("CapMap", Value::Object(caps)) if !caps.is_empty() => caps
                .iter()
                .map(|(cap, values)| {
                    let values = if values.is_null() {
                        Value::Array(vec![])
                    } else {
                        values.clone()
                    };
                    (cap.clone(), values)
                })
                .collect::<Map<_, _>>()
                .into(),
            ("Hostinfo", Value::Object(hostinfo)) => {
                let said = hostinfo.iter().filter(|(_, value)| !check::is_zero(value));
                said.map(|(key, value)| (key.clone(), value.clone()))
                    .collect::<Map<_, _>>()
                    .into()
            }
            (_, value) if check::is_zero(value) => continue,
            (_, value) => value.clone(),
        };
        kept.insert(field.clone(), value);
    }
    if let Some(region) = legacy_derp(node).filter(|region| *region != 0) {
        kept.entry("HomeDERP").or_insert_with(|| region.into());
    }
    let addresses = kept.get("Addresses").cloned().unwrap_or_default();
    if !kept.contains_key("AllowedIPs") || kept.contains_key("UnsignedPeerAPIOnly") {
        kept.insert("AllowedIPs".into(), addresses);
    }
    kept
}

/// A kept node as it is compared. `LastSeen` of a node that is online says nothing: a patch cannot
/// take it away, and clients do not look at it.
pub(crate) fn canonical(node: &Map<String, Value>) -> Value {
    let mut node = node.clone();
    if node.get("Online") == Some(&Value::Bool(true)) {
        node.remove("LastSeen");
    }
    Value::Object(node)
}
