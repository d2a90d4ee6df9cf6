//! Interactive logins, confirmed by somebody else.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering};

use bowline_engine::credential::NewAuthKey;
use bowline_engine::{Actor, Followed, LoginState, Registered, Registration, RegistrationRefused};
use bowline_model::id::DeviceId;
use bowline_model::record::RawJson;
use bowline_model::user::Role;
use bowline_store::Owner;
use jiff::SignedDuration;

use crate::net::{Net, node_key, operator, present, request, user};

/// Where logins come from, if it does not matter.
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// Registers without a key; the code of the login.
async fn begin(net: &Net, request: Registration) -> String {
    let outcome = net.try_register(request.clone()).await.unwrap();
    assert_eq!(outcome, Registered::NeedsLogin);
    net.engine.begin_login(request, SOURCE).await.unwrap()
}

async fn confirm(net: &Net, code: &str) -> DeviceId {
    net.engine
        .confirm_login(&net.admin, code, Some("ann@example.com"), None)
        .await
        .unwrap()
}

/// The code of a login that begins in place of the one that was followed.
fn begun(followed: Followed) -> String {
    match followed {
        Followed::Begun(code) => code,
        other => panic!("{other:?}"),
    }
}

/// A follower of login `number` that is at work by the time this returns.
fn follow(net: &Net, code: &str, number: u64) -> tokio::task::JoinHandle<Followed> {
    let (engine, code) = (net.engine.clone(), code.to_owned());
    tokio::spawn(async move {
        let follows = engine.follow_login(&code, request(number, ""), SOURCE);
        follows.await.unwrap()
    })
}

#[tokio::test]
async fn a_login_waits_until_somebody_says_whose_device_it_is() {
    let net = Net::new().await;
    let bob = net
        .engine
        .create_user(&net.admin, "bob@example.com", None, Role::Member)
        .await
        .unwrap();
    let code = begin(&net, request(1, "")).await;
    assert_eq!(
        begin(&net, request(1, "")).await,
        code,
        "the same asked again"
    );
    let waiting = net.engine.logins(&net.admin).unwrap();
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0].request.facts.hostname, "host1");
    assert_eq!(waiting[0].state, LoginState::Waiting);
    let (one, two) = (follow(&net, &code, 1), follow(&net, &code, 1));
    let device = net
        .engine
        .confirm_login(&net.admin, &code, Some("BOB@example.com"), None)
        .await
        .unwrap();
    let tailnet = net.tailnet;
    assert_eq!(
        one.await.unwrap(),
        Followed::Replaced,
        "one waits for a device"
    );
    assert_eq!(two.await.unwrap(), Followed::In { tailnet, device });
    assert_eq!(net.device(device).user, Some(bob.id));
    assert!(net.device(device).effective_expiry().is_some());
    // The client that lost the answer asks once more, in either way.
    assert_eq!(
        follow(&net, &code, 1).await.unwrap(),
        Followed::In { tailnet, device }
    );
    assert_eq!(net.register(request(1, "")).await, device);
    assert!(net.engine.logins(&net.admin).unwrap().is_empty());
    let again = net
        .engine
        .confirm_login(&net.admin, &code, None, None)
        .await;
    assert_eq!(again.unwrap_err().to_string(), "not found");
    assert_eq!(net.audit().await.last().unwrap().0, "CREATE");
    // Deleted, it begins anew.
    net.engine.delete_device(&net.admin, device).await.unwrap();
    begun(follow(&net, &code, 1).await.unwrap());
}

#[tokio::test]
async fn a_login_that_is_refused_or_too_old_ends_for_who_waits() {
    let net = Net::new().await;
    let refused = begin(&net, request(1, "")).await;
    let waits = follow(&net, &refused, 1);
    net.engine.refuse_login(&net.admin, &refused).await.unwrap();
    assert_eq!(waits.await.unwrap(), Followed::Refused);
    assert_eq!(net.audit().await.last().unwrap().0, "DENY");
    assert_eq!(
        follow(&net, &refused, 1).await.unwrap(),
        Followed::Refused,
        "and for who asks again"
    );
    assert!(
        net.engine
            .confirm_login(&net.admin, &refused, None, None)
            .await
            .is_err()
    );
    let late = begin(&net, request(2, "")).await;
    let waits = follow(&net, &late, 2);
    tokio::task::yield_now().await;
    net.pass(SignedDuration::from_hours(1)).await;
    let next = begun(waits.await.unwrap());
    assert!(net.engine.login(&late).is_none());
    assert_eq!(begin(&net, request(2, "")).await, next);
    assert!(
        net.engine
            .confirm_login(&net.admin, &late, None, None)
            .await
            .is_err()
    );
    assert_ne!(next, late);
    assert_eq!(net.snapshot().device_count(), 0);
}

#[tokio::test]
async fn what_waits_under_a_code_never_changes() {
    type Change = fn(&mut Registration);
    let changes: [Change; 5] = [
        |request| request.facts.request_tags = vec!["tag:ci".to_owned()],
        |request| request.facts.hostname = "other".to_owned(),
        |request| request.ephemeral = true,
        |request| request.old_node_key = Some(node_key(5)),
        |request| request.expiry = Some(jiff::Timestamp::MAX),
    ];
    let net = Net::new().await;
    let mut code = begin(&net, request(1, "")).await;
    for change in changes {
        let mut other = request(1, "");
        change(&mut other);
        let next = begin(&net, other.clone()).await;
        assert_ne!(next, code);
        assert!(net.engine.login(&code).is_none());
        let shown = net.engine.login(&next).unwrap();
        assert_eq!(*shown.request, other);
        let decided = net.engine.confirm_login(&net.admin, &code, None, None);
        assert_eq!(decided.await.unwrap_err().to_string(), "not found");
        assert_eq!(net.engine.logins(&net.admin).unwrap().len(), 1);
        code = next;
    }
}

#[tokio::test]
async fn only_the_device_that_began_a_login_learns_of_it() {
    let net = Net::new().await;
    let code = begin(&net, request(1, "")).await;
    let stranger = Registration {
        node_key: node_key(1),
        ..request(2, "")
    };
    for stranger in [request(2, ""), stranger] {
        let followed = net.engine.follow_login(&code, stranger, SOURCE).await;
        assert_ne!(begun(followed.unwrap()), code);
    }
    let unknown = "0123456789abcdef0123456789abcdef";
    let followed = follow(&net, unknown, 1).await.unwrap();
    assert_eq!(begun(followed), code, "its own");
}

#[tokio::test]
async fn a_follower_of_a_login_that_was_begun_anew_leaves_that_one_alone() {
    let net = Net::new().await;
    let code = begin(&net, request(1, "")).await;
    let waits = follow(&net, &code, 1);
    tokio::task::yield_now().await;
    let mut asks = request(1, "");
    asks.facts.request_tags = vec!["tag:ci".to_owned()];
    let next = begin(&net, asks).await;
    assert_eq!(waits.await.unwrap(), Followed::Replaced);
    assert!(net.engine.login(&next).is_some());
}

#[tokio::test]
async fn one_source_does_not_keep_everybody_else_from_waiting() {
    let net = Net::new().await;
    let number = AtomicU64::new(0);
    // Some at a time, so few that they are taken in their order.
    let enter = async |sources: &[String]| {
        let begin = |source: &String| {
            let number = number.fetch_add(1, Ordering::Relaxed) + 1;
            let begun = net
                .engine
                .begin_login(request(number, ""), source.parse().unwrap());
            async { begun.await.unwrap() }
        };
        let mut codes = Vec::new();
        for some in sources.chunks(50) {
            codes.extend(futures_util::future::join_all(some.iter().map(begin)).await);
        }
        codes
    };
    let is_there = |code: &String| net.engine.login(code).is_some();
    let bystanders = enter(&["192.0.2.2", "2001:db8:1:1::1"].map(str::to_owned)).await;
    // A whole network of IPv6, and all that a home has of them.
    for (site, networks, limit) in [(10, 1_u64, 128), (11, 256, 256), (12, 65_536, 512)] {
        let source = |host: u64| {
            let network = host % networks;
            format!("2001:db8:{site}:{network:x}::{host:x}")
        };
        let codes = enter(&(0..600).map(source).collect::<Vec<_>>()).await;
        let left = codes.iter().filter(|code| is_there(code)).count();
        assert_eq!(left, limit, "{networks} networks");
        assert!(is_there(&codes[599]), "the newest stays");
    }
    // Behind a proxy on this machine is everybody: no limit but that of all.
    let codes = enter(&vec!["127.0.0.1".to_owned(); 2100]).await;
    assert!(
        is_there(&codes[2099]) && !is_there(&codes[0]),
        "the largest source pays"
    );
    assert!(codes.iter().filter(|code| is_there(code)).count() > 1000);
    assert!(bystanders.iter().all(is_there), "nobody else is sent away");
    let newcomer = enter(&["198.51.100.1".to_owned()]).await;
    assert!(is_there(&newcomer[0]) && bystanders.iter().all(is_there));
    // The database has what there is place for, and nothing that came and went between two commits.
    let rows = net.engine.store().load(Owner::Server).await.unwrap().rows;
    assert_eq!(rows.len(), 2048);
    let changes = net.engine.store().changes(Owner::Server, 0, 1000);
    assert!(changes.await.unwrap().len() <= 100);
}

#[tokio::test]
async fn who_lost_its_place_is_told_and_does_not_take_that_of_the_next() {
    let net = Net::new().await;
    let source = "2001:db8::1".parse().unwrap();
    let begin = |number| net.engine.begin_login(request(number, ""), source);
    let code = begin(1).await.unwrap();
    let (engine, followed) = (net.engine.clone(), code.clone());
    let waits =
        tokio::spawn(async move { engine.follow_login(&followed, request(1, ""), source).await });
    tokio::task::yield_now().await;
    futures_util::future::join_all((2..140).map(begin)).await;
    let told = waits.await.unwrap();
    assert!(
        matches!(told, Err(RegistrationRefused::TooManyLogins)),
        "{told:?}"
    );
    assert!(net.engine.login(&code).is_none());
}

#[tokio::test]
async fn a_machine_that_begins_again_and_again_has_a_few_places() {
    let net = Net::new().await;
    let mut codes = Vec::new();
    for number in 1..=6 {
        let anew = Registration {
            node_key: node_key(number),
            ..request(1, "")
        };
        codes.push(net.engine.begin_login(anew, SOURCE).await.unwrap());
    }
    let there = codes.iter().map(|code| net.engine.login(code).is_some());
    assert_eq!(
        there.collect::<Vec<_>>(),
        [false, false, true, true, true, true]
    );
}

#[tokio::test]
async fn a_device_that_tells_too_much_of_itself_does_not_wait() {
    let net = Net::new().await;
    let mut greedy = request(1, "");
    greedy.facts.request_tags = vec!["x".repeat(256); 65];
    for request in [greedy] {
        let followed = net.engine.follow_login("", request.clone(), SOURCE).await;
        let begun = net.engine.begin_login(request, SOURCE).await;
        let begun = begun.map(Followed::Begun);
        for outcome in [followed, begun] {
            assert!(
                matches!(outcome, Err(RegistrationRefused::HostinfoTooLarge)),
                "{outcome:?}"
            );
        }
    }
    // A lock key that is none, neither with an auth key.
    for key in [String::new(), net.one_off().await] {
        let request = Registration {
            lock_key: "x".repeat(257),
            ..request(1, &key)
        };
        let refused = net.try_register(request).await;
        assert!(
            matches!(refused, Err(RegistrationRefused::LockKeyTooLong)),
            "{refused:?}"
        );
    }
    // Nor tags that were not all read.
    for key in [String::new(), net.one_off().await] {
        let mut request = request(1, &key);
        request.facts.shortened.insert("RequestTags".to_owned());
        let refused = net.try_register(request).await;
        assert!(
            matches!(refused, Err(RegistrationRefused::TooManyTags)),
            "{refused:?}"
        );
    }
    assert!(net.engine.logins(&net.admin).unwrap().is_empty());
    // Only the part of the host info that peers will see waits with it.
    let mut large = request(1, "");
    let hostinfo = serde_json::json!({"OS": "linux", "Future": "x".repeat(60_000)});
    large.hostinfo = RawJson::of(&hostinfo).unwrap();
    let code = net.engine.begin_login(large, SOURCE).await.unwrap();
    let kept = net.engine.login(&code).unwrap().request.hostinfo.clone();
    assert_eq!(kept.as_str(), r#"{"OS":"linux"}"#);
}

#[tokio::test]
async fn a_device_whose_key_has_expired_logs_in_again_as_itself() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let before = net.device(device);
    net.engine.expire_device(&net.admin, device).await.unwrap();
    assert_eq!(
        net.try_register(request(1, "")).await.unwrap(),
        Registered::KeyExpired
    );
    let again = Registration {
        node_key: node_key(11),
        old_node_key: Some(node_key(1)),
        ..request(1, "")
    };
    let code = begin(&net, again).await;
    assert_eq!(
        net.device(device).node_key,
        node_key(1),
        "nothing changes while it waits"
    );
    assert_eq!(confirm(&net, &code).await, device);
    let after = net.device(device);
    assert_eq!(
        (
            after.addresses(),
            &after.name,
            after.node_key,
            after.expired
        ),
        (before.addresses(), &before.name, node_key(11), false)
    );
    assert_eq!(net.audit().await.last().unwrap().0, "LOGIN");
}

#[tokio::test]
async fn a_device_that_lost_the_answer_and_starts_with_its_old_node_key_is_the_same() {
    let net = Net::new().await;
    net.set_policy(r#"{"tagOwners": {"tag:ci": []}}"#).await;
    let device = net.join(1).await;
    drop(net.stream(device).await);
    let mut tagged = Registration {
        node_key: node_key(11),
        old_node_key: Some(node_key(1)),
        ..request(1, "")
    };
    tagged.facts.request_tags = vec!["tag:ci".to_owned()];
    let code = begin(&net, tagged).await;
    assert_eq!(confirm(&net, &code).await, device);
    // It knows nothing of node key 11, nor does anybody of its own.
    let code = begin(&net, request(1, "")).await;
    assert_eq!(confirm(&net, &code).await, device);
    assert!(!net.device(device).is_tagged());
    // One that got in is another device of the same machine.
    drop(net.stream(device).await);
    let mut tagged = Registration {
        node_key: node_key(12),
        ..request(1, "")
    };
    tagged.facts.request_tags = vec!["tag:ci".to_owned()];
    let code = begin(&net, tagged).await;
    assert_ne!(confirm(&net, &code).await, device);
}

#[tokio::test]
async fn tags_are_those_that_the_user_owns_or_that_whoever_confirms_gives() {
    let net = Net::new().await;
    for login in ["bob@example.com", "eve@example.com"] {
        net.engine
            .create_user(&net.admin, login, None, Role::Member)
            .await
            .unwrap();
    }
    net.set_policy(r#"{"tagOwners": {"tag:ci": ["bob@example.com"]}}"#)
        .await;
    let mut asks = request(1, "");
    asks.facts.request_tags = vec!["tag:ci".to_owned()];
    let code = begin(&net, asks).await;
    let by = async |user: &str, tags: Option<&[&str]>| {
        let tags = tags.map(|tags| tags.iter().map(|tag| (*tag).to_owned()).collect());
        net.engine
            .confirm_login(&net.admin, &code, Some(user), tags)
            .await
    };
    let refused = by("eve@example.com", None).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "requested tags [tag:ci] are invalid or not permitted"
    );
    let refused = by("bob@example.com", Some(&["tag:no"])).await.unwrap_err();
    assert!(refused.to_string().contains("[tag:no]"), "{refused}");
    let refused = by("nobody@example.com", None).await.unwrap_err();
    assert!(
        refused.to_string().contains("there is no user"),
        "{refused}"
    );
    // It still waits.
    let device = by("bob@example.com", None).await.unwrap();
    assert!(net.device(device).is_tagged() && net.device(device).key_expiry_disabled);
    let mut asks = request(2, "");
    asks.facts.request_tags = vec!["tag:ci".to_owned()];
    let code = begin(&net, asks).await;
    let device = net
        .engine
        .confirm_login(&net.admin, &code, Some("eve@example.com"), Some(Vec::new()))
        .await
        .unwrap();
    assert!(!net.device(device).is_tagged());
    let code = begin(&net, request(3, "")).await;
    let device = net
        .engine
        .confirm_login(
            &net.admin,
            &code,
            Some("eve@example.com"),
            Some(vec!["tag:ci".to_owned()]),
        )
        .await
        .unwrap();
    assert!(net.device(device).is_tagged());
}

#[tokio::test]
async fn a_confirmed_device_waits_for_approval_where_the_tailnet_wants_it() {
    let net = Net::new().await;
    let edit = bowline_engine::settings::SettingsEdit {
        device_approval_on: Some(true),
        ..Default::default()
    };
    net.engine.edit_settings(&net.admin, edit).await.unwrap();
    let code = begin(&net, request(1, "")).await;
    let device = confirm(&net, &code).await;
    assert!(!net.device(device).authorized);
}

#[tokio::test]
async fn a_login_is_confirmed_into_the_tailnet_of_who_confirms() {
    let net = Net::new().await;
    let made = net
        .engine
        .create_tailnet("eve@example.org", None)
        .await
        .unwrap();
    let eve = present(&net.engine, made.token.expose());
    net.join(1).await;
    let known = Registration {
        node_key: node_key(11),
        old_node_key: Some(node_key(1)),
        ..request(1, "")
    };
    begin(&net, known).await;
    let code = begin(&net, request(2, "")).await;
    // That a machine has a device here does not make a login of it ours, whatever old node key of
    // somebody else it names.
    let strays = [None, Some(node_key(1)), Some(node_key(9))];
    for (number, old_node_key) in (21..).zip(strays) {
        let machine = if old_node_key == Some(node_key(1)) {
            2
        } else {
            1
        };
        let stray = Registration {
            node_key: node_key(number),
            old_node_key,
            ..request(machine, "")
        };
        begin(&net, stray).await;
    }
    // A tailnet is shown the devices of its own that log in again, the operator all.
    let seen = |actor: &Actor| -> Vec<_> {
        let logins = net.engine.logins(actor).unwrap();
        let key = |login: &bowline_engine::Login| login.request.node_key;
        logins.iter().map(key).collect()
    };
    assert_eq!((seen(&net.admin), seen(&eve)), (vec![node_key(11)], vec![]));
    assert_eq!(seen(&operator(net.tailnet)).len(), 5);
    let device = net
        .engine
        .confirm_login(&eve, &code, Some("eve@example.org"), None)
        .await
        .unwrap();
    let (tailnet, _, entry) = net.engine.find_device(&node_key(2)).unwrap();
    assert_eq!((tailnet, entry.device.id), (made.tailnet, device));
    assert_eq!(entry.device.user, user(&eve));
}

#[tokio::test]
async fn without_a_word_a_known_device_is_its_users_and_a_new_one_nobodys() {
    let net = Net::new().await;
    net.engine
        .create_user(&net.admin, "bob@example.com", None, Role::Member)
        .await
        .unwrap();
    for actor in [net.admin.clone(), operator(net.tailnet)] {
        let number = if user(&actor).is_some() { 1 } else { 3 };
        let code = begin(&net, request(number, "")).await;
        let refused = net.engine.confirm_login(&actor, &code, None, None).await;
        assert_eq!(
            refused.unwrap_err().to_string(),
            bowline_engine::login::NAME_A_USER
        );
        // It still waits.
        let device = net
            .engine
            .confirm_login(&actor, &code, Some("bob@example.com"), None)
            .await
            .unwrap();
        let bobs = net.device(device).user;
        assert_ne!(bobs, user(&net.admin));
        net.engine.expire_device(&net.admin, device).await.unwrap();
        let again = Registration {
            node_key: node_key(number + 100),
            old_node_key: Some(node_key(number)),
            ..request(number, "")
        };
        let code = begin(&net, again).await;
        let same = net
            .engine
            .confirm_login(&actor, &code, None, None)
            .await
            .unwrap();
        assert_eq!((same, net.device(same).user), (device, bobs));
    }
}

#[tokio::test]
async fn a_device_that_came_into_another_tailnet_meanwhile_is_not_confirmed_here() {
    let net = Net::new().await;
    let made = net
        .engine
        .create_tailnet("eve@example.org", None)
        .await
        .unwrap();
    let eve = present(&net.engine, made.token.expose());
    let code = begin(&net, request(1, "")).await;
    let (key, _) = net
        .engine
        .create_auth_key(&eve, None, NewAuthKey::default())
        .await
        .unwrap();
    let device = net.register(request(1, key.expose())).await;
    let refused = net
        .engine
        .confirm_login(&net.admin, &code, Some("ann@example.com"), None)
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the device came into another tailnet meanwhile"
    );
    assert!(matches!(refused, bowline_engine::Refusal::Invalid(_)));
    // Where it is, it is in.
    let confirmed = net
        .engine
        .confirm_login(&eve, &code, Some("eve@example.org"), None)
        .await;
    assert_eq!(confirmed.unwrap(), device);
}

#[tokio::test]
async fn a_server_that_stops_sends_away_who_waits() {
    let net = Net::new().await;
    let code = begin(&net, request(1, "")).await;
    let waits = follow(&net, &code, 1);
    net.engine.end_streams();
    assert_eq!(waits.await.unwrap(), Followed::Stopping);
}
