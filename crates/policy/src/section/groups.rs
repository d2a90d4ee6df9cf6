//! `groups`: sets of users.

use crate::decode::{Part, Text};
use crate::diagnostic::Diagnostic;
use crate::hujson::quote;
use std::collections::BTreeMap;

/// A group as the file defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: Text,
    pub(crate) members: Vec<Text>,
}

/// Reads the section.
pub(crate) fn read(part: Part<'_>) -> Result<Vec<Group>, Diagnostic> {
    part.map()?
        .into_iter()
        .map(|(name, members)| {
            Ok(Group {
                name,
                members: members.texts()?,
            })
        })
        .collect()
}

/// Checks the section: members are users, groups in groups are refused. Of several such groups
/// the one whose name sorts last is reported, as the service does.
pub(crate) fn check(groups: &[Group]) -> Result<BTreeMap<String, Vec<String>>, Diagnostic> {
    let mut sorted: Vec<&Group> = groups.iter().collect();
    sorted.sort_by(|left, right| right.name.text.cmp(&left.name.text));
    for group in sorted {
        let name = &group.name;
        let context = format!("groups[{}]: ", quote(&name.text));
        if name.text.strip_prefix("group:").is_none_or(str::is_empty) {
            let message = format!("{context}group names must start with 'group:'");
            return Err(Diagnostic::new(name.place, message));
        }
        for member in &group.members {
            let text = || quote(&member.text);
            if member.text.starts_with("group:") {
                let message = format!("{context}{}: group members cannot be recursive", text());
                return Err(Diagnostic::new(member.place, message));
            }
            if !member.text.contains('@') {
                let message = format!("{context}{}: group members must be users", text());
                return Err(Diagnostic::new(member.place, message));
            }
        }
    }
    Ok(groups
        .iter()
        .map(|group| {
            let members = group
                .members
                .iter()
                .map(|member| member.text.to_lowercase());
            (group.name.text.clone(), members.collect())
        })
        .collect())
}
