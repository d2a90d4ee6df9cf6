//! `nodeAttrs`: attributes for nodes, which they are sent as capabilities.

use super::Target;
use crate::decode::{Part, Text};
use crate::diagnostic::Diagnostic;
use crate::hujson::quote;
use crate::range::{CGNAT, overlap};
use crate::selector::{Autogroup, Names, Selector, parse_prefix};
use ipnet::{IpNet, Ipv4Net};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// One entry of the section.
#[derive(Debug, Clone)]
pub(crate) struct NodeAttrs {
    pub(crate) target: Vec<Target>,
    pub(crate) attributes: Vec<String>,
    /// Names with their values as compact JSON.
    pub(crate) app: Vec<(String, Vec<Arc<str>>)>,
    pub(crate) ip_pool: Vec<IpNet>,
}

/// Parts of `100.64.0.0/10` that no pool may have.
const RESERVED: [Ipv4Net; 3] = [
    Ipv4Net::new_assert(Ipv4Addr::new(100, 100, 0, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(100, 100, 100, 0), 24),
    Ipv4Net::new_assert(Ipv4Addr::new(100, 115, 92, 0), 23),
];

/// Reads and checks one entry.
pub(crate) fn read(part: Part<'_>, names: &Names) -> Result<NodeAttrs, Diagnostic> {
    let mut entry = NodeAttrs {
        target: Vec::new(),
        attributes: Vec::new(),
        app: Vec::new(),
        ip_pool: Vec::new(),
    };
    part.members(&["target", "attr", "app", "ipPool"], |name, part| {
        match name {
            "target" => {
                let texts = part.texts()?;
                entry.target = texts
                    .iter()
                    .map(|text| target(names, text))
                    .collect::<Result<_, _>>()?;
            }
            "attr" => {
                entry.attributes = part.texts()?.into_iter().map(|text| text.text).collect();
            }
            "app" => {
                for (name, values) in part.map()? {
                    let list = values
                        .list()?
                        .map(|value| value.raw().map(Arc::from))
                        .collect::<Result<_, _>>()?;
                    entry.app.push((name.text, list));
                }
            }
            _ => {
                let texts = part.texts()?;
                entry.ip_pool = texts.iter().map(pool).collect::<Result<_, _>>()?;
            }
        }
        Ok(())
    })?;
    Ok(entry)
}

fn target(names: &Names, text: &Text) -> Result<Target, Diagnostic> {
    let selector = names
        .selector(&text.text)
        .map_err(|error| Diagnostic::new(text.place, error))?;
    match selector {
        Selector::Service(_)
        | Selector::IpSet(_)
        | Selector::Auto(
            Autogroup::SelfDevices
            | Autogroup::Internet
            | Autogroup::Shared
            | Autogroup::DangerAll
            | Autogroup::NonRoot,
        ) => {
            let message = format!("{} cannot be a target of nodeAttrs", quote(&text.text));
            Err(Diagnostic::new(text.place, message))
        }
        selector => Ok(Target::new(text, selector)),
    }
}

fn pool(text: &Text) -> Result<IpNet, Diagnostic> {
    let wrong =
        |reason: &str| Diagnostic::new(text.place, format!("IPPool({}): {reason}", text.text));
    let prefix = parse_prefix(&text.text).map_err(|_| wrong("invalid network"))?;
    if !IpNet::from(CGNAT).contains(&prefix) {
        return Err(wrong("network must be within 100.64.0.0/10"));
    }
    if RESERVED
        .iter()
        .any(|reserved| overlap(prefix, IpNet::from(*reserved)))
    {
        return Err(wrong("network within reserved range"));
    }
    Ok(prefix)
}
