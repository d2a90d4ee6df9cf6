//! Who may apply which tag.

use super::Compiled;
use crate::selector::{Role, Selector, tag_name};
use crate::topology::UserId;
use std::collections::BTreeSet;

/// Who asks for tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal<'a> {
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
        principal: Principal<'_>,
        tags: &[String],
    ) -> Result<(), Vec<String>> {
        let sorted = |tags: &[String]| {
            tags.iter()
                .map(|tag| tag_name(tag))
                .collect::<BTreeSet<String>>()
        };
        let whole_set = match principal {
            Principal::Tags(own) => !own.is_empty() && sorted(own) == sorted(tags),
            Principal::Unlimited => true,
            Principal::User(id) => self.users.get(&id).is_some_and(|user| {
                matches!(user.role, Role::Owner | Role::Admin | Role::NetworkAdmin)
            }),
        };
        let allowed = |tag: &&String| {
            let tag = tag_name(tag);
            let declared = self.policy.tag_owners.contains_key(&tag);
            declared && (whole_set || self.owns_tag(principal, &tag, &mut BTreeSet::new()))
        };
        let refused: Vec<String> = tags.iter().filter(|tag| !allowed(tag)).cloned().collect();
        if refused.is_empty() {
            Ok(())
        } else {
            Err(refused)
        }
    }

    fn owns_tag<'a>(
        &'a self,
        principal: Principal<'_>,
        tag: &'a str,
        seen: &mut BTreeSet<&'a str>,
    ) -> bool {
        if !seen.insert(tag) {
            return false;
        }
        let Some(owners) = self.policy.tag_owners.get(tag) else {
            return false;
        };
        owners.iter().any(|owner| match &owner.selector {
            Selector::Tag(other) => {
                matches!(principal, Principal::Tags(own) if own.iter().any(|tag| tag_name(tag) == *other))
                    || self.owns_tag(principal, other, seen)
            }
            selector => match principal {
                Principal::User(id) => self.user_is(id, selector),
                Principal::Tags(_) | Principal::Unlimited => false,
            },
        })
    }

    /// Whether a user is in a selector of users.
    fn user_is(&self, id: UserId, selector: &Selector) -> bool {
        let Some(user) = self.users.get(&id) else {
            return false;
        };
        let Some(atom) = self.program.index.get(selector) else {
            return false;
        };
        let mut atoms = Vec::new();
        self.user_atoms(&user.login, user.role, &mut atoms);
        atoms.iter().any(|(known, _)| known == atom)
    }
}
