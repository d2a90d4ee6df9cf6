//! What an operation needs of whoever calls it, as data: the row of the operation names it, and the
//! check at the door, the check where the change is made, the OpenAPI document and the access table
//! all follow from it.
//!
//! ```
//! use bowline_model::requirement::{Denied, Requirement};
//! use bowline_model::right::Right;
//! use bowline_model::scope::Scope;
//! use bowline_model::principal::Principal;
//!
//! const RENAME: Requirement = Requirement::all(&[Scope::DEVICES_CORE], Right::WriteDevices);
//! assert_eq!(RENAME.check(&Principal::Operator), Ok(()));
//! assert_eq!(RENAME.check(&Principal::System), Err(Denied::Forbidden));
//! ```

use crate::principal::Principal;
use crate::right::Right;
use crate::scope::{Access, Scope};

/// What one act needs: all of the scopes of a credential, and a right of its user's role. A trust
/// credential has no user, and its scopes alone count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// The scopes, all of them.
    pub scopes: &'static [Scope],
    /// The right.
    pub right: Right,
}

impl Need {
    /// Whether a principal has what is needed. The operator has everything. The server itself,
    /// devices and holders of auth keys have nothing: they call no operations.
    pub fn is_met_by(&self, principal: &Principal) -> bool {
        let granted = |scopes: &crate::scope::Scopes| scopes.grant_all(self.scopes);
        match principal {
            Principal::User { role, scopes, .. } => role.has(self.right) && granted(scopes),
            Principal::OAuthClient(credential) | Principal::FederatedIdentity(credential) => {
                granted(&credential.scopes)
            }
            Principal::Operator => true,
            Principal::AuthKey { .. } | Principal::Device { .. } | Principal::System => false,
        }
    }

    /// Whether its scopes only read.
    fn only_reads(&self) -> bool {
        self.scopes
            .iter()
            .all(|scope| scope.access() == Access::Read)
    }
}

/// A member of a request's or an answer's body, and what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name in JSON.
    pub name: &'static str,
    /// What it needs.
    pub need: Need,
}

/// What a caller must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Nothing, not even a credential.
    Anybody,
    /// No credential in front of the request: it shows in its body what it is let in by, the secret of
    /// an OAuth client or a token of another issuer.
    Shows,
    /// Access to the API; what else is needed depends on the object.
    Caller,
    /// All that one need names.
    All(Need),
    /// One of these needs, whichever concerns the object: there are four kinds of keys, each with a
    /// scope of its own.
    Any(&'static [Need]),
    /// The same, or access to the API where the object is the caller's own.
    AnyOrOwn(&'static [Need]),
    /// The need of each member that the body of the request has.
    Fields(&'static [Field]),
    /// Access to the API; members of the answer whose need the caller does not have are left out.
    Shown(&'static [Field]),
    /// To be the operator of the server.
    Operator,
    /// To be a device, or to hold an auth key, and to speak the control protocol. What it may do
    /// follows from the key and from the device.
    Node,
    /// To be the server itself.
    System,
    /// Nobody may: no operation was named.
    Nobody,
}

/// What an operation needs of whoever calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    /// What a caller must have.
    pub rule: Rule,
    /// Who can be a caller.
    pub callers: Callers,
    /// What somebody is told who has not what is needed.
    pub denied: Denied,
}

/// Who can call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// People and trust credentials.
    All,
    /// People: users and the operator. Trust credentials (OAuth clients, federated identities) may
    /// not call it, whatever their scopes.
    People,
}

/// How somebody is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// They are told that they may not: 403.
    #[error("calling actor does not have enough permissions to perform this function")]
    Forbidden,
    /// They are told that there is nothing: 404. The official service does so where what is there
    /// is not for everybody to know.
    #[error("not found")]
    NotFound,
    /// Their credential is not good any more: 401.
    #[error("API token invalid")]
    Unauthenticated,
}

impl Requirement {
    /// Nothing, not even a credential.
    pub const ANYBODY: Self = Self::new(Rule::Anybody);
    /// What the request shows in its body.
    pub const SHOWS: Self = Self::new(Rule::Shows);
    /// Access to the API; what else is needed depends on the object.
    pub const CALLER: Self = Self::new(Rule::Caller);
    /// To be the operator of the server.
    pub const OPERATOR: Self = Self::new(Rule::Operator);
    /// To speak the control protocol.
    pub const NODE: Self = Self::new(Rule::Node);
    /// To be the server itself.
    pub const SYSTEM: Self = Self::new(Rule::System);
    /// What nobody meets: of an actor who has not said what they are about to do.
    pub const NOBODY: Self = Self::new(Rule::Nobody);

    const fn new(rule: Rule) -> Self {
        Self {
            rule,
            callers: Callers::All,
            denied: Denied::Forbidden,
        }
    }

    /// All of these scopes, and a right.
    pub const fn all(scopes: &'static [Scope], right: Right) -> Self {
        Self::new(Rule::All(Need { scopes, right }))
    }

    /// One of these needs.
    pub const fn any(needs: &'static [Need]) -> Self {
        Self::new(Rule::Any(needs))
    }

    /// One of these needs, or none where the object is the caller's own.
    pub const fn any_or_own(needs: &'static [Need]) -> Self {
        Self::new(Rule::AnyOrOwn(needs))
    }

    /// The need of each member that the body of the request has.
    pub const fn fields(fields: &'static [Field]) -> Self {
        Self::new(Rule::Fields(fields))
    }

    /// Access to the API, and the need of each member that the answer is to show.
    pub const fn shown(fields: &'static [Field]) -> Self {
        Self::new(Rule::Shown(fields))
    }

    /// Whoever lacks it is told that there is nothing.
    #[must_use]
    pub const fn hidden(mut self) -> Self {
        self.denied = Denied::NotFound;
        self
    }

    /// Trust credentials may not call it.
    #[must_use]
    pub const fn people_only(mut self) -> Self {
        self.callers = Callers::People;
        self
    }

    /// Whether a principal may call the operation, as far as that can be said without looking at
    /// the object and the request: of [`Rule::Any`], [`Rule::AnyOrOwn`] and [`Rule::Fields`] it
    /// must be possible that they may.
    ///
    /// # Errors
    /// How they are refused.
    pub fn check(&self, principal: &Principal) -> Result<(), Denied> {
        let may = match self.rule {
            Rule::Anybody | Rule::Shows => true,
            Rule::Caller | Rule::AnyOrOwn(_) | Rule::Shown(_) => principal.may_use_api(),
            Rule::All(need) => need.is_met_by(principal),
            Rule::Any(needs) => needs.iter().any(|need| need.is_met_by(principal)),
            Rule::Fields(fields) => fields.iter().any(|field| field.need.is_met_by(principal)),
            Rule::Operator => matches!(principal, Principal::Operator),
            Rule::Node => matches!(
                principal,
                Principal::AuthKey { .. } | Principal::Device { .. }
            ),
            Rule::System => matches!(principal, Principal::System),
            Rule::Nobody => false,
        };
        if may && self.admits(principal) {
            Ok(())
        } else {
            Err(self.denied)
        }
    }

    /// Whether a principal may change, or see, one member of the body. Of a member that the rule does
    /// not name nobody may, and where the rule is not about members, whoever may call the operation.
    ///
    /// # Errors
    /// How they are refused.
    pub fn check_field(&self, principal: &Principal, name: &str) -> Result<(), Denied> {
        self.check(principal)?;
        let (Rule::Fields(fields) | Rule::Shown(fields)) = self.rule else {
            return Ok(());
        };
        let field = fields.iter().find(|field| field.name == name);
        if field.is_some_and(|field| field.need.is_met_by(principal)) {
            Ok(())
        } else {
            Err(self.denied)
        }
    }

    /// Whether a principal may call the operation with these members in the body. `None`: it was
    /// not said which, and where members have needs of their own all of them are needed.
    ///
    /// # Errors
    /// How they are refused.
    pub fn check_fields(
        &self,
        principal: &Principal,
        names: Option<&[&str]>,
    ) -> Result<(), Denied> {
        self.check(principal)?;
        match (self.rule, names) {
            (Rule::Fields(_) | Rule::Shown(_), Some(names)) => names
                .iter()
                .try_for_each(|name| self.check_field(principal, name)),
            (Rule::Fields(fields), None) => fields
                .iter()
                .try_for_each(|field| self.check_field(principal, field.name)),
            _ => Ok(()),
        }
    }

    fn admits(&self, principal: &Principal) -> bool {
        match (self.callers, principal) {
            (Callers::People, Principal::OAuthClient(_) | Principal::FederatedIdentity(_)) => false,
            (
                Callers::People | Callers::All,
                Principal::User { .. }
                | Principal::OAuthClient(_)
                | Principal::FederatedIdentity(_)
                | Principal::AuthKey { .. }
                | Principal::Device { .. }
                | Principal::Operator
                | Principal::System,
            ) => true,
        }
    }

    /// Everything that it may need, in order.
    pub fn needs(&self) -> Vec<Need> {
        match self.rule {
            Rule::All(need) => vec![need],
            Rule::Any(needs) | Rule::AnyOrOwn(needs) => needs.to_vec(),
            Rule::Fields(fields) | Rule::Shown(fields) => {
                fields.iter().map(|field| field.need).collect()
            }
            Rule::Anybody
            | Rule::Shows
            | Rule::Caller
            | Rule::Operator
            | Rule::Node
            | Rule::System
            | Rule::Nobody => Vec::new(),
        }
    }

    /// Whether whoever meets it may only read by it: no change is made under such a requirement.
    pub fn only_reads(&self) -> bool {
        match self.rule {
            Rule::Anybody | Rule::Shown(_) => true,
            Rule::All(need) => need.only_reads(),
            Rule::Any(needs) | Rule::AnyOrOwn(needs) => needs.iter().all(Need::only_reads),
            Rule::Fields(fields) => fields.iter().all(|field| field.need.only_reads()),
            Rule::Shows
            | Rule::Caller
            | Rule::Operator
            | Rule::Node
            | Rule::System
            | Rule::Nobody => false,
        }
    }
}

#[cfg(test)]
mod tests;
