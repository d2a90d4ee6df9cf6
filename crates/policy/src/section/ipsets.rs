//! `ipsets`: named sets of addresses, built by adding and removing.

use crate::budget::Budget;
use crate::decode::{Part, Text};
use crate::diagnostic::Diagnostic;
use crate::hujson::quote;
use crate::range::{self, Ranges, Step};
use crate::selector::{Names, parse_prefix};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// What a step of a set is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operand {
    Addresses(IpAddr, IpAddr),
    Internet,
    /// The set of this number.
    Set(usize),
}

/// A set and its steps: whether they remove, and what.
struct Set<'a> {
    name: &'a Text,
    steps: Vec<(bool, Operand)>,
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
pub(crate) fn resolve(
    sets: &Sets,
    names: &Names,
    budget: &Budget,
) -> Result<BTreeMap<String, Ranges>, Diagnostic> {
    let numbers: HashMap<&str, usize> = sets
        .iter()
        .enumerate()
        .map(|(number, (name, _))| (name.text.as_str(), number))
        .collect();
    let mut parsed: Vec<Set<'_>> = Vec::with_capacity(sets.len());
    for (name, texts) in sets {
        let context = || format!("ipsets[{}]: ", quote(&name.text));
        if name.text.strip_prefix("ipset:").is_none_or(str::is_empty) {
            let message = format!("{}IP set names must start with 'ipset:'", context());
            return Err(Diagnostic::new(name.place, message));
        }
        let mut steps = Vec::with_capacity(texts.len());
        for text in texts {
            budget.elements(1, size_of::<(bool, Operand)>())?;
            let step = step(&text.text, names, &numbers);
            steps.push(step.map_err(|error| Diagnostic::new(text.place, context() + &error))?);
        }
        parsed.push(Set { name, steps });
    }
    let resolved = resolve_all(&parsed, budget)?;
    let names = parsed.iter().map(|set| set.name.text.clone());
    Ok(names.zip(resolved).collect())
}

/// Each set after those that it names. A chain of sets can be as long as a file, so that the way
/// through them is kept in a list and not on the stack.
fn resolve_all(sets: &[Set<'_>], budget: &Budget) -> Result<Vec<Ranges>, Diagnostic> {
    let mut order: Vec<usize> = (0..sets.len()).collect();
    order.sort_by_key(|number| sets.get(*number).map(|set| set.name.text.as_str()));
    let mut resolved: Vec<Option<Ranges>> = vec![None; sets.len()];
    let mut is_open = vec![false; sets.len()];
    for start in order {
        // Sets on the way, each with the number of its step that is looked at next.
        let mut way: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((number, next)) = way.last_mut() {
            let number = *number;
            let Some(set) = sets.get(number) else {
                way.pop();
                continue;
            };
            let is_missing = |number: usize| resolved.get(number).is_some_and(Option::is_none);
            if !is_missing(number) {
                way.pop();
                continue;
            }
            if let Some(open) = is_open.get_mut(number) {
                *open = true;
            }
            let rest = set.steps.iter().enumerate().skip(*next);
            let named = rest.filter_map(|(at, (_, operand))| match operand {
                Operand::Set(other) => Some((at, *other)),
                _ => None,
            });
            let mut missing = named.filter(|(_, other)| is_missing(*other));
            if let Some((at, other)) = missing.next() {
                budget.steps(at + 1 - *next)?;
                *next = at;
                if is_open.get(other) == Some(&true) {
                    let name = sets.get(other).unwrap_or(set).name;
                    let message =
                        format!("ipsets[{}]: IP sets cannot be recursive", quote(&name.text));
                    return Err(Diagnostic::new(name.place, message));
                }
                way.push((other, 0));
                continue;
            }
            let ranges = build(set, &resolved, budget)?;
            if let (Some(place), Some(open)) = (resolved.get_mut(number), is_open.get_mut(number)) {
                *place = Some(ranges);
                *open = false;
            }
            way.pop();
        }
    }
    Ok(resolved
        .into_iter()
        .map(Option::unwrap_or_default)
        .collect())
}

/// The addresses of one set, when those that it names are known.
fn build(
    set: &Set<'_>,
    resolved: &[Option<Ranges>],
    budget: &Budget,
) -> Result<Ranges, Diagnostic> {
    // A set that is named again later has the same addresses there, and the later step decides.
    let mut last: HashMap<Option<usize>, usize> = HashMap::new();
    for (place, (_, operand)) in set.steps.iter().enumerate() {
        match operand {
            Operand::Set(other) => last.insert(Some(*other), place),
            Operand::Internet => last.insert(None, place),
            Operand::Addresses(..) => None,
        };
    }
    budget.elements(set.steps.len(), 0)?;
    let mut steps: Vec<Step> = Vec::new();
    let mut used = 0;
    for (place, (removes, operand)) in set.steps.iter().enumerate() {
        let removes = *removes;
        let other = match operand {
            Operand::Addresses(first, last) => {
                used += Ranges::STEP;
                budget.elements(1, Ranges::STEP)?;
                steps.push(Step {
                    first: *first,
                    last: *last,
                    removes,
                });
                continue;
            }
            Operand::Internet if last.get(&None) == Some(&place) => range::internet(),
            Operand::Set(other) if last.get(&Some(*other)) == Some(&place) => {
                match resolved.get(*other).and_then(Option::as_ref) {
                    Some(ranges) => ranges,
                    None => continue,
                }
            }
            Operand::Internet | Operand::Set(_) => continue,
        };
        used += other.len().saturating_mul(Ranges::STEP);
        budget.elements(other.len(), Ranges::STEP)?;
        steps.extend(other.each().map(|(first, last)| Step {
            first,
            last,
            removes,
        }));
    }
    // Sorting takes a few steps for each.
    budget.steps(steps.len().saturating_mul(8))?;
    let ranges = Ranges::new(steps);
    budget.give_back(used);
    budget.bytes(ranges.len().saturating_mul(Ranges::RANGE))?;
    Ok(ranges)
}

fn step(
    text: &str,
    names: &Names,
    numbers: &HashMap<&str, usize>,
) -> Result<(bool, Operand), String> {
    let text = text.trim();
    let (removes, operand) = match text.split_once(char::is_whitespace) {
        Some(("add", operand)) => (false, operand.trim()),
        Some(("remove", operand)) => (true, operand.trim()),
        _ => (false, text),
    };
    let whole = |prefix: ipnet::IpNet| Operand::Addresses(prefix.network(), prefix.broadcast());
    let operand = if operand == "autogroup:internet" {
        Operand::Internet
    } else if operand.starts_with("ipset:") {
        let number = numbers.get(operand);
        Operand::Set(*number.ok_or_else(|| format!("ipset not found: {}", quote(operand)))?)
    } else if let Some(host) = operand.strip_prefix("host:") {
        let prefix = names.hosts.get(host);
        whole(*prefix.ok_or_else(|| format!("host not found: {}", quote(host)))?)
    } else if let Some((first, last)) = operand.split_once('-') {
        let address = |text: &str| text.trim().parse::<IpAddr>();
        match (address(first), address(last)) {
            (Ok(first), Ok(last)) if first.is_ipv4() == last.is_ipv4() && first <= last => {
                Operand::Addresses(first, last)
            }
            _ => return Err(format!("{}: invalid range", quote(operand))),
        }
    } else {
        whole(parse_prefix(operand)?)
    };
    Ok((removes, operand))
}
