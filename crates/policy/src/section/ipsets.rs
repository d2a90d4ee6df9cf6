//! `ipsets`: named sets of addresses, built by adding and removing.

use crate::decode::{Part, Text};
use crate::diagnostic::Diagnostic;
use crate::hujson::quote;
use crate::range::{self, Ranges};
use crate::selector::{Names, parse_prefix};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// An operation of a set.
#[derive(Debug, Clone)]
struct Step {
    removes: bool,
    operand: Operand,
}

#[derive(Debug, Clone)]
enum Operand {
    Ranges(Ranges),
    Set(String),
}

/// Names and texts of all sets.
pub(crate) type Sets = Vec<(Text, Vec<Text>)>;

/// Reads the section.
pub(crate) fn read(part: Part<'_>) -> Result<Sets, Diagnostic> {
    part.map()?
        .into_iter()
        .map(|(name, steps)| Ok((name, steps.texts()?)))
        .collect()
}

/// Checks the section and resolves each set to its addresses.
pub(crate) fn resolve(sets: &Sets, names: &Names) -> Result<BTreeMap<String, Ranges>, Diagnostic> {
    let mut steps: BTreeMap<&str, (&Text, Vec<Step>)> = BTreeMap::new();
    for (name, texts) in sets {
        let context = format!("ipsets[{}]: ", quote(&name.text));
        if name.text.strip_prefix("ipset:").is_none_or(str::is_empty) {
            let message = format!("{context}IP set names must start with 'ipset:'");
            return Err(Diagnostic::new(name.place, message));
        }
        let parsed: Result<Vec<Step>, Diagnostic> = texts
            .iter()
            .map(|text| {
                step(&text.text, names)
                    .map_err(|error| Diagnostic::new(text.place, format!("{context}{error}")))
            })
            .collect();
        steps.insert(&name.text, (name, parsed?));
    }
    let mut resolved = BTreeMap::new();
    for name in steps.keys() {
        resolve_one(name, &steps, &mut Vec::new(), &mut resolved)?;
    }
    Ok(resolved)
}

fn resolve_one<'a>(
    name: &str,
    steps: &'a BTreeMap<&str, (&Text, Vec<Step>)>,
    open: &mut Vec<&'a str>,
    resolved: &mut BTreeMap<String, Ranges>,
) -> Result<Ranges, Diagnostic> {
    if let Some(ranges) = resolved.get(name) {
        return Ok(ranges.clone());
    }
    let Some((text, list)) = steps.get(name) else {
        return Ok(Ranges::default());
    };
    // The depth is bounded too: a chain of sets must not exhaust the stack.
    if open.contains(&text.text.as_str()) || open.len() >= 100 {
        let message = format!("ipsets[{}]: IP sets cannot be recursive", quote(name));
        return Err(Diagnostic::new(text.place, message));
    }
    open.push(&text.text);
    let mut ranges = Ranges::default();
    for step in list {
        let operand = match &step.operand {
            Operand::Ranges(ranges) => ranges.clone(),
            Operand::Set(other) => resolve_one(other, steps, open, resolved)?,
        };
        if step.removes {
            ranges.remove_all(&operand);
        } else {
            ranges.add_all(&operand);
        }
    }
    open.pop();
    resolved.insert(name.to_owned(), ranges.clone());
    Ok(ranges)
}

fn step(text: &str, names: &Names) -> Result<Step, String> {
    let text = text.trim();
    let (removes, operand) = match text.split_once(char::is_whitespace) {
        Some(("add", operand)) => (false, operand.trim()),
        Some(("remove", operand)) => (true, operand.trim()),
        _ => (false, text),
    };
    let mut ranges = Ranges::default();
    if operand == "autogroup:internet" {
        ranges = range::internet();
    } else if operand.starts_with("ipset:") {
        if !names.ipsets.contains(operand) {
            return Err(format!("ipset not found: {}", quote(operand)));
        }
        return Ok(Step {
            removes,
            operand: Operand::Set(operand.to_owned()),
        });
    } else if let Some(host) = operand.strip_prefix("host:") {
        let prefix = names
            .hosts
            .get(host)
            .ok_or_else(|| format!("host not found: {}", quote(host)))?;
        ranges.add_prefix(*prefix);
    } else if let Some((first, last)) = operand.split_once('-') {
        let address = |text: &str| text.trim().parse::<IpAddr>();
        match (address(first), address(last)) {
            (Ok(first), Ok(last)) if first.is_ipv4() == last.is_ipv4() && first <= last => {
                ranges.add(first, last);
            }
            _ => return Err(format!("{}: invalid range", quote(operand))),
        }
    } else {
        ranges.add_prefix(parse_prefix(operand)?);
    }
    Ok(Step {
        removes,
        operand: Operand::Ranges(ranges),
    })
}
