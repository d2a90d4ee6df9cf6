//! Tags at registration and in reports, routes and addresses by the policy.

use bowline_engine::credential::NewAuthKey;
use bowline_engine::{Registered, Registration, RegistrationRefused, Report};
use bowline_model::device::{Device, HostFacts};
use bowline_model::id::{DeviceId, UserId};
use bowline_model::record::RawJson;
use bowline_model::user::Role;
use jiff::SignedDuration;

use crate::net::{Net, node_key, request, user};

const POLICY: &str = r#"{
    "tagOwners": {
        "tag:ci": ["bob@example.com"],
        "tag:deploy": ["tag:ci"],
        "tag:router": [],
    },
    "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}],
    "autoApprovers": {
        "routes": {"10.0.0.0/8": ["tag:router"], "10.9.0.0/16": ["bob@example.com"]},
        "exitNode": ["tag:router"],
    },
}"#;

struct Tagged {
    net: Net,
    bob: UserId,
}

impl Tagged {
    async fn new() -> Self {
        let net = Net::new().await;
        let bob = net
            .engine
            .create_user(&net.admin, "bob@example.com", None, Role::Member)
            .await
            .unwrap()
            .id;
        net.set_policy(POLICY).await;
        Self { net, bob }
    }

    async fn key(&self, user: Option<UserId>, tags: &[&str]) -> String {
        let new = NewAuthKey {
            reusable: true,
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            ..NewAuthKey::default()
        };
        self.net.key_of(user, new).await.0
    }

    async fn bobs_key(&self) -> String {
        self.key(Some(self.bob), &[]).await
    }

    fn tags(&self, device: DeviceId) -> Vec<String> {
        self.net
            .device(device)
            .tags
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    async fn report(&self, device: DeviceId, change: impl FnOnce(&mut HostFacts)) {
        let mut facts = self.net.device(device).facts.clone();
        change(&mut facts);
        let report = Report {
            hostinfo: Some((RawJson::empty_object(), facts)),
            ..Report::default()
        };
        self.net
            .engine
            .report(self.net.tailnet, device, report)
            .await;
        self.net.settle().await;
    }

    async fn ask(&self, device: DeviceId, tags: &[&str]) {
        let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
        self.report(device, |facts| facts.request_tags = tags).await;
    }

    async fn events_since(&self, count: usize) -> Vec<String> {
        let events = self.net.audit().await.split_off(count);
        let text = |(action, property): (String, String)| format!("{action} {property}");
        events
            .into_iter()
            .map(text)
            .map(|text| text.trim().to_owned())
            .collect()
    }
}

fn asking(request: Registration, tags: &[&str]) -> Registration {
    let mut request = request;
    request.facts.request_tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    request
}

fn rotated(request: Registration, number: u64, old: u64) -> Registration {
    Registration {
        node_key: node_key(number),
        old_node_key: Some(node_key(old)),
        ..request
    }
}

fn owner(device: &Device) -> (Option<UserId>, bool) {
    (device.user, device.is_tagged())
}

#[tokio::test]
async fn a_tagged_key_makes_a_device_that_is_nobodys_and_never_expires() {
    let tagged = Tagged::new().await;
    let key = tagged.key(None, &["tag:ci", "tag:router"]).await;
    let device = tagged.net.register(request(1, &key)).await;
    assert_eq!(tagged.tags(device), ["tag:ci", "tag:router"]);
    let record = tagged.net.device(device);
    assert!(record.key_expiry_disabled && record.effective_expiry().is_none());
    tagged.net.pass(SignedDuration::from_hours(24 * 200)).await;
    assert!(!tagged.net.device(device).expired);
}

#[tokio::test]
async fn the_tags_of_a_users_device_are_those_that_the_user_owns() {
    let tagged = Tagged::new().await;
    let key = tagged.bobs_key().await;
    let before = tagged.net.snapshot().seq;
    for (asked, refused) in [
        (&["tag:router"][..], "tag:router"),
        (&["tag:ci", "tag:none", "tag:router"], "tag:none tag:router"),
        (&["ci"], "ci"),
    ] {
        let refusal = tagged
            .net
            .try_register(asking(request(1, &key), asked))
            .await
            .unwrap_err();
        assert_eq!(
            refusal.to_string(),
            format!("requested tags [{refused}] are invalid or not permitted")
        );
    }
    assert_eq!(tagged.net.snapshot().seq, before, "nothing changed");
    // Through the tag that owns the other one, in any case, each once.
    let asked = asking(request(1, &key), &["tag:deploy", "tag:CI", "tag:ci"]);
    let device = tagged.net.register(asked).await;
    assert_eq!(tagged.tags(device), ["tag:ci", "tag:deploy"]);
    assert_eq!(owner(&tagged.net.device(device)), (Some(tagged.bob), true));
    // The owner of the tailnet owns every tag that there is.
    let key = tagged.key(None, &[]).await;
    let device = tagged
        .net
        .register(asking(request(2, &key), &["tag:router"]))
        .await;
    assert_eq!(tagged.tags(device), ["tag:router"]);
}

#[tokio::test]
async fn who_acts_for_an_owner_of_tags_gives_no_tags_by_it() {
    let tagged = Tagged::new().await;
    let (net, engine) = (&tagged.net, &tagged.net.engine);
    let role = Role::ItAdmin;
    let made = engine.create_user(&net.admin, "ida@example.com", None, role);
    let ida = made.await.unwrap();
    let policy = POLICY.replace(
        r#""tag:ci": ["#,
        r#""tag:ida": ["ida@example.com", "bob@example.com"], "tag:ci": ["#,
    );
    net.set_policy(&policy).await;
    let actor = net.acting(ida.id).await;
    let reusable = || NewAuthKey {
        reusable: true,
        ..NewAuthKey::default()
    };
    for (number, user, foreign) in [(3, Some(tagged.bob), "tag:ci")] {
        let key = engine
            .create_auth_key(&actor, user, reusable())
            .await
            .unwrap()
            .0;
        let key = key.expose();
        let refused = net
            .try_register(asking(request(number, key), &[foreign]))
            .await;
        assert!(
            matches!(&refused, Err(RegistrationRefused::Tags(tags)) if tags == foreign),
            "{refused:?}"
        );
        // Without tags, or with such as are hers too.
        let device = net.register(request(number, key)).await;
        assert_eq!(owner(&net.device(device)), (user, false));
        let device = net
            .register(rotated(
                asking(request(number, key), &["tag:ida"]),
                number + 30,
                number,
            ))
            .await;
        assert_eq!(tagged.tags(device), ["tag:ida"]);
        // By a login likewise.
        let login = async |tag: &str| {
            let request = asking(request(number + 1, ""), &[tag]);
            let begun = engine.begin_login(request, [192, 0, 2, 1].into());
            begun.await.unwrap()
        };
        let user = user.unwrap().to_string();
        let refused = engine
            .confirm_login(&actor, &login(foreign).await, Some(&user), None)
            .await;
        assert_eq!(
            refused.unwrap_err().to_string(),
            format!("requested tags [{foreign}] are invalid or not permitted")
        );
        let confirmed = engine
            .confirm_login(&actor, &login("tag:ida").await, Some(&user), None)
            .await;
        assert_eq!(tagged.tags(confirmed.unwrap()), ["tag:ida"]);
    }
    // Owners of all tags are not held to it.
    let device = net
        .register(asking(request(9, &tagged.bobs_key().await), &["tag:ci"]))
        .await;
    assert_eq!(tagged.tags(device), ["tag:ci"]);
}

#[tokio::test]
async fn a_tagged_key_lets_devices_ask_for_its_own_tags_or_for_those_that_they_own() {
    let tagged = Tagged::new().await;
    let key = tagged.key(None, &["tag:ci", "tag:router"]).await;
    for (number, asked, tags) in [
        (
            1,
            &["tag:router", "tag:ci"][..],
            &["tag:ci", "tag:router"][..],
        ),
        (2, &["tag:deploy"], &["tag:deploy"]),
        (3, &[], &["tag:ci", "tag:router"]),
    ] {
        let device = tagged
            .net
            .register(asking(request(number, &key), asked))
            .await;
        assert_eq!(tagged.tags(device), tags);
    }
    // A part of its own is neither.
    let refused = tagged
        .net
        .try_register(asking(request(4, &key), &["tag:router"]))
        .await;
    assert!(
        matches!(&refused, Err(RegistrationRefused::Tags(tags)) if tags == "tag:router"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_tagged_key_gives_no_tag_that_the_policy_no_longer_declares() {
    let tagged = Tagged::new().await;
    let key = tagged.key(None, &["tag:ci", "tag:router"]).await;
    let without = POLICY
        .replace(r#""tag:router": [],"#, "")
        .replace("tag:router", "tag:ci");
    tagged.net.set_policy(&without).await;
    for asked in [&[][..], &["tag:ci", "tag:router"]] {
        let refused = tagged
            .net
            .try_register(asking(request(1, &key), asked))
            .await;
        assert_eq!(
            refused.unwrap_err().to_string(),
            "requested tags [tag:router] are invalid or not permitted"
        );
    }
    tagged.net.set_policy(POLICY).await;
    let device = tagged.net.register(request(1, &key)).await;
    assert_eq!(tagged.tags(device), ["tag:ci", "tag:router"]);
}

#[tokio::test]
async fn a_device_goes_from_its_user_to_tags_and_back_and_stays_the_same() {
    let tagged = Tagged::new().await;
    let key = tagged.bobs_key().await;
    let device = tagged.net.register(request(1, &key)).await;
    let before = tagged.net.device(device);
    assert!(before.effective_expiry().is_some());
    let count = tagged.net.audit().await.len();
    let to_tags = rotated(asking(request(1, &key), &["tag:ci"]), 11, 1);
    assert_eq!(tagged.net.register(to_tags).await, device);
    let after = tagged.net.device(device);
    assert_eq!(
        (&after.name, after.addresses(), after.node_key),
        (&before.name, before.addresses(), node_key(11))
    );
    assert!(after.is_tagged() && after.effective_expiry().is_none());
    assert_eq!(
        tagged.events_since(count).await,
        ["LOGIN", "UPDATE ACL_TAGS"]
    );
    let back = rotated(request(1, &key), 12, 11);
    assert_eq!(tagged.net.register(back).await, device);
    let after = tagged.net.device(device);
    assert_eq!(owner(&after), (Some(tagged.bob), false));
    assert!(after.effective_expiry().is_some());
    // A tagged key of somebody else, and from there to that person.
    let anns = tagged.key(None, &["tag:router"]).await;
    assert_eq!(
        tagged
            .net
            .register(rotated(request(1, &anns), 13, 12))
            .await,
        device
    );
    assert_eq!(tagged.tags(device), ["tag:router"]);
    let anns = tagged.key(None, &[]).await;
    assert_eq!(
        tagged
            .net
            .register(rotated(request(1, &anns), 14, 13))
            .await,
        device
    );
    assert_eq!(
        owner(&tagged.net.device(device)),
        (user(&tagged.net.admin), false)
    );
    // One person's device never becomes another's.
    let other = tagged.net.register(rotated(request(1, &key), 15, 14)).await;
    assert_ne!(other, device);
}

#[tokio::test]
async fn a_login_on_a_machine_takes_no_device_that_is_just_logging_in_there() {
    let tagged = Tagged::new().await;
    let (ci, bobs) = (tagged.key(None, &["tag:ci"]).await, tagged.bobs_key().await);
    let device = tagged.net.register(request(1, &ci)).await;
    drop(tagged.net.stream(device).await);
    // Its new node key has not been seen yet.
    let again = tagged.net.register(rotated(request(1, &ci), 11, 1)).await;
    assert_eq!(again, device);
    let another_profile = Registration {
        node_key: node_key(12),
        ..request(1, &bobs)
    };
    assert_ne!(tagged.net.register(another_profile).await, device);
    // The client that lost the answer, and asks to be Bob's now, has its first node key.
    let lost = tagged.net.register(rotated(request(1, &bobs), 13, 1)).await;
    assert_ne!(lost, device, "Bob has a device there already");
    tagged
        .net
        .engine
        .delete_device(&tagged.net.admin, lost)
        .await
        .unwrap();
    let lost = tagged.net.register(rotated(request(1, &bobs), 14, 1)).await;
    assert_eq!(lost, device);
}

#[tokio::test]
async fn a_key_that_is_disabled_for_expiry_by_an_administrator_stays_so_between_logins() {
    let tagged = Tagged::new().await;
    let key = tagged.bobs_key().await;
    let device = tagged.net.register(request(1, &key)).await;
    let admin: &bowline_engine::Actor = &tagged.net.admin;
    tagged
        .net
        .engine
        .set_key_expiry_disabled(admin, device, Some(true))
        .await
        .unwrap();
    tagged.net.register(rotated(request(1, &key), 11, 1)).await;
    assert!(tagged.net.device(device).key_expiry_disabled);
}

/// A device of a tagged key goes back to a person by the API, and then logs in as that person.
async fn back_to_a_person(tagged: &Tagged, said: Option<bool>) -> bool {
    let (engine, admin) = (&tagged.net.engine, &tagged.net.admin);
    let key = tagged.key(None, &["tag:ci"]).await;
    let device = tagged.net.register(request(1, &key)).await;
    engine
        .set_key_expiry_disabled(admin, device, said)
        .await
        .unwrap();
    let untagged = engine.set_device_tags(admin, device, Vec::new());
    untagged.await.unwrap();
    assert!(
        tagged.net.device(device).key_expiry_disabled,
        "until the next login"
    );
    let anns = tagged.key(None, &[]).await;
    let login = rotated(request(1, &anns), 11, 1);
    assert_eq!(tagged.net.register(login).await, device);
    assert!(!tagged.net.device(device).is_tagged());
    tagged.net.device(device).key_expiry_disabled
}

#[tokio::test]
async fn that_tagged_devices_do_not_expire_ends_when_one_logs_in_as_a_person() {
    let tagged = Tagged::new().await;
    assert!(!back_to_a_person(&tagged, None).await);
}

#[tokio::test]
async fn that_an_administrator_said_that_a_tagged_device_does_not_expire_stays() {
    let tagged = Tagged::new().await;
    let count = tagged.net.audit().await.len();
    assert!(back_to_a_person(&tagged, Some(true)).await);
    let events = tagged.events_since(count).await;
    assert!(
        events.contains(&"DISABLE KEY_EXPIRY".to_owned()),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_persons_device_that_asks_for_tags_must_log_in_for_them() {
    let tagged = Tagged::new().await;
    let key = tagged.bobs_key().await;
    let device = tagged.net.register(request(1, &key)).await;
    let count = tagged.net.audit().await.len();
    tagged.ask(device, &["tag:ci"]).await;
    let record = tagged.net.device(device);
    assert!(record.expired && owner(&record) == (Some(tagged.bob), false));
    assert_eq!(
        tagged.events_since(count).await,
        ["EXPIRED KEY_EXPIRY_TIME"]
    );
    let login = rotated(asking(request(1, &key), &["tag:ci"]), 11, 1);
    assert_eq!(tagged.net.register(login).await, device);
    assert_eq!(tagged.tags(device), ["tag:ci"]);
}

#[tokio::test]
async fn a_tagged_device_gets_tags_that_its_own_ones_own() {
    let tagged = Tagged::new().await;
    let key = tagged.key(None, &["tag:ci"]).await;
    let device = tagged.net.register(request(1, &key)).await;
    let count = tagged.net.audit().await.len();
    // Its own tags own the next one; a tag that it has already is not a change.
    tagged.ask(device, &["tag:deploy"]).await;
    assert_eq!(tagged.tags(device), ["tag:deploy"]);
    assert_eq!(tagged.events_since(count).await, ["UPDATE ACL_TAGS"]);
    let count = tagged.net.audit().await.len();
    tagged.ask(device, &["tag:deploy"]).await;
    assert!(tagged.events_since(count).await.is_empty());
    // Without tags it would be somebody's: they must log in for that.
    tagged.ask(device, &[]).await;
    assert!(tagged.net.device(device).expired);
    assert_eq!(
        tagged.events_since(count).await,
        ["ENABLE KEY_EXPIRY", "EXPIRED KEY_EXPIRY_TIME"]
    );
}

#[tokio::test]
async fn tags_that_a_device_cannot_have_leave_it_as_it_is_and_are_said() {
    let tagged = Tagged::new().await;
    let tagged_key = tagged.key(None, &["tag:ci"]).await;
    let ci = tagged.net.register(request(1, &tagged_key)).await;
    let bobs = tagged.bobs_key().await;
    let bobs = tagged.net.register(request(2, &bobs)).await;
    for (device, asked, refused) in [
        (ci, &["tag:ci", "tag:typo"][..], &["tag:typo"][..]),
        (ci, &["tag:router"], &["tag:router"]),
        (ci, &["nothing like a tag"], &["nothing like a tag"]),
        (bobs, &["tag:router", "tag:ci"], &["tag:router"]),
        (bobs, &["tag:typo"], &["tag:typo"]),
    ] {
        let before = tagged.net.device(device);
        let count = tagged.net.audit().await.len();
        tagged.ask(device, asked).await;
        let after = tagged.net.device(device);
        assert!(!after.expired && after.tags == before.tags, "{asked:?}");
        assert_eq!(after.refused_tags, refused);
        assert_eq!(tagged.events_since(count).await, ["DENY ACL_TAGS"]);
        // Clients repeat themselves.
        tagged.ask(device, asked).await;
        assert_eq!(tagged.events_since(count).await, ["DENY ACL_TAGS"]);
    }
    // It asks for what it has again, or for nothing.
    tagged.ask(ci, &["tag:ci"]).await;
    tagged.ask(bobs, &[]).await;
    for device in [ci, bobs] {
        assert!(tagged.net.device(device).refused_tags.is_empty());
    }
}

#[tokio::test]
async fn tags_that_were_refused_are_given_once_the_policy_allows_them() {
    let tagged = Tagged::new().await;
    let key = tagged.key(None, &["tag:ci"]).await;
    let device = tagged.net.register(request(1, &key)).await;
    tagged.ask(device, &["tag:router"]).await;
    assert_eq!(tagged.net.device(device).refused_tags, ["tag:router"]);
    let allowing = POLICY.replace(r#""tag:router": []"#, r#""tag:router": ["tag:ci"]"#);
    tagged.net.set_policy(&allowing).await;
    // It says what it said before.
    tagged.ask(device, &["tag:router"]).await;
    assert_eq!(tagged.tags(device), ["tag:router"]);
    assert!(tagged.net.device(device).refused_tags.is_empty());
    // An administrator's word settles it too.
    tagged.ask(device, &["tag:typo"]).await;
    tagged
        .net
        .engine
        .set_device_tags(&tagged.net.admin, device, vec!["tag:ci".to_owned()])
        .await
        .unwrap();
    assert!(tagged.net.device(device).refused_tags.is_empty());
}

#[tokio::test]
async fn tags_asked_for_are_decided_durably() {
    let tagged = Tagged::new().await;
    let key = tagged.key(None, &["tag:ci"]).await;
    let device = tagged.net.register(request(1, &key)).await;
    let mut facts = tagged.net.device(device).facts.clone();
    facts.request_tags = vec!["tag:deploy".to_owned()];
    let report = Report {
        hostinfo: Some((RawJson::empty_object(), facts)),
        ..Report::default()
    };
    let tailnet = tagged.net.tailnet;
    tagged.net.engine.report(tailnet, device, report).await;
    let rows = tagged.net.engine.store().load(tailnet).await.unwrap();
    let stored = rows
        .rows
        .iter()
        .any(|row| row.id == device.get() && row.body.contains(r#""tags":["tag:deploy"]"#));
    assert!(stored, "before the report is answered");
}

#[tokio::test]
async fn routes_that_the_policy_approves_are_enabled_when_they_are_advertised() {
    let tagged = Tagged::new().await;
    let routes = |list: &[&str]| -> Vec<ipnet::IpNet> {
        list.iter().map(|route| route.parse().unwrap()).collect()
    };
    let key = tagged.key(None, &["tag:router"]).await;
    let mut joins = request(1, &key);
    joins.facts.advertised_routes = routes(&["10.1.0.0/16", "192.168.0.0/24"]);
    let count = tagged.net.audit().await.len();
    let router = tagged.net.register(joins).await;
    assert_eq!(
        tagged.net.device(router).enabled_routes,
        routes(&["10.1.0.0/16"])
    );
    assert_eq!(
        tagged.events_since(count).await,
        ["CREATE", "UPDATE AUTO_APPROVED_ROUTES"]
    );
    let count = tagged.net.audit().await.len();
    // Reported later, an exit node whole.
    tagged
        .report(router, |facts| {
            facts.advertised_routes = routes(&["0.0.0.0/0", "10.1.0.0/16", "10.2.0.0/16"]);
        })
        .await;
    assert_eq!(
        tagged.net.device(router).enabled_routes,
        routes(&["0.0.0.0/0", "10.1.0.0/16", "10.2.0.0/16", "::/0"])
    );
    assert_eq!(
        tagged.events_since(count).await,
        ["UPDATE AUTO_APPROVED_ROUTES"]
    );
    // What nobody approves is reported all the same, and leaves no event.
    let count = tagged.net.audit().await.len();
    tagged
        .report(router, |facts| {
            facts.advertised_routes = routes(&["172.16.0.0/24"]);
        })
        .await;
    assert_eq!(
        tagged.net.device(router).facts.advertised_routes,
        routes(&["172.16.0.0/24"])
    );
    assert!(tagged.events_since(count).await.is_empty());
    // An administrator who takes a route away is not overruled by a device that says the same again.
    let own = tagged
        .net
        .register(request(2, &tagged.bobs_key().await))
        .await;
    let advertise = |facts: &mut HostFacts| facts.advertised_routes = routes(&["10.9.1.0/24"]);
    tagged.report(own, advertise).await;
    assert_eq!(
        tagged.net.device(own).enabled_routes,
        routes(&["10.9.1.0/24"])
    );
    tagged
        .net
        .engine
        .set_device_routes(&tagged.net.admin, own, &[])
        .await
        .unwrap();
    tagged.report(own, advertise).await;
    tagged.net.register(request(2, "")).await;
    assert!(tagged.net.device(own).enabled_routes.is_empty());
}

#[tokio::test]
async fn of_reports_that_follow_each_other_the_last_one_stands() {
    let tagged = Tagged::new().await;
    let key = tagged.key(None, &["tag:router"]).await;
    let device = tagged.net.register(request(1, &key)).await;
    let (engine, tailnet) = (&tagged.net.engine, tagged.net.tailnet);
    let report = |routes: &[&str], endpoint: &str| {
        let mut facts = tagged.net.device(device).facts.clone();
        facts.advertised_routes = routes.iter().map(|route| route.parse().unwrap()).collect();
        let report = Report {
            hostinfo: Some((RawJson::empty_object(), facts)),
            endpoints: Some(vec![endpoint.parse().unwrap()]),
            ..Report::default()
        };
        engine.report(tailnet, device, report)
    };
    // The second says what was so before the first.
    let first = report(&["10.1.0.0/16"], "192.0.2.1:1");
    let second = report(&[], "192.0.2.2:2");
    futures_util::future::join(first, second).await;
    tagged.net.settle().await;
    let advertised = || tagged.net.device(device).facts.advertised_routes.clone();
    assert!(advertised().is_empty());
    let endpoints = || tagged.net.entry(device).live.endpoints[0].to_string();
    assert_eq!(endpoints(), "192.0.2.2:2");
    // The second asks for nothing but has newer endpoints.
    let newer = Report {
        endpoints: Some(vec!["192.0.2.3:3".parse().unwrap()]),
        ..Report::default()
    };
    let first = report(&["10.2.0.0/16"], "192.0.2.1:1");
    futures_util::future::join(first, engine.report(tailnet, device, newer)).await;
    tagged.net.settle().await;
    assert_eq!(endpoints(), "192.0.2.3:3");
    assert_eq!(advertised(), ["10.2.0.0/16".parse().unwrap()]);
    // Whatever was on its way, routes that the policy approves are enabled.
    let first = report(&["10.3.0.0/16"], "192.0.2.1:1");
    let second = report(&["10.2.0.0/16", "10.4.0.0/16"], "192.0.2.1:1");
    futures_util::future::join(first, second).await;
    let enabled = tagged.net.device(device).enabled_routes.clone();
    assert!(
        enabled.contains(&"10.4.0.0/16".parse().unwrap()),
        "{enabled:?}"
    );
    assert_eq!(advertised().len(), 2);
}

#[tokio::test]
async fn a_new_device_gets_its_address_from_the_pool_of_its_owner() {
    let tagged = Tagged::new().await;
    let before = tagged
        .net
        .register(request(1, &tagged.bobs_key().await))
        .await;
    let address = tagged.net.device(before).ipv4;
    let pools = POLICY.replacen(
        '{',
        r#"{"nodeAttrs": [
            {"target": ["bob@example.com"], "ipPool": ["100.81.0.0/30"]},
            {"target": ["tag:ci"], "ipPool": ["100.82.0.0/24"]},
        ],"#,
        1,
    );
    tagged.net.set_policy(&pools).await;
    let key = tagged.bobs_key().await;
    let pool: ipnet::Ipv4Net = "100.81.0.0/30".parse().unwrap();
    for number in 2..6 {
        let device = tagged.net.register(request(number, &key)).await;
        let address = tagged.net.device(device).ipv4;
        assert!(pool.contains(&address), "{address}");
    }
    // A device that finds it full joins all the same.
    let device = tagged.net.register(request(6, &key)).await;
    assert!(!pool.contains(&tagged.net.device(device).ipv4));
    let ci = tagged.key(None, &["tag:ci"]).await;
    let device = tagged.net.register(request(7, &ci)).await;
    assert_eq!(tagged.net.device(device).ipv4.octets()[..3], [100, 82, 0]);
    // Devices keep what they have, whoever they belong to.
    assert_eq!(tagged.net.device(before).ipv4, address);
    let kept = tagged.net.register(rotated(request(1, &ci), 11, 1)).await;
    assert_eq!((kept, tagged.net.device(kept).ipv4), (before, address));
}

#[tokio::test]
async fn an_ephemeral_or_preapproved_key_is_so_with_tags_too() {
    let tagged = Tagged::new().await;
    let (key, _) = tagged
        .net
        .key_with(NewAuthKey {
            ephemeral: true,
            preauthorized: true,
            tags: vec!["tag:ci".to_owned()],
            ..NewAuthKey::default()
        })
        .await;
    let outcome = tagged.net.try_register(request(1, &key)).await.unwrap();
    let Registered::In { device, .. } = outcome else {
        panic!("{outcome:?}");
    };
    let record = tagged.net.device(device);
    assert!(record.ephemeral && record.authorized && record.is_tagged());
}
