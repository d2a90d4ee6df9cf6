//! Who may apply which tag.

use super::Compiled;
use crate::program::AtomId;
use crate::selector::{Role, tag_name};
use crate::topology::UserId;
use std::collections::{BTreeSet, HashSet};

/// Who asks for tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TagAssigner<'a> {
    /// A user.
    User(UserId),
    /// A credential or a device with these tags.
    Tags(&'a [String]),
    /// A credential that may do everything.
    Unlimited,
}

impl Compiled {
    /// Whether a principal may apply all these tags.
    ///
    /// Every tag must be declared. Owners, admins and network admins own all tags; other users
    /// those that `tagOwners` gives them, also through other tags. Tags may be applied by a
    /// credential that has precisely this set, or whose tags own each of them.
    ///
    /// # Errors
    /// The tags that may not be applied, in the order given.
    pub fn may_assign_tags(
        &self,
        principal: TagAssigner<'_>,
        tags: &[String],
    ) -> Result<(), Vec<String>> {
        let sorted = |tags: &[String]| {
            tags.iter()
                .map(|tag| tag_name(tag))
                .collect::<BTreeSet<String>>()
        };
        let whole_set = match principal {
            TagAssigner::Tags(own) => !own.is_empty() && sorted(own) == sorted(tags),
            TagAssigner::Unlimited => true,
            TagAssigner::User(id) => self.users.get(&id).is_some_and(|user| {
                matches!(user.role, Role::Owner | Role::Admin | Role::NetworkAdmin)
            }),
        };
        let ownership = &self.program.ownership;
        let numbers: Vec<Option<u32>> = tags
            .iter()
            .map(|tag| ownership.number(&tag_name(tag)))
            .collect();
        let owned = if whole_set {
            HashSet::new()
        } else {
            self.owned(principal, numbers.iter().flatten().copied())
        };
        // A tag that is not declared is nobody's, and nobody may apply it.
        let allowed = |number: &Option<u32>| {
            number.is_some_and(|number| whole_set || owned.contains(&number))
        };
        let refused: Vec<String> = tags
            .iter()
            .zip(&numbers)
            .filter(|(_, number)| !allowed(number))
            .map(|(tag, _)| tag.clone())
            .collect();
        if refused.is_empty() {
            Ok(())
        } else {
            Err(refused)
        }
    }

    /// Those of the wanted tags that a principal owns.
    fn owned(
        &self,
        principal: TagAssigner<'_>,
        wanted: impl IntoIterator<Item = u32>,
    ) -> HashSet<u32> {
        let ownership = &self.program.ownership;
        match principal {
            TagAssigner::Unlimited => HashSet::new(),
            TagAssigner::Tags(own) => {
                let own: HashSet<u32> = own
                    .iter()
                    .filter_map(|tag| ownership.number(&tag_name(tag)))
                    .collect();
                ownership.owned(wanted, |owners| {
                    owners.tags.iter().any(|tag| own.contains(tag))
                })
            }
            TagAssigner::User(id) => {
                let mut atoms = Vec::new();
                if let Some(user) = self.users.get(&id) {
                    self.user_atoms(&user.login, user.role, &mut atoms);
                }
                let atoms: HashSet<AtomId> = atoms.into_iter().map(|(atom, _)| atom).collect();
                ownership.owned(wanted, |owners| {
                    owners.users.iter().any(|atom| atoms.contains(atom))
                })
            }
        }
    }
}
