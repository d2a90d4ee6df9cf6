//! What is odd about a policy on this tailnet, and does not block saving it.

use super::Compiled;
use crate::diagnostic::Failure;
use crate::hujson::quote;
use crate::selector::Selector;
use std::collections::BTreeSet;

/// The most members of groups that are told.
const UNKNOWN_MAX: usize = 1000;

impl Compiled {
    /// Members of groups who are not users of the tailnet, in the words of `GET …/acl?details=1`:
    /// an entry for each group, about a thousand members at most.
    pub fn unknown_members(&self) -> Vec<Failure> {
        let mut found = Vec::new();
        let mut left = UNKNOWN_MAX;
        for (name, members) in &self.policy.names.groups {
            let unknown = members
                .iter()
                .filter(|login| self.user_of_login(login).is_none());
            let warnings: Vec<String> = unknown
                .take(left)
                .map(|login| format!("user not found: {}", quote(login)))
                .collect();
            left -= warnings.len();
            if !warnings.is_empty() {
                found.push(Failure {
                    user: name.clone(),
                    warnings,
                    ..Failure::default()
                });
            }
        }
        found
    }

    /// Groups that rules use and neither the file nor the directory has: what
    /// `POST …/acl/validate` answers as warnings.
    pub fn unsynced_groups(&self) -> Vec<Failure> {
        let names: BTreeSet<&String> = self
            .program
            .atoms
            .iter()
            .filter_map(|selector| match selector {
                Selector::Group(name) => Some(name),
                _ => None,
            })
            .filter(|name| {
                !self.policy.names.groups.contains_key(*name) && !self.groups.contains_key(*name)
            })
            .collect();
        let warning =
            "group is not syncing from SCIM and will be ignored by rules in the policy file";
        names
            .into_iter()
            .map(|name| Failure {
                user: name.clone(),
                warnings: vec![warning.to_owned()],
                ..Failure::default()
            })
            .collect()
    }
}
