//! What audit events say: for whom, from where, and what belongs together.

use std::collections::BTreeSet;

use bowline_engine::credential::NewAuthKey;
use bowline_model::user::Role;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::net::{Net, request, user};

async fn events(net: &Net) -> Vec<Value> {
    let store = net.engine.store();
    let rows = store.audit(net.tailnet, Timestamp::MIN, Timestamp::MAX, usize::MAX);
    let rows = rows.await.unwrap();
    rows.iter()
        .map(|row| serde_json::from_str(&row.body).unwrap())
        .collect()
}

/// The members of a record, with those of its members that are objects in their place.
fn members(record: &Value, into: &mut BTreeSet<String>) {
    for (name, value) in record.as_object().unwrap() {
        if value.is_object() {
            members(value, into);
        } else {
            into.insert(name.clone());
        }
    }
}

/// Holds an event against the record that it is about: each member of the record that grants
/// something is in it, by the name that `renamed` gives or its own.
fn names_everything(
    event: &Value,
    record: &Value,
    renamed: &[(&str, &str)],
    grants_nothing: &[&str],
) {
    let mut names = BTreeSet::new();
    members(record, &mut names);
    for name in names {
        if grants_nothing.contains(&name.as_str()) {
            continue;
        }
        let told = renamed.iter().find(|(own, _)| *own == name);
        let told = told.map_or(name.as_str(), |(_, told)| *told);
        assert!(
            event["new"].get(told).is_some_and(|value| !value.is_null()),
            "{} says nothing of {name}: {event}",
            event["action"]
        );
    }
}

#[tokio::test]
async fn an_event_names_every_member_that_grants_something_and_for_whom() {
    let net = Net::new().await;
    net.set_policy(r#"{"tagOwners": {"tag:ci": []}}"#).await;
    let bob = net
        .engine
        .create_user(&net.admin, "bob@example.com", None, Role::Member)
        .await
        .unwrap();
    let all = events(&net).await;
    let record = serde_json::to_value(&bob).unwrap();
    names_everything(
        all.last().unwrap(),
        &record,
        &[],
        &["id", "created", "status", "displayName"],
    );
    // For somebody else, with everything that a key can have.
    let new = NewAuthKey {
        reusable: true,
        ephemeral: true,
        preauthorized: true,
        tags: vec!["tag:ci".to_owned()],
        expiry_seconds: Some(3600),
        description: "everything".to_owned(),
    };
    let (minted, credential) = net
        .engine
        .create_auth_key(&net.admin, Some(bob.id), new)
        .await
        .unwrap();
    let record = serde_json::to_value(&*credential).unwrap();
    let all = events(&net).await;
    let event = all.last().unwrap();
    names_everything(
        event,
        &record,
        &[("tags", "authTags")],
        &["id", "hash", "created", "expired"],
    );
    assert_eq!(event["new"]["user"], bob.id.stable());
    assert_eq!(event["new"]["maker"], user(&net.admin).unwrap().stable());
    let (_, credential) = net
        .engine
        .create_access_token(&net.admin, None, "token", None)
        .await
        .unwrap();
    let record = serde_json::to_value(&*credential).unwrap();
    let all = events(&net).await;
    let is_without = ["id", "hash", "created", "expired"];
    names_everything(all.last().unwrap(), &record, &[], &is_without);
    // A device that comes in by the key.
    let device = net.register(request(1, minted.expose())).await;
    let record = serde_json::to_value(&*net.device(device)).unwrap();
    let all = events(&net).await;
    let created = |event: &&Value| event["action"] == "CREATE" && event["target"]["type"] == "NODE";
    names_everything(
        all.iter().rfind(created).unwrap(),
        &record,
        &[
            ("registeredBy", "maker"),
            ("keyExpiry", "keyExpiryDisabled"),
            ("keyExpiryDisabledForTags", "keyExpiryDisabled"),
            ("ipv4", "addresses"),
            ("ipv6", "addresses"),
        ],
        // What the device says of itself, and what changes without a grant.
        &[
            "id",
            "machineKey",
            "lockKey",
            "name",
            "nameGiven",
            "created",
            "expired",
            "seen",
            "capabilityVersion",
            "hostname",
            "os",
            "osVersion",
            "clientVersion",
            "distro",
            "advertisedRoutes",
            "requestTags",
            "shieldsUp",
            "ssh",
            "stateEncrypted",
            "autoUpdate",
        ],
    );
}

#[tokio::test]
async fn the_events_of_one_call_are_a_group_and_say_where_they_come_from() {
    let net = Net::new().await;
    let group = |event: &Value| event["eventGroupID"].as_str().unwrap().to_owned();
    let device = net.join(1).await;
    let other = net.join(2).await;
    let set = net
        .engine
        .set_key_expiry_disabled(&net.admin, device, Some(true));
    set.await.unwrap();
    let before = events(&net).await.len();
    net.engine.expire_device(&net.admin, device).await.unwrap();
    let expired = events(&net).await.split_off(before);
    let what: Vec<_> = expired
        .iter()
        .map(|event| (event["action"].clone(), event["target"]["property"].clone()))
        .collect();
    let expected = [("ENABLE", "KEY_EXPIRY"), ("UPDATE", "KEY_EXPIRY_TIME")];
    assert_eq!(
        what,
        expected.map(|(action, property)| (action.into(), property.into()))
    );
    assert_eq!(group(&expired[0]), group(&expired[1]));
    assert!(expired.iter().all(|event| event["origin"] == "CONFIG_API"));
    // What falls due at the same moment belongs to different objects.
    net.join(3).await;
    net.pass(SignedDuration::from_hours(24 * 200)).await;
    let all = events(&net).await;
    let due: Vec<_> = all
        .iter()
        .filter(|event| event["action"] == "EXPIRED" && event["target"]["type"] == "NODE")
        .collect();
    assert_eq!(due.len(), 2, "{other}");
    assert_ne!(group(due[0]), group(due[1]));
    assert!(due.iter().all(|event| event["origin"] == "CONTROL"));
    let joined: Vec<_> = all
        .iter()
        .filter(|event| event["action"] == "CREATE" && event["target"]["type"] == "NODE")
        .collect();
    assert!(joined.iter().all(|event| event["origin"] == "NODE"));
    let groups: BTreeSet<String> = all.iter().map(group).collect();
    for text in groups {
        assert_eq!(text.len(), 32);
        assert!(text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    }
}

#[tokio::test]
async fn a_refused_caller_leaves_events_and_does_not_fill_the_log() {
    let net = Net::new().await;
    let refused = async |times: usize| {
        let request = format!("DELETE /device/{}", "x".repeat(1000));
        for _ in 0..times {
            let note =
                net.engine
                    .note_refused(&net.admin, "deleteDevice", &request, "not permitted");
            note.await;
        }
    };
    let failed = async || {
        let mut all = events(&net).await;
        all.retain(|event| event["target"]["type"] == "FAILED_REQUEST");
        all
    };
    refused(200).await;
    let noted = failed().await;
    assert_eq!(noted.len(), 10);
    assert_eq!(noted[0]["action"], "UPDATE");
    assert_eq!(noted[0]["target"]["id"], "deleteDevice");
    assert_eq!(noted[0]["error"], "not permitted");
    assert_eq!(noted[0]["actor"]["login"], "ann@example.com");
    assert!(noted[0]["target"]["name"].as_str().unwrap().len() <= 256);
    net.pass(SignedDuration::from_mins(1)).await;
    refused(200).await;
    let noted = failed().await;
    assert_eq!(noted.len(), 11);
    assert_eq!(
        noted[10]["details"],
        "190 more were refused before this one"
    );
}
