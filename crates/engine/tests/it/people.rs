//! Users: who may change whom, and what becomes of everything that a user has.

use std::collections::BTreeSet;

use bowline_engine::credential::NewAuthKey;
use bowline_engine::settings::SettingsEdit;
use bowline_engine::{
    Actor, Notice, Refusal, Registered, RegistrationRefused, SshAnswer, SshSession,
};
use bowline_model::id::{DeviceId, UserId};
use bowline_model::requirement::Requirement;
use bowline_model::right::Right;
use bowline_model::scope::Scope;
use bowline_model::user::{Role, Status, User};
use serde_json::Value;

use crate::net::{self, Net, node_key, operator, present, request};

const CHANGES_USERS: Requirement = Requirement::all(&[Scope::USERS], Right::WriteUsers);

const POLICY: &str = r#"{
    "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
    "ssh": [{"action": "accept", "src": ["autogroup:member"], "dst": ["tag:box"], "users": ["root"]}],
    "tagOwners": {"tag:box": ["autogroup:member"]},
}"#;

/// A user with what a user has.
struct Person {
    user: UserId,
    token: String,
    auth_key: String,
    laptop: DeviceId,
    /// Theirs in the beginning, and their tag's since.
    server: DeviceId,
}

impl Person {
    async fn new(net: &Net, login: &str, role: Role, number: u64) -> Self {
        net.set_policy(POLICY).await;
        let made = net.engine.create_user(&net.admin, login, None, role).await;
        let user = made.unwrap().id;
        let operator = operator(net.tailnet);
        let made = net
            .engine
            .create_access_token(&operator, Some(user), "", None);
        let (token, _) = made.await.unwrap();
        let new = NewAuthKey {
            reusable: true,
            ..NewAuthKey::default()
        };
        let (auth_key, _) = net.key_of(Some(user), new).await;
        let laptop = net.register(request(number, &auth_key)).await;
        let server = net.register(request(number + 1, &auth_key)).await;
        let tags = vec!["tag:box".to_owned()];
        let tagged = net.engine.set_device_tags(&net.admin, server, tags).await;
        tagged.unwrap();
        Self {
            user,
            token: token.expose().to_owned(),
            auth_key,
            laptop,
            server,
        }
    }

    /// Whether their token is good.
    fn may_act(&self, net: &Net) -> bool {
        net.engine.authenticate(&self.token).is_some()
    }

    /// What becomes of a device that registers with their key.
    async fn registers(&self, net: &Net, number: u64) -> Result<Registered, RegistrationRefused> {
        net.try_register(request(number, &self.auth_key)).await
    }
}

/// Whether two devices see each other.
fn see_each_other(net: &Net, one: DeviceId, other: DeviceId) -> bool {
    let snapshot = net.snapshot();
    let net = snapshot.compiled();
    let [there, back] = [(one, other), (other, one)].map(|(a, b)| net.visible(a.get(), b.get()));
    assert_eq!(there, back);
    there
}

async fn ssh(net: &Net, source: DeviceId, target: DeviceId) -> SshAnswer {
    let session = SshSession {
        tailnet: net.tailnet,
        source,
        target,
        user: "root".to_owned(),
    };
    net.engine.ssh_answer(session, None).await.unwrap()
}

fn record(net: &Net, user: UserId) -> User {
    (**net.snapshot().user(user).unwrap()).clone()
}

/// Events since so many, as the log has them.
async fn events_since(net: &Net, count: usize) -> Vec<Value> {
    let (from, to) = (jiff::Timestamp::MIN, jiff::Timestamp::MAX);
    let rows = net.engine.store().audit(net.tailnet, from, to, usize::MAX);
    let mut rows = rows.await.unwrap();
    rows.sort_by_key(|row| row.id);
    let new = rows.iter().skip(count);
    new.map(|row| serde_json::from_str(&row.body).unwrap())
        .collect()
}

fn names(events: &[Value]) -> Vec<String> {
    let text = |event: &Value, at: &str| {
        let text = event.pointer(at).and_then(Value::as_str);
        text.unwrap_or("").to_owned()
    };
    let name = |event: &Value| {
        let parts = ["/target/type", "/action", "/target/property"].map(|at| text(event, at));
        parts.join(".").trim_end_matches('.').to_owned()
    };
    events.iter().map(name).collect()
}

#[tokio::test]
async fn a_suspended_user_has_nothing_that_is_good_and_all_of_it_again_when_restored() {
    let net = Net::new().await;
    let other = net.join(1).await;
    let bob = Person::new(&net, "bob@example.com", Role::Admin, 2).await;
    assert!(see_each_other(&net, bob.laptop, other));
    assert_eq!(ssh(&net, bob.laptop, bob.server).await, SshAnswer::Accept);
    let bobs = present(&net.engine, &bob.token);
    let mut told = net.engine.notices();
    let count = events_since(&net, 0).await.len();

    for _ in 0..2 {
        net.engine.suspend_user(&net.admin, bob.user).await.unwrap();
    }
    assert!(!bob.may_act(&net));
    let acted = net.engine.delete_device(&bobs, other).await;
    assert!(matches!(acted, Err(Refusal::Unauthenticated)), "{acted:?}");
    let registered = bob.registers(&net, 9).await;
    assert!(matches!(registered, Err(RegistrationRefused::OwnerGone)));
    assert!(!see_each_other(&net, bob.laptop, other));
    assert!(!net.engine.admits(&node_key(2)));
    assert_eq!(
        told.try_recv().unwrap(),
        Notice::NodeKeyRevoked(node_key(2))
    );
    assert!(told.try_recv().is_err(), "the tagged device goes on");
    assert!(see_each_other(&net, bob.server, other));
    assert!(net.engine.admits(&node_key(3)));
    assert_ne!(ssh(&net, bob.laptop, bob.server).await, SshAnswer::Accept);
    // The device is listed, and its client is let in and told why it has nobody.
    assert!(net.device(bob.laptop).authorized);
    let again = bob.registers(&net, 2).await;
    assert!(matches!(again, Ok(Registered::In { device, .. }) if device == bob.laptop));
    // Nor does a restart bring it back.
    let net = net.restart(jiff::SignedDuration::ZERO).await;
    assert!(!see_each_other(&net, bob.laptop, other) && !bob.may_act(&net));
    assert!(!net.engine.admits(&node_key(2)));

    for _ in 0..2 {
        net.engine.restore_user(&net.admin, bob.user).await.unwrap();
    }
    assert!(bob.may_act(&net));
    assert!(see_each_other(&net, bob.laptop, other));
    assert!(net.engine.admits(&node_key(2)));
    assert_eq!(ssh(&net, bob.laptop, bob.server).await, SshAnswer::Accept);
    assert!(matches!(
        bob.registers(&net, 9).await,
        Ok(Registered::In { .. })
    ));
    let said = events_since(&net, count).await;
    assert_eq!(
        names(&said),
        ["USER.SUSPEND", "USER.RESTORE", "NODE.CREATE"]
    );
    assert_eq!(said[0]["target"]["name"], "bob@example.com");
    assert_eq!(
        (&said[0]["old"], &said[0]["new"]),
        (&"active".into(), &"suspended".into())
    );
}

#[tokio::test]
async fn a_tagged_device_that_comes_back_to_a_suspended_user_is_held() {
    let net = Net::new().await;
    let other = net.join(1).await;
    let bob = Person::new(&net, "bob@example.com", Role::Member, 2).await;
    net.engine.suspend_user(&net.admin, bob.user).await.unwrap();
    let mut told = net.engine.notices();
    let untagged = net.engine.set_device_tags(&net.admin, bob.server, vec![]);
    untagged.await.unwrap();
    assert!(!see_each_other(&net, bob.server, other));
    assert_eq!(
        told.try_recv().unwrap(),
        Notice::NodeKeyRevoked(node_key(3))
    );
    // Nothing is made for a suspended user.
    let made = net
        .engine
        .create_auth_key(&net.admin, Some(bob.user), NewAuthKey::default());
    assert!(matches!(made.await, Err(Refusal::Invalid(_))));
    let operator = operator(net.tailnet);
    let made = net
        .engine
        .create_access_token(&operator, Some(bob.user), "", None);
    assert!(matches!(made.await, Err(Refusal::Invalid(_))));
}

#[tokio::test]
async fn a_deleted_user_takes_devices_tokens_and_keys_along_and_leaves_what_is_the_tailnets() {
    let net = Net::new().await;
    let other = net.join(1).await;
    let bob = Person::new(&net, "bob@example.com", Role::Member, 2).await;
    let second = match bob.registers(&net, 4).await {
        Ok(Registered::In { device, .. }) => device,
        refused => panic!("{refused:?}"),
    };
    let mut told = net.engine.notices();
    let count = events_since(&net, 0).await.len();
    let admin = net.admin.clone().in_group(net.engine.new_group());
    net.engine.delete_user(&admin, bob.user).await.unwrap();

    let snapshot = net.snapshot();
    assert!(snapshot.user(bob.user).is_none());
    for device in [bob.laptop, second] {
        assert!(snapshot.device(device).is_none());
    }
    let ended: BTreeSet<_> = [told.try_recv().unwrap(), told.try_recv().unwrap()]
        .map(|event| format!("{event:?}"))
        .into();
    let expected = [2, 4].map(|number| format!("{:?}", Notice::NodeKeyRevoked(node_key(number))));
    assert_eq!(ended, expected.into());
    assert!(!bob.may_act(&net));
    let registered = bob.registers(&net, 9).await;
    assert!(matches!(registered, Err(RegistrationRefused::RevokedKey)));
    assert!(see_each_other(&net, bob.server, other));
    let theirs = snapshot
        .credentials()
        .filter(|it| it.user == Some(bob.user));
    let theirs: Vec<_> = theirs.collect();
    assert_eq!(theirs.len(), 2);
    assert!(theirs.iter().all(|credential| credential.revoked.is_some()));

    let said = events_since(&net, count).await;
    assert_eq!(names(&said), ["NODE.DELETE", "NODE.DELETE", "USER.DELETE"]);
    let groups: BTreeSet<&str> = said
        .iter()
        .map(|event| event["eventGroupID"].as_str().unwrap())
        .collect();
    assert_eq!(groups.len(), 1);
    let keys: BTreeSet<&str> = said[2]["old"]["revokedKeys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key.as_str().unwrap())
        .collect();
    let expected: Vec<String> = theirs.iter().map(|it| it.id.stable()).collect();
    assert_eq!(keys, expected.iter().map(String::as_str).collect());
    let again = net.engine.delete_user(&net.admin, bob.user).await;
    assert!(matches!(again, Err(Refusal::NotFound)));
    // The login name is free again, and its new user has nothing of the old one.
    let made = net
        .engine
        .create_user(&net.admin, "bob@example.com", None, Role::Member);
    assert_ne!(made.await.unwrap().id, bob.user);
    assert!(!bob.may_act(&net));
}

#[tokio::test]
async fn the_owner_hands_over_and_there_is_always_exactly_one() {
    let net = Net::new().await;
    let ann = net::user(&net.admin).unwrap();
    let bob = Person::new(&net, "bob@example.com", Role::Admin, 2).await;
    let bobs = present(&net.engine, &bob.token);
    let operator = operator(net.tailnet);
    let owners = || {
        let snapshot = net.snapshot();
        let owners = snapshot.users().filter(|user| user.role == Role::Owner);
        owners.map(|user| user.id).collect::<Vec<_>>()
    };
    // Nobody but the owner and the operator takes it from the owner, and they only by naming another.
    let engine = &net.engine;
    let refused = engine.set_user_role(&bobs, bob.user, Role::Owner).await;
    assert!(matches!(refused, Err(Refusal::NotPermitted)));
    let refused = engine.set_user_role(&bobs, ann, Role::Member).await;
    assert!(matches!(refused, Err(Refusal::NotPermitted)));
    for role in &Role::EVERY[1..] {
        let refused = engine.set_user_role(&operator, ann, *role).await;
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
    for refused in [
        engine.suspend_user(&operator, ann).await,
        engine.delete_user(&operator, ann).await,
    ] {
        assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    }
    // Nor does anybody become it who may not act.
    engine.suspend_user(&net.admin, bob.user).await.unwrap();
    let refused = engine
        .set_user_role(&net.admin, bob.user, Role::Owner)
        .await;
    assert!(matches!(refused, Err(Refusal::Invalid(_))));
    engine.restore_user(&net.admin, bob.user).await.unwrap();
    assert_eq!(owners(), [ann]);

    let count = events_since(&net, 0).await.len();
    for _ in 0..2 {
        let done = engine.set_user_role(&operator, ann, Role::Owner).await;
        done.unwrap();
    }
    assert!(events_since(&net, count).await.is_empty(), "she is it");
    let done = engine
        .set_user_role(&net.admin, bob.user, Role::Owner)
        .await;
    done.unwrap();
    assert_eq!(owners(), [bob.user]);
    assert_eq!(record(&net, ann).role, Role::Admin);
    let said = events_since(&net, count).await;
    assert_eq!(names(&said), ["USER.UPDATE.USER_ROLE"; 2]);
    let told = |event: &Value| (event["old"].clone(), event["new"].clone());
    assert_eq!(told(&said[0]), ("admin".into(), "owner".into()));
    assert_eq!(told(&said[1]), ("owner".into(), "admin".into()));
    // Her token is an administrator's from now on.
    let back = engine.set_user_role(&net.admin, ann, Role::Owner).await;
    assert!(matches!(back, Err(Refusal::NotPermitted)));
    engine
        .set_user_role(&operator, ann, Role::Owner)
        .await
        .unwrap();
    assert_eq!(owners(), [ann]);
}

/// Two people of each role but the owner's.
async fn people(net: &Net) -> Vec<(Role, UserId, Actor)> {
    let owner = net::user(&net.admin).unwrap();
    let mut people = vec![(Role::Owner, owner, net.admin.clone().asking(CHANGES_USERS))];
    for role in &Role::EVERY[1..] {
        for number in 0..2 {
            let login = format!("{}{number}@example.com", role.as_str());
            let made = net.engine.create_user(&net.admin, &login, None, *role);
            let user = made.await.unwrap().id;
            let actor = net.acting(user).await.asking(CHANGES_USERS);
            people.push((*role, user, actor));
        }
    }
    people
}

fn is_permitted<T>(outcome: Result<T, Refusal>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(Refusal::NotPermitted) => false,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn who_changes_users_needs_the_right_and_every_right_that_they_give_or_take() {
    let net = Net::new().await;
    let people = people(&net).await;
    let operator = operator(net.tailnet);
    for (own, own_id, actor) in people.iter().filter(|(role, ..)| *role != Role::Owner) {
        let engine = &net.engine;
        let own_role = engine.set_user_role(actor, *own_id, Role::Member).await;
        assert!(!is_permitted(own_role), "{own:?} on themselves");
        for refused in [
            engine.suspend_user(actor, *own_id).await,
            engine.restore_user(actor, *own_id).await,
            engine.approve_user(actor, *own_id).await,
            engine.delete_user(actor, *own_id).await,
        ] {
            assert!(!is_permitted(refused), "{own:?} on themselves");
        }
        for (theirs, id, _) in &people {
            if id == own_id {
                continue;
            }
            let may_change = own.has(Right::WriteUsers) && own.covers(*theirs);
            for new in Role::EVERY {
                let done = engine.set_user_role(actor, *id, new).await;
                let expected = may_change && own.covers(new);
                assert_eq!(
                    is_permitted(done),
                    expected,
                    "{own:?}: {theirs:?} to {new:?}"
                );
                if expected {
                    let undone = engine.set_user_role(&operator, *id, *theirs).await;
                    undone.unwrap();
                }
            }
            let suspended = engine.suspend_user(actor, *id).await;
            assert_eq!(is_permitted(suspended), may_change, "{own:?}: {theirs:?}");
            let restored = engine.restore_user(actor, *id).await;
            assert_eq!(is_permitted(restored), may_change, "{own:?}: {theirs:?}");
            let approved = engine.approve_user(actor, *id).await;
            assert_eq!(is_permitted(approved), may_change, "{own:?}: {theirs:?}");
        }
        for new in &Role::EVERY[1..] {
            let login = format!("new-{own_id}-{}@example.com", new.as_str());
            let made = engine.create_user(actor, &login, None, *new).await;
            let expected = own.has(Right::WriteUsers) && own.covers(*new);
            assert_eq!(is_permitted(made), expected, "{own:?} makes {new:?}");
        }
        if own.has(Right::WriteUsers) {
            let login = format!("new-{own_id}-member@example.com");
            let made = net.snapshot().user_by_login(&login).unwrap().id;
            engine.delete_user(actor, made).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_role_counts_at_once_for_a_token_that_was_made_before() {
    let net = Net::new().await;
    let bob = Person::new(&net, "bob@example.com", Role::Auditor, 2).await;
    let bobs = || present(&net.engine, &bob.token).asking(CHANGES_USERS);
    assert!(bobs().check().is_err());
    let promoted = net
        .engine
        .set_user_role(&net.admin, bob.user, Role::ItAdmin);
    promoted.await.unwrap();
    let promoted = bobs();
    assert!(promoted.check().is_ok());
    let demoted = net.engine.set_user_role(&net.admin, bob.user, Role::Member);
    demoted.await.unwrap();
    // Also for what was let in with the role of before.
    let made = net
        .engine
        .create_user(&promoted, "eve@example.com", None, Role::Member);
    assert!(matches!(made.await, Err(Refusal::NotPermitted)));
}

#[tokio::test]
async fn people_vouch_for_whom_they_make_and_the_setting_alone_makes_nobody_wait() {
    let net = Net::new().await;
    let set = async |on| {
        let edit = SettingsEdit {
            users_approval_on: Some(on),
            ..SettingsEdit::default()
        };
        let operator = Actor::operator(net.tailnet).asking(Requirement::CALLER);
        net.engine.edit_settings(&operator, edit).await.unwrap();
    };
    set(true).await;
    for (login, actor) in [
        ("bob@example.com", &net.admin),
        ("cy@example.com", &operator(net.tailnet)),
    ] {
        let made = net.engine.create_user(actor, login, None, Role::Member);
        let made = made.await.unwrap();
        assert!(!made.needs_approval && made.status == Status::Active);
        let approved = net.engine.approve_user(&net.admin, made.id).await;
        approved.unwrap();
    }
    set(false).await;
    let said = names(&events_since(&net, 0).await);
    let tail = &said[said.len() - 4..];
    assert_eq!(
        tail,
        [
            "TAILNET.ENABLE.USER_APPROVAL_REQUIRED",
            "USER.CREATE",
            "USER.CREATE",
            "TAILNET.DISABLE.USER_APPROVAL_REQUIRED",
        ]
    );
}
