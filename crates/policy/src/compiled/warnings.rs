//! What is odd about a policy on this tailnet, and does not block saving it.

use super::Compiled;
use crate::diagnostic::Failure;
use crate::hujson::quote;
use crate::selector::Selector;
use std::collections::BTreeSet;

impl Compiled {
    /// Members of groups who are not users of the tailnet, in the words of `GET …/acl?details=1`.
    pub fn unknown_members(&self) -> Vec<String> {
        let groups = self.policy.names.groups.iter();
        groups
            .flat_map(|(name, members)| {
                let unknown = members
                    .iter()
                    .filter(|login| self.user_of_login(login).is_none());
                unknown
                    .map(move |login| format!("{}: user not found: {}", quote(name), quote(login)))
            })
            .collect()
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
