//! Actors whose rights change while their change waits, and actors that are no users.

use std::sync::Arc;

use bowline_model::access_token::AccessToken;
use bowline_model::credential::{FederatedIdentity, OAuthClient};
use bowline_model::event::Event;
use bowline_model::principal::PrincipalId;
use bowline_model::right::Right;
use bowline_model::scope::Scope;
use bowline_model::secret::SecretHash;
use bowline_model::user::{Role, Status, User};
use bowline_store::{Options, Store};
use futures_util::future::join3;
use jiff::SignedDuration;

use super::*;
use crate::core::draft::Draft;
use crate::credential::{NewAuthKey, READ_KEYS, WRITE_KEYS};
use crate::login::LoginState;
use crate::people::acting;
use crate::settings::{CHANGED_SETTINGS, SettingsEdit};
use crate::{
    Engine, Refusal, Registered, Registration, Settings, StoreFailure, SystemClock, SystemRandom,
};

const DNS: Requirement = Requirement::all(&[Scope::DNS], Right::WriteNetwork);
const DEVICES: Requirement = Requirement::all(&[Scope::DEVICES_CORE], Right::WriteDevices);
const TAGS: Requirement = Requirement::all(&[Scope::DEVICES_CORE], Right::SetDeviceTags);
const AUTH_KEYS: Requirement = Requirement::all(&[Scope::AUTH_KEYS], Right::AuthKeys);
const USERS: Requirement = Requirement::all(&[Scope::USERS], Right::WriteUsers);

struct Net {
    engine: Engine,
    tailnet: TailnetId,
    owner: Actor,
    _directory: tempfile::TempDir,
}

/// What a write takes that stands for what no use case does yet: in the operator's name.
type Result<T> = std::result::Result<T, Refusal>;

impl Net {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bowline.db");
        let store = Store::open(&path.as_path().into(), Options::default()).await;
        let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
        let engine = Engine::open(store.unwrap(), Settings::default(), clock, random)
            .await
            .unwrap();
        let made = engine
            .create_tailnet("ann@example.com", None)
            .await
            .unwrap();
        let owner = engine.authenticate(made.token.expose()).unwrap();
        let net = Self {
            engine,
            tailnet: made.tailnet,
            owner: owner.asking(Requirement::CALLER),
            _directory: directory,
        };
        let policy = r#"{
            "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
            "tagOwners": {"tag:operator": [], "tag:proxy": ["tag:operator"], "tag:other": []},
        }"#;
        let policy = Arc::new(bowline_policy::Policy::parse(policy).unwrap());
        let set = net.engine.set_policy_file(&net.owner, Some(policy), None);
        set.await.unwrap();
        net
    }

    fn operator(&self) -> Actor {
        Actor::operator(self.tailnet).asking(Requirement::CALLER)
    }

    /// Changes a record that no use case changes yet, and tells everything in it: without an event it
    /// would be refused.
    fn put(
        &self,
        mut change: impl FnMut(&mut Draft<'_>) + Send + 'static,
    ) -> impl Future<Output = Result<u64>> {
        let operator = self.operator();
        let engine = self.engine.clone();
        async move {
            engine
                .write(&operator, move |draft| {
                    change(draft);
                    tell_all(draft);
                    Ok(draft.view().seq)
                })
                .await
        }
    }

    async fn user(&self, login: &str, role: Role) -> (User, Actor) {
        let made = self.engine.create_user(&self.owner, login, None, role);
        let user = made.await.unwrap();
        let operator = self.operator();
        let made = self
            .engine
            .create_access_token(&operator, Some(user.id), "", None);
        let (token, _) = made.await.unwrap();
        (user, self.engine.authenticate(token.expose()).unwrap())
    }

    /// Whoever presents an access token of a new OAuth client, or federated identity.
    async fn trusted(&self, mut kind: Kind, scopes: &[&str], tags: &[&str]) -> Actor {
        // Their parent has what they have.
        if let Kind::Client(OAuthClient {
            scopes: granted,
            tags: given,
        })
        | Kind::Federated(FederatedIdentity {
            scopes: granted,
            tags: given,
            ..
        }) = &mut kind
        {
            *granted = scopes.iter().map(|text| text.parse().unwrap()).collect();
            *given = tags.iter().map(|text| text.parse().unwrap()).collect();
        }
        let (sender, made) = std::sync::mpsc::channel();
        let put = self.put(move |draft| {
            let (parent, id) = (draft.new_id(), draft.new_id());
            let (parent, id) = (KeyId::new(parent).unwrap(), KeyId::new(id).unwrap());
            draft.put(Credential {
                id: parent,
                kind: kind.clone(),
                hash: None,
                user: None,
                description: String::new(),
                created: draft.now(),
                updated: None,
                expires: None,
                expired: None,
                expiry_told: None,
                revoked: None,
            });
            sender.send((parent, id)).unwrap();
        });
        put.await.unwrap();
        let (parent, id) = made.recv().unwrap();
        let now = self.engine.now();
        let token = AccessToken {
            id,
            hash: SecretHash::of("secret"),
            parent,
            scopes: scopes.iter().map(|text| text.parse().unwrap()).collect(),
            tags: tags.iter().map(|text| text.parse().unwrap()).collect(),
            narrows_tags: false,
            created: now,
            expires: now + SignedDuration::from_hours(1),
            revoked: None,
        };
        let snapshot = self.engine.snapshot(self.tailnet).unwrap();
        // Good for its hour, and no longer.
        assert!(Actor::by_access_token(&snapshot, &token, token.expires).is_none());
        Actor::by_access_token(&snapshot, &token, now).unwrap()
    }

    async fn client(&self, scopes: &[&str], tags: &[&str]) -> Actor {
        let kind = Kind::Client(OAuthClient::default());
        self.trusted(kind, scopes, tags).await
    }

    /// Runs a change in front of an actor's, in one batch; what becomes of the actor's.
    async fn behind(
        &self,
        change: impl FnMut(&mut Draft<'_>) + Send + 'static,
        actor: &Actor,
    ) -> Result<()> {
        // In one task nobody runs between them: the writer finds all three in its queue.
        let (first, second, third) = join3(
            self.put(change),
            self.engine.write(actor, |_| Ok(())),
            self.put(|_| ()),
        )
        .await;
        assert_eq!(first.unwrap(), third.unwrap(), "not in one batch");
        second
    }
}

fn tell_all(draft: &mut Draft<'_>) {
    let written: Vec<_> = draft.changes.rows.keys().copied().collect();
    for id in written {
        let view = draft.view();
        let user = id.get::<User>().and_then(|id| view.user(id)).cloned();
        let credential = id.get::<Credential>().and_then(|id| view.credential(id));
        let credential = credential.cloned();
        if let Some(user) = user {
            draft.audit(Event::UserCreated {
                user: Box::new((*user).clone()),
            });
        }
        if let Some(credential) = credential {
            draft.audit(Event::CredentialCreated {
                credential: Box::new((*credential).clone()),
            });
        }
    }
}

fn request(number: u8, auth_key: &str) -> Registration {
    Registration {
        machine_key: bowline_model::key::MachineKey::from_bytes([number; 32]).unwrap(),
        node_key: bowline_model::key::NodeKey::from_bytes([number; 32]).unwrap(),
        old_node_key: None,
        lock_key: String::new(),
        auth_key: Some(auth_key.to_owned()).filter(|key| !key.is_empty()),
        expiry: None,
        ephemeral: false,
        capability_version: 113,
        hostinfo: bowline_model::record::RawJson::empty_object(),
        facts: bowline_model::device::HostFacts::default(),
    }
}

fn with_role(user: &User, role: Role) -> User {
    User {
        role,
        ..user.clone()
    }
}

#[tokio::test]
async fn what_waits_behind_its_own_demotion_or_suspension_is_refused() {
    let net = Net::new().await;
    let (user, actor) = net.user("nat@example.com", Role::NetworkAdmin).await;
    let actor = actor.asking(DNS);
    net.engine
        .write(&actor, |_| Ok::<_, Refusal>(()))
        .await
        .unwrap();
    let demoted = with_role(&user, Role::ItAdmin);
    let refused = net.behind(move |draft| draft.put(demoted.clone()), &actor);
    assert!(matches!(refused.await, Err(Refusal::NotPermitted)));
    // And back: the same actor, who was told to be a network administrator once, may again.
    let promoted = user.clone();
    let accepted = net.behind(move |draft| draft.put(promoted.clone()), &actor);
    accepted.await.unwrap();
    let suspended = User {
        status: Status::Suspended,
        ..user
    };
    let refused = net.behind(move |draft| draft.put(suspended.clone()), &actor);
    assert!(matches!(refused.await, Err(Refusal::Unauthenticated)));
}

#[tokio::test]
async fn what_waits_behind_the_end_of_its_token_is_refused() {
    let net = Net::new().await;
    for (number, ends) in [
        |credential: Credential, now| Credential {
            revoked: Some(now),
            ..credential
        },
        |credential: Credential, now| Credential {
            expires: Some(now),
            ..credential
        },
        // A credential of another kind and another user: nothing that was shown at the door.
        |credential: Credential, _| Credential {
            user: None,
            ..credential
        },
    ]
    .into_iter()
    .enumerate()
    {
        let login = format!("user{number}@example.com");
        let (_, actor) = net.user(&login, Role::Admin).await;
        let actor = actor.asking(DNS);
        let id = actor.credential.unwrap();
        let refused = net.behind(
            move |draft| {
                let credential = (**draft.view().credential(id).unwrap()).clone();
                let ended = ends(credential, draft.now());
                draft.put(ended);
            },
            &actor,
        );
        assert!(matches!(refused.await, Err(Refusal::Unauthenticated)));
    }
}

#[tokio::test]
async fn a_revoked_client_ends_its_tokens_also_those_that_wait() {
    let net = Net::new().await;
    let federated = FederatedIdentity {
        issuer: "https://issuer.example.com".to_owned(),
        ..FederatedIdentity::default()
    };
    for kind in [
        Kind::Client(OAuthClient::default()),
        Kind::Federated(federated),
    ] {
        let actor = net.trusted(kind, &["dns"], &[]).await.asking(DNS);
        let (Principal::OAuthClient(own) | Principal::FederatedIdentity(own)) = &actor.principal
        else {
            panic!("{actor:?}");
        };
        let parent = own.id;
        net.engine
            .write(&actor, |_| Ok::<_, Refusal>(()))
            .await
            .unwrap();
        let refused = net.behind(
            move |draft| {
                let credential = (**draft.view().credential(parent).unwrap()).clone();
                let revoked = Some(draft.now());
                draft.put(Credential {
                    revoked,
                    ..credential
                });
            },
            &actor,
        );
        assert!(matches!(refused.await, Err(Refusal::Unauthenticated)));
    }
    // Nor is one good that outlives its hour in the queue.
    let fresh = net.client(&["dns"], &[]).await;
    let (snapshot, now) = (net.engine.snapshot(net.tailnet).unwrap(), net.engine.now());
    assert!(fresh.resolve(&snapshot, now).is_ok());
    let later = now + SignedDuration::from_hours(1);
    assert_eq!(
        fresh.resolve(&snapshot, later),
        Err(Denied::Unauthenticated)
    );
}

#[tokio::test]
async fn who_has_not_said_what_they_do_and_who_only_reads_change_nothing() {
    let net = Net::new().await;
    let silent = Actor::operator(net.tailnet);
    let written = net.engine.write(&silent, |_| Ok::<_, Refusal>(())).await;
    assert!(matches!(written, Err(Refusal::NotPermitted)));
    let reading = Requirement::all(&[Scope::DNS_READ], Right::ReadNetwork);
    let reader = net.owner.clone().asking(reading);
    let written = net.engine.write(&reader, |_| Ok::<_, Refusal>(())).await;
    assert!(matches!(
        written,
        Err(Refusal::Store(StoreFailure::Defect(_)))
    ));
}

#[tokio::test]
async fn each_setting_is_changed_by_those_who_may_change_it() {
    let net = Net::new().await;
    let changing = Requirement::fields(CHANGED_SETTINGS);
    let edit = SettingsEdit {
        device_approval_on: Some(true),
        ..SettingsEdit::default()
    };
    let (_, network) = net.user("nat@example.com", Role::NetworkAdmin).await;
    let network = network.asking(changing);
    // There are settings that they may change; this is not one of them.
    assert_eq!(network.check(), Ok(()));
    let refused = net.engine.edit_settings(&network, edit).await;
    assert!(matches!(refused, Err(Refusal::NotPermitted)));
    let (_, it) = net.user("ida@example.com", Role::ItAdmin).await;
    let it = it.asking(changing);
    net.engine.edit_settings(&it, edit).await.unwrap();
    // A change that does not say which settings it is about may be about any of them.
    let unsaid = net.engine.write(&it, |_| Ok::<_, Refusal>(())).await;
    assert!(matches!(unsaid, Err(Refusal::NotPermitted)));
    let client = net.client(&["networking_settings"], &[]).await;
    let refused = net
        .engine
        .edit_settings(&client.asking(changing), edit)
        .await;
    assert!(matches!(refused, Err(Refusal::NotPermitted)));
}

#[tokio::test]
async fn an_oauth_client_does_what_its_scopes_say_and_acts_for_nobody() {
    let net = Net::new().await;
    let engine = &net.engine;
    let owner = net.owner.principal.id();
    let bowline_model::principal::PrincipalId::User(owner) = owner else {
        panic!("{owner:?}");
    };
    // Everything that can be given, and it still is nobody's user.
    let client = net.client(&["all"], &["tag:operator"]).await;
    let client = client.asking(Requirement::CALLER);
    for user in [None, Some(owner)] {
        let made = engine.create_access_token(&client, user, "", None).await;
        assert!(matches!(made, Err(Refusal::NotPermitted)), "{user:?}");
    }
    let made = engine
        .create_auth_key(&client, Some(owner), NewAuthKey::default())
        .await;
    assert!(matches!(made, Err(Refusal::NotPermitted)));
    let source = [192, 0, 2, 1].into();
    let code = engine.begin_login(request(1, ""), source).await.unwrap();
    let named = owner.stable();
    let confirmed = engine.confirm_login(&client, &code, Some(&named), None);
    assert!(matches!(confirmed.await, Err(Refusal::NotPermitted)));
    assert_eq!(engine.login(&code).unwrap().state, LoginState::Waiting);
    // Where no user is meant, it may.
    engine.refuse_login(&client, &code).await.unwrap();
    let making = client.asking(USERS);
    let made = engine.create_user(&making, "bo@example.com", None, Role::Member);
    made.await.unwrap();
    // With fewer scopes it may less, whatever the operation is.
    let narrow = net.client(&["dns"], &[]).await;
    let making = narrow.asking(USERS);
    let made = engine.create_user(&making, "cy@example.com", None, Role::Member);
    assert!(matches!(made.await, Err(Refusal::NotPermitted)));
}

#[tokio::test]
async fn an_oauth_client_gives_no_role_that_it_was_not_given_and_takes_nothing_from_the_owner() {
    let net = Net::new().await;
    let engine = &net.engine;
    let (bob, _) = net.user("bob@example.com", Role::Member).await;
    let (admin, _) = net.user("adam@example.com", Role::Admin).await;
    let client = net.client(&["users"], &[]).await.asking(USERS);
    let everything = net.client(&["all"], &[]).await.asking(USERS);
    for role in Role::EVERY {
        let given = engine.set_user_role(&client, bob.id, role).await;
        assert_eq!(given.is_ok(), role == Role::Member, "{role:?}: {given:?}");
        let given = engine.set_user_role(&everything, bob.id, role).await;
        assert_eq!(given.is_ok(), role != Role::Owner, "{role:?}: {given:?}");
        let login = format!("{}@example.com", role.as_str());
        let made = engine.create_user(&client, &login, None, role).await;
        assert_eq!(made.is_ok(), role == Role::Member, "{role:?}: {made:?}");
    }
    // Offboarding is what it is for, whoever leaves; the owner does not.
    engine.suspend_user(&client, admin.id).await.unwrap();
    engine.delete_user(&client, admin.id).await.unwrap();
    let PrincipalId::User(owner) = net.owner.principal.id() else {
        panic!("{:?}", net.owner);
    };
    for refused in [
        engine.suspend_user(&everything, owner).await,
        engine.delete_user(&everything, owner).await,
        engine.set_user_role(&everything, owner, Role::Member).await,
    ] {
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn whom_nobody_vouches_for_waits_and_their_device_with_them() {
    let net = Net::new().await;
    let engine = &net.engine;
    let set = async |on| {
        let edit = SettingsEdit {
            users_approval_on: Some(on),
            ..SettingsEdit::default()
        };
        engine.edit_settings(&net.operator(), edit).await.unwrap();
    };
    let client = net.client(&["users"], &[]).await.asking(USERS);
    let make = async |login: &str| {
        let made = engine.create_user(&client, login, None, Role::Member);
        made.await.unwrap()
    };
    assert!(!make("before@example.com").await.needs_approval);
    set(true).await;
    let bob = make("bob@example.com").await;
    let eve = make("eve@example.com").await;
    assert!(bob.needs_approval && !bob.is_active());
    // They get in, with a device that nobody sees and a token that is not good yet.
    let operator = net.operator();
    let made = engine.create_access_token(&operator, Some(bob.id), "", None);
    let (token, _) = made.await.unwrap();
    let new = NewAuthKey::default();
    let made = engine.create_auth_key(&net.owner, Some(bob.id), new);
    let (key, _) = made.await.unwrap();
    let registered = engine.register(request(7, key.expose())).await.unwrap();
    let crate::Registered::In { device, .. } = registered else {
        panic!("{registered:?}");
    };
    let is_seen = || {
        let snapshot = engine.snapshot(net.tailnet).unwrap();
        snapshot.device(device).unwrap().sees_peers()
    };
    let is_good = || engine.authenticate(token.expose()).is_some();
    assert!(!is_seen() && !is_good());
    // A suspension that ends is not an approval.
    engine.suspend_user(&net.owner, bob.id).await.unwrap();
    engine.restore_user(&net.owner, bob.id).await.unwrap();
    assert!(!is_seen() && !is_good());
    for _ in 0..2 {
        engine.approve_user(&net.owner, bob.id).await.unwrap();
    }
    assert!(is_seen() && is_good());
    // Whoever still waits when nobody is to wait any more is let in.
    set(false).await;
    let snapshot = engine.snapshot(net.tailnet).unwrap();
    assert!(snapshot.user(eve.id).unwrap().is_active());
}

#[tokio::test]
async fn what_an_oauth_client_makes_is_the_tailnets_and_has_its_tags() {
    let net = Net::new().await;
    let engine = &net.engine;
    let client = net
        .client(&["auth_keys", "devices:core"], &["tag:operator"])
        .await;
    let client = client.asking(AUTH_KEYS);
    let new = |tags: &[&str]| NewAuthKey {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..NewAuthKey::default()
    };
    for (tags, text) in [
        (
            &[][..],
            "tags are required: an auth key that an OAuth client or a federated identity makes belongs to tags",
        ),
        (
            &["tag:other"],
            "requested tags [tag:other] are invalid or not permitted",
        ),
        (
            &["tag:operator", "tag:other"],
            "requested tags [tag:operator tag:other] are invalid or not permitted",
        ),
    ] {
        let refused = engine.create_auth_key(&client, None, new(tags)).await;
        assert_eq!(refused.unwrap_err().to_string(), text);
    }
    for (number, tag) in [(1, "tag:operator"), (2, "tag:proxy")] {
        let made = engine.create_auth_key(&client, None, new(&[tag])).await;
        let (key, credential) = made.unwrap();
        assert_eq!(credential.user, None);
        let registered = engine.register(request(number, key.expose())).await;
        let Ok(Registered::In { device, .. }) = registered else {
            panic!("{registered:?}");
        };
        let entry = engine
            .snapshot(net.tailnet)
            .unwrap()
            .device(device)
            .cloned()
            .unwrap();
        assert_eq!(
            (entry.device.user, entry.device.registered_by),
            (None, None)
        );
        assert!(
            entry
                .device
                .tags
                .iter()
                .map(bowline_model::tag::Tag::as_str)
                .eq([tag])
        );
        // It gives tags by the same rule, and nobody can have the device without.
        let tagging = client.clone().asking(TAGS);
        let other = vec!["tag:other".to_owned()];
        assert!(
            engine
                .set_device_tags(&tagging, device, other)
                .await
                .is_err()
        );
        assert!(
            engine
                .set_device_tags(&tagging, device, Vec::new())
                .await
                .is_err()
        );
        let own = vec!["tag:operator".to_owned()];
        engine.set_device_tags(&tagging, device, own).await.unwrap();
        let renaming = client.clone().asking(DEVICES);
        let name = format!("made{number}");
        engine
            .rename_device(&renaming, device, &name)
            .await
            .unwrap();
        assert!(
            engine
                .rename_device(&renaming.asking(DNS), device, "x")
                .await
                .is_err()
        );
    }
}

#[tokio::test]
async fn each_caller_sees_the_keys_that_are_its_own_to_see() {
    let net = Net::new().await;
    let engine = &net.engine;
    let client = net
        .client(&["auth_keys", "oauth_keys:read"], &["tag:operator"])
        .await;
    let tags = vec!["tag:operator".to_owned()];
    let new = NewAuthKey {
        tags,
        ..NewAuthKey::default()
    };
    let making = client.clone().asking(AUTH_KEYS);
    engine.create_auth_key(&making, None, new).await.unwrap();
    let of_owner = engine.create_auth_key(&net.owner, None, NewAuthKey::default());
    let (_, of_owner) = of_owner.await.unwrap();
    let names = |actor: &Actor, all| {
        let listing = actor.clone().asking(Requirement::any(READ_KEYS));
        let mut names: Vec<&str> = engine
            .credentials(&listing, all)
            .iter()
            .map(|credential| credential.kind.name())
            .collect();
        names.sort_unstable();
        names
    };
    // The owner's token and key are no business of the client's, unless it asks for all and was
    // given the scope.
    assert_eq!(names(&client, false), ["auth", "client"]);
    assert_eq!(names(&client, true), ["auth", "auth", "client"]);
    assert_eq!(names(&net.owner, false), ["api", "auth"]);
    assert_eq!(names(&net.owner, true), ["api", "auth", "auth", "client"]);
    // It may read and change nothing that it was not given.
    let reading = client.clone().asking(Requirement::any_or_own(READ_KEYS));
    let token = net.owner.credential.unwrap();
    assert!(matches!(
        engine.credential(&reading, token),
        Err(Refusal::NotPermitted)
    ));
    let writing = client.asking(Requirement::any_or_own(WRITE_KEYS));
    engine
        .revoke_credential(&writing, of_owner.id)
        .await
        .unwrap();
    let Principal::OAuthClient(own) = &writing.principal else {
        panic!("{writing:?}");
    };
    let revoked = engine.revoke_credential(&writing, own.id).await;
    assert!(matches!(revoked, Err(Refusal::NotPermitted)));
}

#[tokio::test]
async fn nobody_but_people_and_the_operator_says_who_sits_at_a_device() {
    let net = Net::new().await;
    let made = net
        .engine
        .create_auth_key(&net.owner, None, NewAuthKey::default());
    let (key, _) = made.await.unwrap();
    let registered = net.engine.register(request(1, key.expose())).await;
    let Ok(Registered::In { device, .. }) = registered else {
        panic!("{registered:?}");
    };
    let snapshot = net.engine.snapshot(net.tailnet).unwrap();
    let device = snapshot.device(device).unwrap().device.clone();
    let may = |actor: &Actor| acting::check_session(&snapshot, actor, &device).is_ok();
    assert!(may(&net.owner) && may(&net.operator()));
    for other in [
        net.client(&["all"], &[]).await,
        Actor::device(net.tailnet, device.id),
        Actor::auth_key(net.tailnet, device.auth_key.unwrap()),
        Actor::system(net.tailnet),
    ] {
        assert!(!may(&other), "{other:?}");
        let user = device.user.unwrap();
        assert!(acting::check(&snapshot, &other, user).is_err(), "{other:?}");
        assert!(
            acting::user_for(&snapshot, &other, None).is_err(),
            "{other:?}"
        );
    }
}
