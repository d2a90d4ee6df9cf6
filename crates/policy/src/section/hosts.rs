//! `hosts`: names for an address or a prefix.

use crate::decode::Part;
use crate::diagnostic::Diagnostic;
use crate::hujson::quote;
use crate::selector::parse_prefix;
use ipnet::IpNet;
use std::collections::BTreeMap;

/// Beginnings of selectors of other kinds, which a host's name must not have.
const TAKEN: &[&str] = &[
    "autogroup:",
    "group:",
    "tag:",
    "ipset:",
    "svc:",
    "user:",
    "posture:",
];

/// Reads and checks the section.
pub(crate) fn read(part: Part<'_>) -> Result<BTreeMap<String, IpNet>, Diagnostic> {
    let mut hosts = BTreeMap::new();
    for (name, value) in part.map()? {
        let context = format!("hosts[{}]: ", quote(&name.text));
        let taken = TAKEN.iter().any(|prefix| name.text.starts_with(prefix));
        if name.text.is_empty() || name.text == "*" || name.text.contains('@') || taken {
            let message = format!("{context}invalid host name");
            return Err(Diagnostic::new(name.place, message));
        }
        let text = value.text()?;
        let prefix = parse_prefix(&text.text)
            .map_err(|message| Diagnostic::new(text.place, format!("{context}{message}")))?;
        hosts.insert(name.text, prefix);
    }
    Ok(hosts)
}
