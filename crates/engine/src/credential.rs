//! Auth keys, API access tokens and other credentials: make, list, revoke, check.

pub mod access_token;
pub mod client;
pub(crate) mod due;
pub(crate) mod grant;
pub mod scim;

use std::sync::Arc;

use bowline_model::credential::{AuthKey, Credential, Kind, LIFETIME_MAX_SECONDS, is_description};
use bowline_model::event::{CredentialRef, Event};
use bowline_model::id::{KeyId, UserId};
use bowline_model::principal::Principal;
use bowline_model::requirement::Need;
use bowline_model::right::Right;
use bowline_model::scope::{Access, Scope};
pub use bowline_model::secret::Minted;
use bowline_model::secret::{Presented, SecretKind};
use bowline_model::user::Role;
use jiff::SignedDuration;

use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};
use crate::device::tag;
use crate::people::acting::{self, Owner};

/// What a new auth key is to be.
#[derive(Debug, Clone, Default)]
pub struct NewAuthKey {
    /// Good for more than one device.
    pub reusable: bool,
    /// Its devices are deleted some time after they go offline.
    pub ephemeral: bool,
    /// Its devices need no approval.
    pub preauthorized: bool,
    /// Tags of its devices, as requested.
    pub tags: Vec<String>,
    /// Lifetime in seconds, 1 to 7 776 000; absent or 0: 7 776 000 (90 days).
    pub expiry_seconds: Option<i64>,
    /// At most 50 of letters, digits, space, `-`, `_`.
    pub description: String,
}

/// What each kind of key needs to be seen, one after the other.
pub const READ_KEYS: &[Need] = &[
    READ_AUTH_KEYS,
    READ_ACCESS_TOKENS,
    READ_OAUTH_KEYS,
    READ_FEDERATED_KEYS,
];
/// What each kind of key needs to be made, changed or revoked, one after the other.
pub const WRITE_KEYS: &[Need] = &[
    WRITE_AUTH_KEYS,
    WRITE_ACCESS_TOKENS,
    WRITE_OAUTH_KEYS,
    WRITE_FEDERATED_KEYS,
    WRITE_SCIM_KEYS,
];

/// What each kind of key needs that the operation for keys makes: API access tokens have their own.
pub const MAKE_KEYS: &[Need] = &[WRITE_AUTH_KEYS, WRITE_OAUTH_KEYS, WRITE_FEDERATED_KEYS];

/// What each kind of key needs that can be changed.
pub const CHANGE_KEYS: &[Need] = &[WRITE_OAUTH_KEYS, WRITE_FEDERATED_KEYS];

/// What SCIM keys need to be seen. No official scope is about them: they decide about users and, by groups, about what the policy
/// file gives them: more than any single scope but `all`. Source: `docs/protocol/api-behaviour.md`,
/// section 4.3, "Configure user & group provisioning", for the roles.
pub const READ_SCIM_KEYS: Need = keys(&[Scope::ALL_READ], Right::WriteUsers);
/// What SCIM keys need to be made and revoked.
pub const WRITE_SCIM_KEYS: Need = keys(&[Scope::ALL], Right::WriteUsers);
const fn keys(scopes: &'static [Scope], right: Right) -> Need {
    Need { scopes, right }
}

const READ_AUTH_KEYS: Need = keys(&[Scope::AUTH_KEYS_READ], Right::AuthKeys);
const READ_ACCESS_TOKENS: Need = keys(&[Scope::API_ACCESS_TOKENS_READ], Right::ApiCredentials);
const READ_OAUTH_KEYS: Need = keys(&[Scope::OAUTH_KEYS_READ], Right::ApiCredentials);
const READ_FEDERATED_KEYS: Need = keys(&[Scope::FEDERATED_KEYS_READ], Right::ApiCredentials);
const WRITE_AUTH_KEYS: Need = keys(&[Scope::AUTH_KEYS], Right::AuthKeys);
const WRITE_ACCESS_TOKENS: Need = keys(&[Scope::API_ACCESS_TOKENS], Right::ApiCredentials);
const WRITE_OAUTH_KEYS: Need = keys(&[Scope::OAUTH_KEYS], Right::ApiCredentials);
const WRITE_FEDERATED_KEYS: Need = keys(&[Scope::FEDERATED_KEYS], Right::ApiCredentials);

/// What is needed to see a credential (`Access::Read`), or to change and revoke it.
fn need_of(credential: &Credential, access: Access) -> Need {
    match (&credential.kind, access) {
        (Kind::Auth(_), Access::Read) => READ_AUTH_KEYS,
        (Kind::Auth(_), Access::Write) => WRITE_AUTH_KEYS,
        (Kind::Api, Access::Read) => READ_ACCESS_TOKENS,
        (Kind::Api, Access::Write) => WRITE_ACCESS_TOKENS,
        (Kind::Client(_), Access::Read) => READ_OAUTH_KEYS,
        (Kind::Client(_), Access::Write) => WRITE_OAUTH_KEYS,
        (Kind::Federated(_), Access::Read) => READ_FEDERATED_KEYS,
        (Kind::Federated(_), Access::Write) => WRITE_FEDERATED_KEYS,
        (Kind::Scim, Access::Read) => READ_SCIM_KEYS,
        (Kind::Scim, Access::Write) => WRITE_SCIM_KEYS,
    }
}

fn lifetime(seconds: Option<i64>) -> Result<SignedDuration, Refusal> {
    let seconds = match seconds {
        None | Some(0) => i64::from(LIFETIME_MAX_SECONDS),
        Some(seconds) => seconds,
    };
    if !(1..=i64::from(LIFETIME_MAX_SECONDS)).contains(&seconds) {
        return Err(Refusal::invalid(format!(
            "expirySeconds must be between 1 and {LIFETIME_MAX_SECONDS} (90 days)"
        )));
    }
    Ok(SignedDuration::from_secs(seconds))
}

pub(crate) fn check_description(text: &str) -> Result<(), Refusal> {
    if is_description(text) {
        return Ok(());
    }
    Err(Refusal::invalid(
        "description must be at most 50 letters, digits, spaces, hyphens and underscores",
    ))
}

fn mint(draft: &Draft<'_>, kind: SecretKind) -> Result<(KeyId, Minted), Refusal> {
    let id = KeyId::new(draft.new_id()).ok_or(StoreFailure::Defect("ran out of ids"))?;
    for _ in 0..8 {
        if let Some(minted) = Minted::new(kind, id, &draft.random()) {
            return Ok((id, minted));
        }
    }
    Err(StoreFailure::Defect("no usable random bytes").into())
}

pub(crate) fn mint_token(
    draft: &mut Draft<'_>,
    user: UserId,
    description: &str,
    seconds: Option<i64>,
) -> Result<(Minted, Credential), Refusal> {
    let (id, minted) = mint(draft, SecretKind::Api)?;
    let now = draft.now();
    let credential = Credential {
        id,
        kind: Kind::Api,
        hash: Some(minted.hash()),
        user: Some(user),
        description: description.to_owned(),
        created: now,
        updated: None,
        expires: Some(now + lifetime(seconds)?),
        expired: None,
        expiry_told: None,
        revoked: None,
    };
    draft.audit(Event::CredentialCreated {
        credential: Box::new(credential.clone()),
    });
    draft.put(credential.clone());
    Ok((minted, credential))
}

impl Engine {
    /// Makes an auth key for a user: the actor, or one whom the actor may act for. What an OAuth
    /// client or a federated identity makes is the tailnet's, and has tags. A key's tags are such as
    /// the actor may assign, and its devices may ask for no others either.
    ///
    /// # Errors
    /// `NotPermitted` without the role, and for a user above the actor; `Invalid` for a lifetime, description or tags that cannot
    /// be; `NotFound` for another user who is not there.
    pub async fn create_auth_key(
        &self,
        actor: &Actor,
        user: Option<UserId>,
        new: NewAuthKey,
    ) -> Result<(Minted, Arc<Credential>), Refusal> {
        check_description(&new.description)?;
        lifetime(new.expiry_seconds)?;
        tag::check_count(&new.tags)?;
        self.write(actor, move |draft| {
            let maker = draft.actor();
            check_need(maker, &WRITE_AUTH_KEYS)?;
            let owner = acting::owner_for(draft.view(), maker, user)?;
            let tags = tag::permitted(draft.view(), maker, &new.tags)?;
            let user = match owner {
                Owner::User(user) => Some(user),
                Owner::Tailnet if tags.is_empty() => {
                    return Err(Refusal::invalid(
                        "tags are required: an auth key that an OAuth client or a federated identity makes belongs to tags",
                    ));
                }
                Owner::Tailnet => None,
            };
            let maker = acting::maker(maker).filter(|maker| user != Some(*maker));
            let (id, minted) = mint(draft, SecretKind::Auth)?;
            let now = draft.now();
            let credential = Credential {
                id,
                kind: Kind::Auth(AuthKey {
                    reusable: new.reusable,
                    ephemeral: new.ephemeral,
                    preauthorized: new.preauthorized,
                    tags,
                    maker,
                    used: None,
                }),
                hash: Some(minted.hash()),
                user,
                description: new.description.clone(),
                created: now,
                updated: None,
                expires: Some(now + lifetime(new.expiry_seconds)?),
                expired: None,
                expiry_told: None,
                revoked: None,
            };
            draft.audit(Event::CredentialCreated {
                credential: Box::new(credential.clone()),
            });
            draft.put(credential.clone());
            Ok((minted, Arc::new(credential)))
        })
        .await
    }

    /// Makes an API access token, which acts with its user's role of the moment.
    ///
    /// # Errors
    /// As [`Self::create_auth_key`]. Nobody but the operator makes a token for somebody else.
    pub async fn create_access_token(
        &self,
        actor: &Actor,
        user: Option<UserId>,
        description: &str,
        expiry_seconds: Option<i64>,
    ) -> Result<(Minted, Arc<Credential>), Refusal> {
        check_description(description)?;
        lifetime(expiry_seconds)?;
        let description = description.to_owned();
        self.write(actor, move |draft| {
            let maker = draft.actor();
            let user = acting::user_for(draft.view(), maker, user)?;
            // A token shows nobody but its user: what somebody else does with it would be theirs.
            let may = match &maker.principal {
                Principal::User { id, .. } => *id == user,
                Principal::Operator => true,
                Principal::OAuthClient(_)
                | Principal::FederatedIdentity(_)
                | Principal::AuthKey { .. }
                | Principal::Device { .. }
                | Principal::System => false,
            };
            if !may {
                return Err(Refusal::NotPermitted);
            }
            let (minted, credential) = mint_token(draft, user, &description, expiry_seconds)?;
            Ok((minted, Arc::new(credential)))
        })
        .await
    }

    /// Revokes a credential, or an access token of an OAuth client or a federated identity. Devices that
    /// it registered stay; access tokens that were made from it end with it. Twice is the same as once.
    ///
    /// # Errors
    /// `NotFound` also for another user's API access token, unless the actor may see all.
    pub async fn revoke_credential(&self, actor: &Actor, id: KeyId) -> Result<(), Refusal> {
        let is_hot = self
            .snapshot(actor.tailnet)
            .is_some_and(|view| view.credential(id).is_some());
        if !is_hot {
            return self.revoke_access_token(actor, id).await;
        }
        self.write(actor, move |draft| {
            let credential = draft
                .view()
                .credential(id)
                .cloned()
                .ok_or(Refusal::NotFound)?;
            check(draft.actor(), &credential, Access::Write)?;
            if credential.revoked.is_some() {
                return Ok(());
            }
            let now = draft.now();
            draft.audit(Event::CredentialRevoked {
                credential: CredentialRef::of(&credential),
                at: now,
            });
            draft.put(Credential {
                revoked: Some(now),
                ..(*credential).clone()
            });
            Ok(())
        })
        .await
    }

    /// A credential that the actor may see, valid or not. Everybody may see their own.
    ///
    /// # Errors
    /// `NotFound` also for another user's API access token, unless the actor may see all;
    /// `NotPermitted` without what its kind needs.
    pub fn credential(&self, actor: &Actor, id: KeyId) -> Result<Arc<Credential>, Refusal> {
        self.find_credential(actor, id, Access::Read)
    }

    /// A credential that the actor may change, valid or not.
    ///
    /// # Errors
    /// As [`Self::credential`].
    pub fn credential_to_change(
        &self,
        actor: &Actor,
        id: KeyId,
    ) -> Result<Arc<Credential>, Refusal> {
        self.find_credential(actor, id, Access::Write)
    }

    fn find_credential(
        &self,
        actor: &Actor,
        id: KeyId,
        access: Access,
    ) -> Result<Arc<Credential>, Refusal> {
        actor.check()?;
        let snapshot = self.snapshot(actor.tailnet).ok_or(Refusal::NotFound)?;
        let credential = snapshot.credential(id).ok_or(Refusal::NotFound)?;
        check(actor, credential, access)?;
        Ok(credential.clone())
    }

    /// Valid credentials: the actor's own, or with `all` everybody's that they may read.
    pub fn credentials(&self, actor: &Actor, all: bool) -> Vec<Arc<Credential>> {
        let Some(snapshot) = self.snapshot(actor.tailnet) else {
            return Vec::new();
        };
        if actor.check().is_err() {
            return Vec::new();
        }
        let is_listed = |credential: &Credential| match &actor.principal {
            Principal::User { id, .. } => credential.user == Some(*id) || all,
            // The tailnet's own, which are nobody's.
            Principal::OAuthClient(_) | Principal::FederatedIdentity(_) => {
                credential.user.is_none() || all
            }
            Principal::Operator => true,
            Principal::AuthKey { .. } | Principal::Device { .. } | Principal::System => false,
        };
        let now = self.now();
        snapshot
            .credentials()
            .filter(|credential| credential.is_valid(now))
            .filter(|credential| is_listed(credential) && may_see(actor, credential))
            .filter(|credential| actor.may(&need_of(credential, Access::Read)))
            .cloned()
            .collect()
    }

    /// Whether a token belongs to a tailnet that is out of order, so that nobody can tell whether it
    /// is good.
    pub fn is_token_out_of_order(&self, text: &str) -> bool {
        let tailnet =
            Presented::parse(text).and_then(|token| self.0.directory.credential(token.id));
        tailnet.is_some_and(|tailnet| self.is_held_back(tailnet))
    }

    /// Who presents this API access token, or this access token of an OAuth client or a federated
    /// identity, as far as the process knows it without reading: see
    /// [`Self::authenticate_stored`]. `None` when it is not good: unknown, expired, revoked, of another
    /// kind, or of a user who may not act.
    pub fn authenticate(&self, text: &str) -> Option<Actor> {
        self.authenticate_presented(&Presented::parse(text)?)
    }

    /// The same of a text that is read already.
    pub fn authenticate_presented(&self, presented: &Presented) -> Option<Actor> {
        if presented.kind != SecretKind::Api {
            return None;
        }
        let Some(tailnet) = self.0.directory.credential(presented.id) else {
            return self.by_known_token(presented);
        };
        let snapshot = self.snapshot(tailnet)?;
        let credential = snapshot.credential(presented.id)?;
        if !credential.is_presented_by(presented) {
            return None;
        }
        Actor::presenting(&snapshot, credential, self.now())
    }
}

/// Whether an actor has what one kind of key needs.
///
/// # Errors
/// `NotPermitted`.
pub(crate) fn check_need(actor: &Actor, need: &Need) -> Result<(), Refusal> {
    if actor.may(need) {
        Ok(())
    } else {
        Err(Refusal::NotPermitted)
    }
}

/// Whether an actor may see or change a credential.
pub(crate) fn check(actor: &Actor, credential: &Credential, access: Access) -> Result<(), Refusal> {
    if !may_see(actor, credential) {
        return Err(Refusal::NotFound);
    }
    let is_own = match &actor.principal {
        // Whoever has a key may revoke it, whatever their role has become.
        Principal::User { id, .. } => credential.user == Some(*id),
        Principal::OAuthClient(own) | Principal::FederatedIdentity(own) => {
            access == Access::Read && credential.id == own.id
        }
        Principal::AuthKey { .. }
        | Principal::Device { .. }
        | Principal::Operator
        | Principal::System => false,
    };
    if is_own || actor.may(&need_of(credential, access)) {
        Ok(())
    } else {
        Err(Refusal::NotPermitted)
    }
}

/// Whether an actor may know of a credential. What is the tailnet's is seen by everybody who has what
/// it needs, and so are auth keys; somebody's API access tokens by themselves, by those who may do everything, and by what was
/// given the scope for them.
fn may_see(actor: &Actor, credential: &Credential) -> bool {
    match (&credential.kind, &actor.principal) {
        (Kind::Api, Principal::User { id, role, .. }) => {
            credential.user == Some(*id) || matches!(role, Role::Owner | Role::Admin)
        }
        (Kind::Auth(_) | Kind::Client(_) | Kind::Federated(_) | Kind::Scim, _)
        | (
            Kind::Api,
            Principal::OAuthClient(_) | Principal::FederatedIdentity(_) | Principal::Operator,
        ) => true,
        (Kind::Api, Principal::AuthKey { .. } | Principal::Device { .. } | Principal::System) => {
            false
        }
    }
}
