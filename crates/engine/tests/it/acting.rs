//! Acting for somebody else: every role for every role, by every way that there is.

use std::net::{IpAddr, Ipv4Addr};

use bowline_engine::credential::NewAuthKey;
use bowline_engine::people::acting::may_act_for;
use bowline_engine::{Actor, Refusal, SshAnswer, SshSession};
use bowline_model::id::{DeviceId, UserId};
use bowline_model::requirement::Requirement;
use bowline_model::right::Right;
use bowline_model::scope::Scope;
use bowline_model::user::Role;

use crate::net::{self, Net, operator, present, request};

const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

const ROLES: [Role; 7] = [
    Role::Owner,
    Role::Admin,
    Role::NetworkAdmin,
    Role::ItAdmin,
    Role::BillingAdmin,
    Role::Auditor,
    Role::Member,
];

/// Two people of each role but the owner's, so that everybody has somebody else of their own.
struct People {
    net: Net,
    people: Vec<(Role, UserId, Actor)>,
}

impl People {
    async fn new() -> Self {
        let net = Net::new().await;
        net.set_policy(
            r#"{
                "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
                "ssh": [{"action": "check", "src": ["autogroup:member", "tag:box"], "dst": ["tag:box"], "users": ["root"]}],
                "tagOwners": {"tag:box": ["autogroup:member"]},
            }"#,
        )
        .await;
        let mut people = vec![(
            Role::Owner,
            net::user(&net.admin).unwrap(),
            net.admin.clone(),
        )];
        for role in &ROLES[1..] {
            for number in 0..2 {
                let login = format!("{}{number}@example.com", role.as_str());
                let made = net.engine.create_user(&net.admin, &login, None, *role);
                let user = made.await.unwrap().id;
                let operator = operator(net.tailnet);
                let made = net
                    .engine
                    .create_access_token(&operator, Some(user), "", None);
                let (token, _) = made.await.unwrap();
                let actor = present(&net.engine, token.expose());
                people.push((*role, user, actor));
            }
        }
        Self { net, people }
    }

    /// Somebody of each role who acts, and somebody else of each role who is acted for. The owner
    /// is one person.
    fn pairs(&self) -> Vec<(Role, Actor, Role, UserId)> {
        let mut pairs = Vec::new();
        for role in ROLES {
            let (_, own, actor) = self.people.iter().find(|(it, _, _)| *it == role).unwrap();
            for other in ROLES {
                let mut people = self.people.iter().filter(|(it, _, _)| *it == other);
                let other_user = people.find(|(_, id, _)| id != own).map(|(_, id, _)| *id);
                pairs.push((role, actor.clone(), other, other_user.unwrap_or(*own)));
            }
        }
        assert_eq!(pairs.len(), 49);
        pairs
    }

    /// A device of a user that the operator lets in: nobody's word but theirs.
    async fn device_of(&self, user: UserId, number: u64) -> DeviceId {
        let operator = operator(self.net.tailnet);
        let made = self
            .net
            .engine
            .create_auth_key(&operator, Some(user), NewAuthKey::default());
        let (key, _) = made.await.unwrap();
        self.net.register(request(number, key.expose())).await
    }
}

/// What the rule says, with the right that the act itself needs.
fn expected(own: Role, other: Role, is_self: bool, right: Right) -> bool {
    own.has(right) && (is_self || may_act_for(own, other))
}

const MAKES_KEYS: Requirement = Requirement::all(&[Scope::AUTH_KEYS], Right::AuthKeys);
const MAKES_TOKENS: Requirement =
    Requirement::all(&[Scope::API_ACCESS_TOKENS], Right::ApiCredentials);
const CHANGES_DEVICES: Requirement = Requirement::all(&[Scope::DEVICES_CORE], Right::WriteDevices);
const SETS_TAGS: Requirement = Requirement::all(&[Scope::DEVICES_CORE], Right::SetDeviceTags);

fn is_permitted<T>(outcome: Result<T, Refusal>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(Refusal::NotPermitted) => false,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_auth_key_for_somebody_needs_a_rank_not_below_theirs() {
    let people = People::new().await;
    for (own, actor, other, user) in people.pairs() {
        let made = people
            .net
            .engine
            .create_auth_key(
                &actor.clone().asking(MAKES_KEYS),
                Some(user),
                NewAuthKey::default(),
            )
            .await;
        let is_self = actor.is_user(user);
        let may = expected(own, other, is_self, Right::AuthKeys);
        assert_eq!(is_permitted(made), may, "{own:?} for {other:?}");
    }
}

#[tokio::test]
async fn an_api_access_token_is_made_by_its_user_or_the_operator() {
    let people = People::new().await;
    for (own, actor, other, user) in people.pairs() {
        let made = people
            .net
            .engine
            .create_access_token(&actor.clone().asking(MAKES_TOKENS), Some(user), "", None)
            .await;
        let is_self = actor.is_user(user);
        let may = is_self && own.has(Right::ApiCredentials);
        assert_eq!(is_permitted(made), may, "{own:?} for {other:?}");
    }
}

#[tokio::test]
async fn a_login_is_confirmed_as_somebody_by_a_rank_not_below_theirs() {
    let people = People::new().await;
    let engine = &people.net.engine;
    for (number, (own, actor, other, user)) in people.pairs().into_iter().enumerate() {
        let number = 100 + number as u64;
        let code = engine
            .begin_login(request(number, ""), SOURCE)
            .await
            .unwrap();
        let named = user.stable();
        let confirmed = engine
            .confirm_login(
                &actor.clone().asking(CHANGES_DEVICES),
                &code,
                Some(&named),
                None,
            )
            .await;
        let device = confirmed.as_ref().ok().copied();
        let is_self = actor.is_user(user);
        let may = expected(own, other, is_self, Right::WriteDevices);
        assert_eq!(is_permitted(confirmed), may, "{own:?} for {other:?}");
        if let Some(device) = device {
            assert_eq!(people.net.device(device).user, Some(user));
            assert_eq!(people.net.device(device).registered_by, net::user(&actor));
        } else {
            // It still waits for somebody who may.
            let operator = operator(people.net.tailnet);
            engine.refuse_login(&operator, &code).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_device_goes_back_to_its_user_only_by_a_rank_not_below_theirs() {
    let people = People::new().await;
    let engine = &people.net.engine;
    for (number, (own, actor, other, user)) in people.pairs().into_iter().enumerate() {
        let device = people.device_of(user, 100 + number as u64).await;
        let operator = operator(people.net.tailnet);
        let tags = vec!["tag:box".to_owned()];
        engine
            .set_device_tags(&operator, device, tags)
            .await
            .unwrap();
        let tagging = actor.clone().asking(SETS_TAGS);
        let untagged = engine.set_device_tags(&tagging, device, Vec::new()).await;
        let is_self = actor.is_user(user);
        let may = expected(own, other, is_self, Right::SetDeviceTags);
        assert_eq!(is_permitted(untagged), may, "{own:?} for {other:?}");
        assert_eq!(people.net.device(device).is_tagged(), !may);
    }
}

/// The session of a source to a fresh target, waiting under a code.
async fn waiting(people: &People, source: DeviceId, number: u64) -> String {
    let tags = vec!["tag:box".to_owned()];
    let new = NewAuthKey {
        tags,
        ..NewAuthKey::default()
    };
    let (key, _) = people.net.key_with(new).await;
    let target = people.net.register(request(number, &key)).await;
    let session = SshSession {
        tailnet: people.net.tailnet,
        source,
        target,
        user: "root".to_owned(),
    };
    match people.net.engine.ssh_answer(session, None).await {
        Some(SshAnswer::Ask(code)) => code,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_ssh_session_is_confirmed_by_its_user_or_an_administrator_not_below_them() {
    let people = People::new().await;
    let engine = &people.net.engine;
    for (number, (own, actor, other, user)) in people.pairs().into_iter().enumerate() {
        let number = 100 + 2 * number as u64;
        let source = people.device_of(user, number).await;
        let code = waiting(&people, source, number + 1).await;
        let confirmed = engine.decide_ssh_check(&actor, &code, true).await;
        let is_self = actor.is_user(user);
        let is_admin = matches!(own, Role::Owner | Role::Admin);
        let may = own.has(Right::UseApi) && (is_self || (is_admin && may_act_for(own, other)));
        assert_eq!(is_permitted(confirmed), may, "{own:?} for {other:?}");
        if !may {
            // A user who may change devices may still refuse it, and nobody else may.
            let refused = engine.decide_ssh_check(&actor, &code, false).await;
            let may = own.has(Right::WriteDevices);
            assert_eq!(is_permitted(refused), may, "{own:?} refuses {other:?}");
        }
    }
}

#[tokio::test]
async fn nobody_confirms_a_session_of_a_device_that_they_made_somebody_elses() {
    let people = People::new().await;
    let engine = &people.net.engine;
    let person = |role: Role, number: usize| {
        let mut of_role = people.people.iter().filter(|(it, _, _)| *it == role);
        let (_, id, actor) = of_role.nth(number).unwrap();
        (*id, actor.clone())
    };
    let (member, _) = person(Role::Member, 0);
    let (own, admin) = person(Role::Admin, 0);
    let (_, second) = person(Role::Admin, 1);
    let mut number = 100;
    for by_key in [true, false] {
        // For somebody else, and as a tag's: then the session is nobody's.
        for tags in [None, Some(vec!["tag:box".to_owned()])] {
            number += 10;
            let source = if by_key {
                let new = NewAuthKey {
                    tags: tags.unwrap_or_default(),
                    ..NewAuthKey::default()
                };
                let made = engine.create_auth_key(&admin, Some(member), new).await;
                let (key, _) = made.unwrap();
                people.net.register(request(number, key.expose())).await
            } else {
                let code = engine
                    .begin_login(request(number, ""), SOURCE)
                    .await
                    .unwrap();
                let named = member.stable();
                let confirmed = engine.confirm_login(&admin, &code, Some(&named), tags);
                confirmed.await.unwrap()
            };
            assert_eq!(people.net.device(source).registered_by, Some(own));
            let code = waiting(&people, source, number + 1).await;
            let confirmed = engine.decide_ssh_check(&admin, &code, true).await;
            assert!(!is_permitted(confirmed), "{by_key}");
            engine.decide_ssh_check(&second, &code, true).await.unwrap();
            // The operator of the server has every device's database anyway.
            let operator = operator(people.net.tailnet);
            let code = waiting(&people, source, number + 2).await;
            let confirmed = engine.decide_ssh_check(&operator, &code, true).await;
            confirmed.unwrap();
        }
    }
    // Their own device is theirs, whoever let it in.
    let made = engine.create_auth_key(&admin, None, NewAuthKey::default());
    let (key, _) = made.await.unwrap();
    let source = people.net.register(request(number + 5, key.expose())).await;
    let code = waiting(&people, source, number + 6).await;
    engine.decide_ssh_check(&admin, &code, true).await.unwrap();
}
