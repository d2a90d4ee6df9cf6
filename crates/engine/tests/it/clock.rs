//! A wall clock that jumps: what falls due because of it waits, and what a wrong clock ended is good
//! again with the right one.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_engine::credential::NewAuthKey;
use bowline_engine::{Refusal, Settings};
use bowline_model::device::AttributeValue;
use bowline_model::id::{DeviceId, KeyId};
use bowline_store::Options;
use jiff::{SignedDuration, Timestamp};

use crate::net::{Net, node_key, operator, quick, request, until};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// One of everything that ends by the clock.
struct Everything {
    person: DeviceId,
    ephemeral: DeviceId,
    key: String,
    key_id: KeyId,
    revoked: KeyId,
    token: String,
}

async fn everything(net: &Net) -> Everything {
    let person = net.join(1).await;
    let edits = BTreeMap::from([(
        "custom:ends".to_owned(),
        Some((AttributeValue::Bool(true), Some(net.now() + DAY * 150))),
    )]);
    net.engine
        .edit_attributes(&net.admin, vec![(person, edits)], None)
        .await
        .unwrap();
    let (ephemeral_key, _) = net
        .key_with(NewAuthKey {
            ephemeral: true,
            ..NewAuthKey::default()
        })
        .await;
    let ephemeral = net.register(request(2, &ephemeral_key)).await;
    let (key, key_id) = net
        .key_with(NewAuthKey {
            reusable: true,
            ..NewAuthKey::default()
        })
        .await;
    let (_, revoked) = net.key_with(NewAuthKey::default()).await;
    net.engine
        .revoke_credential(&net.admin, revoked)
        .await
        .unwrap();
    let (token, _) = net
        .engine
        .create_access_token(&net.admin, None, "ci", None)
        .await
        .unwrap();
    Everything {
        person,
        ephemeral,
        key,
        key_id,
        revoked,
        token: token.expose().to_owned(),
    }
}

impl Everything {
    /// Fails where anything of it has ended.
    fn is_good(&self, net: &Net, when: &str) {
        let snapshot = net.snapshot();
        let person = &snapshot.device(self.person).expect(when).device;
        assert!(!person.expired, "{when}: the node key");
        assert!(net.engine.admits(&node_key(1)), "{when}");
        assert!(person.attributes.contains_key("custom:ends"), "{when}");
        assert!(snapshot.device(self.ephemeral).is_some(), "{when}");
        assert!(snapshot.credential(self.key_id).is_some(), "{when}");
        assert!(snapshot.credential(self.revoked).is_some(), "{when}");
        assert!(net.engine.authenticate(&self.token).is_some(), "{when}");
        let listed = net.engine.credentials(&net.admin, true);
        assert!(listed.iter().any(|one| one.id == self.key_id), "{when}");
    }
}

/// Wrong clocks, as days away from the right one: a virtual machine that woke, a bad answer of a time
/// server, an empty battery, an overflow.
const WRONG: [i64; 7] = [1, 100, 200, 400, 3000, -200, -20_000];

#[tokio::test]
async fn nothing_ends_because_of_a_clock_that_is_wrong_for_a_while() {
    for days in WRONG {
        let net = Net::new().await;
        let all = everything(&net).await;
        let right = net.now();
        net.set_clock(right + DAY * i32::try_from(days).unwrap())
            .await;
        all.is_good(&net, &format!("{days} days away"));
        assert!(net.engine.clock().is_held);
        net.pass(SignedDuration::from_secs(30)).await;
        all.is_good(&net, &format!("{days} days away, half a minute later"));
        // Work goes on, and what begins now ends when it should.
        let (short, _) = net
            .engine
            .create_access_token(&net.admin, None, "short", Some(60))
            .await
            .unwrap();
        net.register(request(3, &all.key)).await;
        net.set_clock(right + SignedDuration::from_secs(30)).await;
        assert!(!net.engine.clock().is_held);
        all.is_good(&net, &format!("right again after {days} days"));
        assert!(net.engine.authenticate(short.expose()).is_some());
        net.pass(SignedDuration::from_secs(60)).await;
        assert!(net.engine.authenticate(short.expose()).is_none());
    }
}

#[tokio::test]
async fn a_server_that_starts_with_a_wrong_clock_ends_nothing_either() {
    for days in WRONG {
        let net = Net::new().await;
        let all = everything(&net).await;
        let right = net.now();
        let away = right + DAY * i32::try_from(days).unwrap();
        let net = net.restart_at(away).await;
        assert!(net.engine.clock().is_held, "{days}");
        net.pass(SignedDuration::from_secs(30)).await;
        all.is_good(&net, &format!("started {days} days away"));
        // Once more, without having been right: the noted moment is that of the time it went by.
        let net = net.restart_at(away).await;
        all.is_good(&net, &format!("started twice {days} days away"));
        net.set_clock(right + SignedDuration::from_mins(10)).await;
        assert!(!net.engine.clock().is_held, "{days}");
        all.is_good(&net, &format!("right again after {days} days"));
    }
}

#[tokio::test]
async fn what_a_jump_ends_waits_for_the_operators_word() {
    let net = Net::new().await;
    let all = everything(&net).await;
    let later = net.now() + DAY * 200;
    net.set_clock(later).await;
    all.is_good(&net, "before the word");
    let due = net.engine.falls_due();
    // Two devices; the reusable key and the one of the second device was used; two tokens.
    assert_eq!((due.devices, due.credentials), (2, 3));
    let wrong = net.engine.confirm_clock(later - DAY).await;
    assert!(matches!(wrong, Err(Refusal::Invalid(_))), "{wrong:?}");
    all.is_good(&net, "after a word about another moment");
    let status = net.engine.confirm_clock(later).await.unwrap();
    assert!(!status.is_held && status.time == later && status.jumps == 1);
    assert!(net.device(all.person).expired);
    assert!(net.engine.authenticate(&all.token).is_none());
    assert!(
        net.audit()
            .await
            .contains(&("CONFIRM".to_owned(), "CLOCK".to_owned()))
    );
    // How long it was silent nobody knows: that counts from now.
    assert!(net.snapshot().device(all.ephemeral).is_some());
    net.pass(SignedDuration::from_mins(30)).await;
    assert!(net.snapshot().device(all.ephemeral).is_none());
}

#[tokio::test]
async fn what_a_confirmed_clock_ended_is_good_again_when_it_was_wrong_after_all() {
    let net = Net::new().await;
    let all = everything(&net).await;
    let (logged_out, right) = (net.join(5).await, net.now());
    net.engine
        .expire_device(&net.admin, logged_out)
        .await
        .unwrap();
    net.set_clock(right + DAY * 400).await;
    net.engine.confirm_clock(net.now()).await.unwrap();
    assert!(net.engine.authenticate(&all.token).is_none());
    net.pass(DAY * 50).await;
    net.engine.run_jobs().await;
    assert!(net.device(all.person).expired && !net.engine.admits(&node_key(1)));
    assert!(net.device(all.person).attributes.is_empty());
    assert!(net.snapshot().credential(all.revoked).is_none());
    net.set_clock(right + SignedDuration::from_hours(1)).await;
    net.engine.confirm_clock(net.now()).await.unwrap();
    assert!(!net.device(all.person).expired && net.engine.admits(&node_key(1)));
    assert!(
        net.device(all.person)
            .attributes
            .contains_key("custom:ends")
    );
    assert!(net.engine.authenticate(&all.token).is_some());
    assert!(net.snapshot().credential(all.key_id).is_some());
    assert!(
        net.device(logged_out).expired,
        "what somebody ended stays ended"
    );
    let audit = net.audit().await;
    for property in ["KEY_EXPIRY_TIME", "ATTRIBUTES"] {
        assert!(audit.contains(&("RESTORED".to_owned(), property.to_owned())));
    }
    // And ends at its time.
    net.pass(DAY * 180).await;
    assert!(net.device(all.person).expired);
}

#[tokio::test]
async fn a_token_ended_by_a_clock_that_was_hours_ahead_is_good_again_and_so_is_a_node_key() {
    let net = Net::new().await;
    let all = everything(&net).await;
    net.pass(DAY * 180 - SignedDuration::from_hours(2)).await;
    let (token, _) = net
        .engine
        .create_access_token(&operator(net.tailnet), None, "ci", Some(3600))
        .await
        .unwrap();
    let right = net.now();
    net.set_clock(right + SignedDuration::from_hours(5)).await;
    assert!(!net.engine.clock().is_held, "less than a day is followed");
    assert!(net.device(all.person).expired);
    assert!(net.engine.authenticate(token.expose()).is_none());
    net.set_clock(right).await;
    assert!(!net.device(all.person).expired);
    assert!(net.engine.authenticate(token.expose()).is_some());
}

#[tokio::test]
async fn a_logout_and_an_expiry_by_hand_stand_whatever_the_clock_does() {
    let net = Net::new().await;
    let (out, expired) = (net.join(1).await, net.join(2).await);
    let right = net.now();
    net.set_clock(right + SignedDuration::from_hours(20)).await;
    net.engine.expire_device(&net.admin, expired).await.unwrap();
    let mut leaving = request(1, "");
    leaving.expiry = Some(right);
    net.try_register(leaving).await.unwrap();
    net.set_clock(right).await;
    assert!(net.device(out).expired && net.device(expired).expired);
}

#[tokio::test]
async fn an_ephemeral_device_is_not_deleted_because_the_clock_stepped() {
    let net = Net::new().await;
    let (key, _) = net
        .key_with(NewAuthKey {
            ephemeral: true,
            reusable: true,
            ..NewAuthKey::default()
        })
        .await;
    let device = net.register(request(1, &key)).await;
    drop(net.stream(device).await);
    until("the device is offline", || {
        (!net.is_online(device)).then_some(())
    })
    .await;
    for hours in [5, -9, 4] {
        let wall = net.now() + SignedDuration::from_hours(hours);
        net.set_clock(wall).await;
        net.pass(SignedDuration::from_mins(20)).await;
        assert!(net.snapshot().device(device).is_some(), "{hours}");
    }
    net.pass(SignedDuration::from_mins(10)).await;
    assert!(net.snapshot().device(device).is_none());
}

#[tokio::test]
async fn ids_grow_whatever_the_clock_does() {
    let net = Net::new().await;
    let mut ids = Vec::new();
    let mut mint = async |net: &Net| {
        let key = net.key_with(NewAuthKey::default()).await.1;
        ids.push(key.get());
    };
    let right = net.now();
    for days in WRONG {
        mint(&net).await;
        net.set_clock(right + DAY * i32::try_from(days).unwrap())
            .await;
        mint(&net).await;
        net.set_clock(right).await;
    }
    // Believed, too, and over restarts.
    net.set_clock(right + DAY * 80).await;
    net.engine.confirm_clock(net.now()).await.unwrap();
    mint(&net).await;
    let net = net.restart_at(right).await;
    mint(&net).await;
    net.engine.confirm_clock(right).await.unwrap();
    mint(&net).await;
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
}

#[tokio::test]
async fn a_tailnet_is_not_made_by_a_clock_that_cannot_be_right() {
    let net = Net::new().await;
    net.set_clock("1970-01-01T00:01:00Z".parse().unwrap()).await;
    let early = net.engine.confirm_clock(net.now()).await;
    assert!(matches!(early, Err(Refusal::Invalid(_))), "{early:?}");
    // A server that has nothing to go on from.
    let settings = Settings {
        clock_jump: Duration::ZERO,
        ..quick()
    };
    let other = Net::with(settings, Options::default()).await;
    other.set_clock(Timestamp::UNIX_EPOCH).await;
    let made = other
        .engine
        .create_tailnet("bob@example.com", Some("example.net"))
        .await;
    assert!(
        matches!(&made, Err(Refusal::Invalid(text)) if text.contains("set it first")),
        "{made:?}"
    );
}

#[tokio::test]
async fn a_database_from_a_backup_may_be_old_and_is_never_newer_than_the_clock() {
    let net = Net::new().await;
    let all = everything(&net).await;
    let noted = net.now();
    let forget = |path: &std::path::Path| {
        let database = rusqlite::Connection::open(path.join("bowline.db")).unwrap();
        database.execute("DELETE FROM moments", []).unwrap();
    };
    let net = net.restart_with(DAY * 20, forget).await;
    assert!(!net.engine.clock().is_held);
    let later = net.now();
    net.engine
        .rename_device(&net.admin, all.person, "other")
        .await
        .unwrap();
    let net = net.restart_at_with(noted, forget).await;
    let clock = net.engine.clock();
    assert!(clock.is_held && clock.time >= later);
}
