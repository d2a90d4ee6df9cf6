//! Who acts in a tailnet, by which credential, and what they are about to do.
//!
//! An actor says what a principal may do *at the moment when it was made*. A change may wait in the
//! writer's queue behind the actor's own demotion, suspension or revoked token, so the writer makes
//! the actor again from the draft before it runs the change ([`Actor::resolve`]), and checks what
//! the operation needs again. Closures take that actor from
//! [`Draft::actor`](crate::core::draft::Draft::actor) and none from outside.

use bowline_model::access_token::AccessToken;
use bowline_model::audit::{ActorRef, EventGroup};
use bowline_model::credential::{Credential, Kind};
use bowline_model::id::{DeviceId, KeyId, TailnetId, UserId};
use bowline_model::principal::{Principal, TrustCredential};
use bowline_model::requirement::{Denied, Need, Requirement};
use bowline_model::scope::Scopes;
use bowline_netmap::snapshot::Snapshot;
use jiff::Timestamp;

/// Somebody who was let in, in one tailnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor {
    /// The tailnet of their credential: every lookup stays inside it.
    pub tailnet: TailnetId,
    /// Who they are, and what they may do.
    pub principal: Principal,
    /// The credential they showed. What has none came in by a door that needs none: the operator's
    /// socket, or the server itself.
    pub credential: Option<KeyId>,
    /// When what they showed stops being good, where no snapshot says it: of an access token, which
    /// is in the database only.
    expires: Option<Timestamp>,
    /// What the operation needs that they are about to do.
    requirement: Requirement,
    /// The members of the request's body, where each of them has a need of its own. `None`: it was
    /// not said, and all are needed.
    fields: Option<Vec<&'static str>>,
    /// What the events of their request have in common. `None`: each change has a group of its own.
    group: Option<EventGroup>,
}

impl Actor {
    fn new(tailnet: TailnetId, principal: Principal, requirement: Requirement) -> Self {
        Self {
            tailnet,
            principal,
            credential: None,
            expires: None,
            requirement,
            fields: None,
            group: None,
        }
    }

    /// The operator of the server, acting in a tailnet. What they are about to do is still to be
    /// said.
    pub fn operator(tailnet: TailnetId) -> Self {
        Self::new(tailnet, Principal::Operator, Requirement::NOBODY)
    }

    /// The server itself, when something falls due.
    pub(crate) fn system(tailnet: TailnetId) -> Self {
        Self::new(tailnet, Principal::System, Requirement::SYSTEM)
    }

    /// Whoever holds an auth key, while they register a device.
    pub(crate) fn auth_key(tailnet: TailnetId, id: KeyId) -> Self {
        Self::new(tailnet, Principal::AuthKey { id }, Requirement::NODE)
    }

    /// A device, over the control protocol. Its name is that of the draft.
    pub(crate) fn device(tailnet: TailnetId, id: DeviceId) -> Self {
        let name = String::new();
        Self::new(tailnet, Principal::Device { id, name }, Requirement::NODE)
    }

    /// Who presents a credential, where that is good now and calls the API. `None` where it does
    /// not, and where its user may not act.
    pub(crate) fn presenting(
        view: &Snapshot,
        credential: &Credential,
        now: Timestamp,
    ) -> Option<Self> {
        if !credential.is_valid(now) {
            return None;
        }
        let principal = match &credential.kind {
            Kind::Api => {
                let user = view.user(credential.user?)?;
                user.is_active().then(|| Principal::User {
                    id: user.id,
                    login: user.login_name.clone(),
                    role: user.role,
                    scopes: Scopes::all(),
                })?
            }
            // They get access tokens and call nothing themselves.
            Kind::Auth(_) | Kind::Client(_) | Kind::Federated(_) | Kind::Scim => return None,
        };
        Some(Self {
            credential: Some(credential.id),
            ..Self::new(view.id(), principal, Requirement::NOBODY)
        })
    }

    /// Whoever presents an access token that was made from an OAuth client or a federated identity.
    /// `None` where that one, or the token, is not good any more.
    pub(crate) fn by_access_token(
        view: &Snapshot,
        token: &AccessToken,
        now: Timestamp,
    ) -> Option<Self> {
        if !token.is_valid(now) {
            return None;
        }
        let trusted = TrustCredential {
            id: token.parent,
            scopes: token.scopes.clone(),
            tags: token.tags.clone(),
            narrows_tags: token.narrows_tags,
        };
        let principal = trusted_by(view, trusted, token.expires, now)?;
        Some(Self {
            credential: Some(token.id),
            expires: Some(token.expires),
            ..Self::new(view.id(), principal, Requirement::NOBODY)
        })
    }

    /// An OAuth client or a federated identity itself, where it showed that it is that one: to be given
    /// an access token, and for nothing else. `None` where it is not good any more.
    pub(crate) fn trusted_itself(
        view: &Snapshot,
        credential: &Credential,
        now: Timestamp,
    ) -> Option<Self> {
        let (scopes, tags) = credential.granted()?;
        let trusted = TrustCredential {
            id: credential.id,
            scopes: scopes.clone(),
            tags: tags.clone(),
            narrows_tags: false,
        };
        let principal = trusted_by(view, trusted, Timestamp::MAX, now)?;
        Some(Self {
            credential: Some(credential.id),
            ..Self::new(view.id(), principal, Requirement::CALLER)
        })
    }

    /// The actor, about to do something that has this requirement. Whether they may is asked with
    /// [`Self::check`], and again where the change is made.
    #[must_use]
    pub fn asking(self, requirement: Requirement) -> Self {
        Self {
            requirement,
            fields: None,
            ..self
        }
    }

    /// The actor, about to change these members and no others, where each member has a need of its
    /// own.
    #[must_use]
    pub fn changing(self, fields: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            fields: Some(fields.into_iter().collect()),
            ..self
        }
    }

    /// The actor, whose changes are one request: their events have this group in common.
    #[must_use]
    pub fn in_group(self, group: EventGroup) -> Self {
        Self {
            group: Some(group),
            ..self
        }
    }

    /// The actor, who does something for another's request.
    #[must_use]
    pub fn in_group_of(self, other: &Self) -> Self {
        Self {
            group: other.group,
            ..self
        }
    }

    /// What the events of the actor's request have in common.
    pub fn group(&self) -> Option<EventGroup> {
        self.group
    }

    /// Whether the actor may do what they are about to do, as far as their credential and role say
    /// and as far as is known yet what it is about.
    ///
    /// # Errors
    /// How they are refused. Nobody may who has not said what they are about to do.
    pub fn check(&self) -> Result<(), Denied> {
        self.requirement.check(&self.principal)
    }

    /// The same where a change is made: of members that have needs of their own, all that the change
    /// did not leave out.
    pub(crate) fn check_change(&self) -> Result<(), Denied> {
        self.requirement
            .check_fields(&self.principal, self.fields.as_deref())
    }

    /// What the operation needs that the actor is about to do.
    pub fn requirement(&self) -> &Requirement {
        &self.requirement
    }

    /// Whether the actor has what one act needs: where that depends on the object.
    pub fn may(&self, need: &Need) -> bool {
        need.is_met_by(&self.principal)
    }

    /// Whether the actor may see or change a member that has a need of its own.
    pub fn may_field(&self, name: &str) -> bool {
        self.requirement.check_field(&self.principal, name).is_ok()
    }

    /// Whether the actor is this user.
    pub fn is_user(&self, user: UserId) -> bool {
        match &self.principal {
            Principal::User { id, .. } => *id == user,
            Principal::OAuthClient(_)
            | Principal::FederatedIdentity(_)
            | Principal::AuthKey { .. }
            | Principal::Device { .. }
            | Principal::Operator
            | Principal::System => false,
        }
    }

    /// How audit events name the actor.
    pub fn audit_ref(&self) -> ActorRef {
        self.principal.audit_ref(self.credential)
    }

    /// The same actor as they are in a state: with the role and the scopes of then.
    ///
    /// # Errors
    /// `Unauthenticated` where they are nobody any more: their credential was revoked or has
    /// expired, their user was suspended or is gone, the device was deleted.
    pub(crate) fn resolve(&self, view: &Snapshot, now: Timestamp) -> Result<Self, Denied> {
        match &self.principal {
            Principal::User { .. } => {
                // What is shown at the door is a credential, always: without one nobody is let in.
                let credential = self.credential.and_then(|id| view.credential(id));
                let current = credential
                    .and_then(|credential| Self::presenting(view, credential, now))
                    .filter(|current| current.principal.id() == self.principal.id())
                    .ok_or(Denied::Unauthenticated)?;
                Ok(Self {
                    principal: current.principal,
                    ..self.clone()
                })
            }
            // Their token is in the database only, where no draft looks: it was read at the door, and
            // is as good as what it was made from until it expires.
            // The parent itself comes without a token, and has what it has in this state.
            Principal::OAuthClient(trusted) | Principal::FederatedIdentity(trusted) => {
                if self.credential == Some(trusted.id) {
                    let parent = view.credential(trusted.id);
                    let current = parent
                        .and_then(|parent| Self::trusted_itself(view, parent, now))
                        .filter(|current| current.principal.id() == self.principal.id())
                        .ok_or(Denied::Unauthenticated)?;
                    return Ok(Self {
                        principal: current.principal,
                        ..self.clone()
                    });
                }
                let principal = self
                    .expires
                    .and_then(|expires| trusted_by(view, trusted.clone(), expires, now))
                    .filter(|current| current.id() == self.principal.id())
                    .ok_or(Denied::Unauthenticated)?;
                Ok(Self {
                    principal,
                    ..self.clone()
                })
            }
            Principal::Device { id, .. } => {
                let entry = view.device(*id).ok_or(Denied::Unauthenticated)?;
                let name = entry.device.name.clone();
                Ok(Self {
                    principal: Principal::Device { id: *id, name },
                    ..self.clone()
                })
            }
            // Registration looks at the auth key itself, in the draft: it has a text for each way in
            // which a key may not be good. The operator and the server lose nothing by a change.
            Principal::AuthKey { .. } | Principal::Operator | Principal::System => Ok(self.clone()),
        }
    }
}

/// The principal that an access token stands for, with those of its scopes that its parent still has.
/// `None` where the token has expired, or what it was made from is not good any more.
fn trusted_by(
    view: &Snapshot,
    mut trusted: TrustCredential,
    expires: Timestamp,
    now: Timestamp,
) -> Option<Principal> {
    let parent = view.credential(trusted.id)?;
    if expires <= now || !parent.is_valid(now) {
        return None;
    }
    let (granted, _) = parent.granted()?;
    if !granted.grant_all(trusted.scopes.as_slice()) {
        trusted.scopes = trusted.scopes.within(granted);
    }
    match &parent.kind {
        Kind::Client(_) => Some(Principal::OAuthClient(trusted)),
        Kind::Federated(_) => Some(Principal::FederatedIdentity(trusted)),
        Kind::Auth(_) | Kind::Api | Kind::Scim => None,
    }
}

#[cfg(test)]
mod tests;
