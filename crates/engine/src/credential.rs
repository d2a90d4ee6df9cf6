//! Auth keys and API access tokens: make, list, revoke, check.

pub(crate) mod due;

use std::sync::Arc;

use bowline_model::audit::Target;
use bowline_model::credential::{AuthKey, Credential, Kind, LIFETIME_MAX_SECONDS, is_description};
use bowline_model::id::{KeyId, UserId};
pub use bowline_model::secret::Minted;
use bowline_model::secret::{Presented, SecretKind};
use bowline_model::user::Status;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::core::actor::{Access, Actor, Principal, Scope};
use crate::core::draft::Draft;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};
use crate::device::tag;
use crate::people::acting;

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

pub(crate) fn target(credential: &Credential) -> Target {
    let name = match credential.kind {
        Kind::Auth(_) => "Auth key",
        Kind::Api => "API access token",
    };
    Target {
        id: credential.id.stable(),
        name: name.to_owned(),
        kind: "API_KEY".to_owned(),
        property: None,
    }
}

/// The scope that a credential's kind needs.
pub fn scope_of(credential: &Credential) -> Scope {
    match credential.kind {
        Kind::Auth(_) => Scope::AuthKeys,
        Kind::Api => Scope::ApiAccessTokens,
    }
}

/// What an event says of a credential: everything in its record that grants something, and for whom.
fn told(credential: &Credential) -> Value {
    let mut told = json!({
        "type": credential.kind.name(),
        "user": credential.user.map(UserId::stable),
        "expires": credential.expires,
        "description": credential.description,
    });
    if let Kind::Auth(key) = &credential.kind {
        told["maker"] = json!(key.maker.map(UserId::stable));
        told["reusable"] = json!(key.reusable);
        told["ephemeral"] = json!(key.ephemeral);
        told["preauthorized"] = json!(key.preauthorized);
        told["authTags"] = json!(key.tags);
    }
    told
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

fn check_description(text: &str) -> Result<(), Refusal> {
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
        hash: minted.hash(),
        user: Some(user),
        description: description.to_owned(),
        created: now,
        expires: now + lifetime(seconds)?,
        expired: None,
        revoked: None,
    };
    draft.audit(
        "CREATE",
        target(&credential),
        Value::Null,
        told(&credential),
    );
    draft.put_credential(credential.clone());
    Ok((minted, credential))
}

impl Engine {
    /// Makes an auth key for a user: the actor, or one whom the actor may act for. Its tags
    /// are such as the actor may assign, and its devices may ask for no others either.
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
        if !actor.may(Scope::AuthKeys, Access::Write) {
            return Err(Refusal::NotPermitted);
        }
        check_description(&new.description)?;
        lifetime(new.expiry_seconds)?;
        tag::check_count(&new.tags)?;
        let maker = actor.clone();
        self.write(actor, move |draft| {
            let user = acting::user_for(draft.view(), &maker, user)?;
            let tags = tag::permitted(draft.view(), &maker, &new.tags)?;
            let (id, minted) = mint(draft, SecretKind::Auth)?;
            let now = draft.now();
            let credential = Credential {
                id,
                kind: Kind::Auth(AuthKey {
                    reusable: new.reusable,
                    ephemeral: new.ephemeral,
                    preauthorized: new.preauthorized,
                    tags,
                    maker: maker.user().filter(|maker| *maker != user),
                    used: None,
                }),
                hash: minted.hash(),
                user: Some(user),
                description: new.description.clone(),
                created: now,
                expires: now + lifetime(new.expiry_seconds)?,
                expired: None,
                revoked: None,
            };
            draft.audit(
                "CREATE",
                target(&credential),
                Value::Null,
                told(&credential),
            );
            draft.put_credential(credential.clone());
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
        if !actor.may(Scope::ApiAccessTokens, Access::Write) {
            return Err(Refusal::NotPermitted);
        }
        check_description(description)?;
        lifetime(expiry_seconds)?;
        let (maker, description) = (actor.clone(), description.to_owned());
        self.write(actor, move |draft| {
            let user = acting::user_for(draft.view(), &maker, user)?;
            // A token shows nobody but its user: what somebody else does with it would be theirs.
            if maker.user().is_some_and(|own| own != user) {
                return Err(Refusal::NotPermitted);
            }
            let (minted, credential) = mint_token(draft, user, &description, expiry_seconds)?;
            Ok((minted, Arc::new(credential)))
        })
        .await
    }

    /// Revokes a credential. Devices that it registered stay. Twice is the same as once.
    ///
    /// # Errors
    /// `NotFound` also for another user's API access token, unless the actor may see all.
    pub async fn revoke_credential(&self, actor: &Actor, id: KeyId) -> Result<(), Refusal> {
        let actor_copy = actor.clone();
        self.write(actor, move |draft| {
            let credential = draft
                .view()
                .credential(id)
                .cloned()
                .ok_or(Refusal::NotFound)?;
            if !may_see(&actor_copy, &credential) {
                return Err(Refusal::NotFound);
            }
            if !actor_copy.may(scope_of(&credential), Access::Write) {
                return Err(Refusal::NotPermitted);
            }
            if credential.revoked.is_some() {
                return Ok(());
            }
            let revoked = Credential {
                revoked: Some(draft.now()),
                ..(*credential).clone()
            };
            draft.audit(
                "REVOKE",
                target(&credential),
                Value::Null,
                json!({"revoked": revoked.revoked}),
            );
            draft.put_credential(revoked);
            Ok(())
        })
        .await
    }

    /// A credential that the actor may see, valid or not.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn credential(&self, actor: &Actor, id: KeyId) -> Result<Arc<Credential>, Refusal> {
        let snapshot = self.snapshot(actor.tailnet).ok_or(Refusal::NotFound)?;
        snapshot
            .credential(id)
            .filter(|credential| may_see(actor, credential))
            .cloned()
            .ok_or(Refusal::NotFound)
    }

    /// Valid credentials: the actor's own, or with `all` everybody's that they may read.
    pub fn credentials(&self, actor: &Actor, all: bool) -> Vec<Arc<Credential>> {
        let Some(snapshot) = self.snapshot(actor.tailnet) else {
            return Vec::new();
        };
        let own = actor.user();
        let all = all || own.is_none();
        let now = self.now();
        snapshot
            .credentials()
            .filter(|credential| credential.is_valid(now))
            .filter(|credential| {
                let is_own = own.is_some() && credential.user == own;
                is_own || (all && may_see(actor, credential))
            })
            .filter(|credential| actor.may(scope_of(credential), Access::Read))
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

    /// Who presents this API access token. `None` when it is not good: unknown, expired, revoked,
    /// of another kind, or of a user who may not act.
    pub fn authenticate(&self, text: &str) -> Option<Actor> {
        let presented =
            Presented::parse(text).filter(|presented| presented.kind == SecretKind::Api)?;
        let tailnet = self.0.directory.credential(presented.id)?;
        let snapshot = self.snapshot(tailnet)?;
        let credential = snapshot.credential(presented.id)?;
        let is_good = credential.hash == presented.hash
            && credential.is_valid(self.now())
            && credential.kind == Kind::Api;
        let user = snapshot.user(credential.user?)?;
        if !is_good || user.status != Status::Active {
            return None;
        }
        Some(Actor {
            tailnet,
            principal: Principal::User {
                id: user.id,
                login: user.login_name.clone(),
                role: user.role,
            },
            credential: Some(credential.id),
        })
    }
}

/// Auth keys are seen by everybody with the scope; somebody's API access tokens by themselves, the
/// operator, and those who may do everything.
fn may_see(actor: &Actor, credential: &Credential) -> bool {
    use bowline_model::user::Role;
    match (&credential.kind, &actor.principal) {
        (Kind::Auth(_), _) | (Kind::Api, Principal::Operator) => true,
        (Kind::Api, Principal::User { id, role, .. }) => {
            credential.user == Some(*id) || matches!(role, Role::Owner | Role::Admin)
        }
    }
}
