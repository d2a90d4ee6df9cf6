//! Every event has its name and tells what it says that it tells; every member of a record has been
//! thought about.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::told::{Account, Member, Telling, Told};
use super::*;
use crate::audit::{ActorRef, AuditEvent, EventGroup};
use crate::kind::ObjectId;
use crate::policy_file::PolicyFile;
use crate::record;

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_str(&value.to_string()).unwrap()
}

fn key(kind: &str, digit: char) -> String {
    format!("{kind}:{}", String::from(digit).repeat(64))
}

/// A device with every member; `0` and `1` differ in each that can change.
fn device_json(number: usize) -> Value {
    let of = |choices: [Value; 2]| choices[number].clone();
    let attribute = json!({"value": number, "expires": "2026-03-02T00:00:00Z"});
    json!({
        "id": 5,
        "user": of([json!(7), json!(8)]),
        "tags": of([json!(["tag:a"]), json!(["tag:b"])]),
        "machineKey": key("mkey", '5'),
        "nodeKey": key("nodekey", ['1', '2'][number]),
        "lockKey": "nlpub:1",
        "name": of([json!("one"), json!("two")]),
        "nameGiven": true,
        "ipv4": of([json!("100.64.0.1"), json!("100.64.0.2")]),
        "ipv6": of([json!("fd7a:115c:a1e0::1"), json!("fd7a:115c:a1e0::2")]),
        "created": "2026-03-01T00:00:00Z",
        "keyExpiry": of([json!("2026-04-01T00:00:00Z"), json!("2026-05-01T00:00:00Z")]),
        "keyExpiryDisabled": number == 1,
        "keyExpiryDisabledForTags": true,
        "expired": number == 1,
        "keyEnded": true,
        "authorized": number == 1,
        "ephemeral": number == 1,
        "authKey": of([json!(9), json!(10)]),
        "registeredBy": of([json!(7), json!(8)]),
        "seen": true,
        "replacedKey": key("nodekey", '4'),
        "capabilityVersion": 130,
        "hostinfo": {"OS": "linux"},
        "facts": {"hostname": "one"},
        "enabledRoutes": of([json!(["10.0.0.0/8"]), json!(["10.1.0.0/16"])]),
        "attributes": {"custom:x": attribute},
        "refusedTags": of([json!(["tag:no"]), json!(["tag:never"])]),
        "endedAttributes": {"custom:y": {"value": true}},
        "expiryTold": "2026-04-01T00:00:00Z",
    })
}

/// A credential of a kind, with every member.
fn credential_json(kind: &str, number: usize) -> Value {
    let of = |choices: [Value; 2]| choices[number].clone();
    let used = json!({
        "at": "2026-03-01T00:00:00Z",
        "machineKey": key("mkey", '5'),
        "nodeKey": key("nodekey", '1'),
        "device": 5 + number,
    });
    let text = of([json!("https://one.example"), json!("https://two.example")]);
    let tags = of([json!(["tag:a"]), json!(["tag:b"])]);
    let scopes = of([json!(["devices:core"]), json!(["dns:read"])]);
    let kind = match kind {
        "auth" => json!({
            "type": kind, "reusable": number == 1, "ephemeral": number == 1,
            "preauthorized": number == 1, "tags": tags, "maker": 7 + number, "used": used,
        }),
        "client" => json!({"type": kind, "scopes": scopes, "tags": tags}),
        "federated" => json!({
            "type": kind, "scopes": scopes, "tags": tags, "issuer": text, "subject": text,
            "audience": text, "customClaimRules": {"claim": text},
        }),
        _ => json!({"type": kind}),
    };
    json!({
        "id": 9,
        "kind": kind,
        "hash": "0".repeat(64),
        "user": of([json!(7), json!(8)]),
        "description": of([json!("one"), json!("two")]),
        "created": "2026-03-01T00:00:00Z",
        "updated": "2026-03-02T00:00:00Z",
        "expires": of([json!("2026-04-01T00:00:00Z"), json!("2026-05-01T00:00:00Z")]),
        "expired": "2026-04-01T00:00:00Z",
        "revoked": of([json!("2026-03-02T00:00:00Z"), json!("2026-03-03T00:00:00Z")]),
    })
}

const CREDENTIAL_KINDS: [&str; 5] = ["auth", "api", "client", "federated", "scim"];

fn user_json(number: usize) -> Value {
    json!({
        "id": 7,
        "loginName": (["ann@example.com", "bob@example.com"][number]),
        "displayName": (["Ann", "Bob"][number]),
        "role": (["admin", "member"][number]),
        "status": (["active", "suspended"][number]),
        "needsApproval": number == 1,
        "created": "2026-03-01T00:00:00Z",
    })
}

fn tailnet_json(number: usize) -> Value {
    json!({
        "id": 3,
        "name": (["example.com", "example.org"][number]),
        "dnsName": (["tail1.internal", "tail2.internal"][number]),
        "created": "2026-03-01T00:00:00Z",
        "settings": {
            "deviceApprovalOn": number == 1,
            "usersApprovalOn": number == 1,
            "devicesKeyDurationDays": 30 + number,
        },
    })
}

fn dns_json(number: usize) -> Value {
    let resolver = json!({"address": (["1.1.1.1", "9.9.9.9"][number]), "useWithExitNode": true});
    json!({
        "nameservers": [resolver],
        "splitDNS": {"a.com": [resolver]},
        "searchPaths": [(["a.com", "b.com"][number])],
        "magicDNS": number == 1,
        "overrideLocalDNS": number == 1,
    })
}

fn webhook_json(number: usize) -> Value {
    json!({
        "id": 11,
        "url": (["https://one.example", "https://two.example"][number]),
        "provider": (["slack", "discord"][number]),
        "subscriptions": [(["nodeCreated", "categoryTailnetManagement"][number])],
        "creator": "ann@example.com",
        "created": "2026-03-01T00:00:00Z",
        "updated": "2026-03-01T00:00:00Z",
        "hash": String::from(['0', '1'][number]).repeat(64),
        "formerUntil": (["2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z"][number]),
    })
}

/// Members of a record by their paths, down to those that are in a list.
fn members(value: &Value, path: &str, listed: &BTreeSet<&str>, into: &mut BTreeSet<String>) {
    match value.as_object() {
        Some(object) if !listed.contains(path) => {
            for (name, value) in object {
                let dot = if path.is_empty() { "" } else { "." };
                members(value, &format!("{path}{dot}{name}"), listed, into);
            }
        }
        _ => {
            into.insert(path.to_owned());
        }
    }
}

/// Each member of a record is in one of the two lists, and what is in a list is in a record.
fn is_decided<T: Told>(bodies: &[String]) {
    let told = T::TOLD.iter().map(|member| member.name);
    let untold = T::UNTOLD.iter().map(|(name, _)| *name);
    let mut listed: BTreeSet<&str> = told.clone().chain(untold.clone()).collect();
    assert_eq!(listed.len(), told.count() + untold.count(), "in both lists");
    listed.insert("v");
    let mut found = BTreeSet::new();
    for body in bodies {
        let record: T = serde_json::from_str(body).unwrap();
        let written = serde_json::from_str(&record::encode(&record).unwrap()).unwrap();
        members(&written, "", &listed, &mut found);
    }
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    let undecided: Vec<_> = found.difference(&listed).collect();
    assert!(undecided.is_empty(), "told or not? {undecided:?}");
    let absent: Vec<_> = listed.difference(&found).collect();
    assert!(absent.is_empty(), "in no record: {absent:?}");
}

/// The kept body of a kind, which has every member: a test beside the bodies sees to that.
macro_rules! body {
    ($kind:literal) => {
        include_str!(concat!("../../tests/bodies/", $kind, ".json")).to_owned()
    };
}

#[test]
fn it_is_decided_of_every_member_of_every_record_whether_events_tell_it() {
    is_decided::<Device>(&[body!("device"), device_json(0).to_string()]);
    is_decided::<User>(&[body!("user")]);
    is_decided::<Tailnet>(&[body!("tailnet")]);
    is_decided::<Dns>(&[body!("dns")]);
    is_decided::<PolicyFile>(&[body!("policy")]);
    is_decided::<WebhookEndpoint>(&[body!("webhook")]);
    let mut credentials = vec![body!("key")];
    credentials.extend(CREDENTIAL_KINDS.map(|kind| credential_json(kind, 0).to_string()));
    is_decided::<Credential>(&credentials);
}

/// The first record with one member as the second has it.
fn with<T: DeserializeOwned>(json: [&Value; 2], member: &str) -> T {
    let pointer = format!("/{}", member.replace('.', "/"));
    let mut changed = json[0].clone();
    *changed.pointer_mut(&pointer).unwrap() = json[1].pointer(&pointer).unwrap().clone();
    read(&changed)
}

/// The event of a new record says something else for each told member that differs.
fn tells_all<T: Told + DeserializeOwned>(
    json: impl Fn(usize) -> Value,
    unsaid: &[&str],
    event: impl Fn(T) -> Event,
) {
    let json = [json(0), json(1)];
    let (_, told) = event(read(&json[0])).values();
    for Member { name, differs } in T::TOLD {
        if unsaid.contains(name) {
            continue;
        }
        let changed: T = with([&json[0], &json[1]], name);
        assert!(differs(&read(&json[0]), &changed), "{name} is not compared");
        let (old, new) = event(changed).values();
        assert!(old.is_null());
        assert_ne!(new, told, "says nothing of {name}");
    }
}

#[test]
fn the_event_of_a_new_record_says_everything_that_it_grants() {
    // What no new device has, and its name, which the target says.
    let none = ["name", "enabledRoutes", "attributes", "refusedTags"];
    tells_all::<Device>(device_json, &none, |device| Event::DeviceCreated {
        device: Box::new(device),
    });
    // What becomes of it later, and what the kind has not.
    let later = ["kind.type", "kind.used", "expired", "revoked"];
    for kind in CREDENTIAL_KINDS {
        let json = |number| credential_json(kind, number);
        let members = json(0);
        let absent = Credential::TOLD.iter().map(|member| member.name);
        let absent = absent.filter(|name| {
            let pointer = format!("/{}", name.replace('.', "/"));
            members.pointer(&pointer).is_none()
        });
        let unsaid: Vec<&str> = later.into_iter().chain(absent).collect();
        tells_all::<Credential>(json, &unsaid, |credential| Event::CredentialCreated {
            credential: Box::new(credential),
        });
    }
    tells_all::<User>(user_json, &[], |user| Event::UserCreated {
        user: Box::new(user),
    });
    // A hash says nothing to anybody, and a new endpoint has no former secret.
    let unsaid = ["hash", "formerUntil"];
    tells_all::<WebhookEndpoint>(webhook_json, &unsaid, |endpoint| Event::WebhookCreated {
        endpoint: Box::new(endpoint),
    });
    tells_all::<Tailnet>(tailnet_json, &[], |tailnet| Event::TailnetCreated {
        tailnet: Box::new(tailnet),
        owner: String::new(),
    });
}

/// An event of each variant, and for a variant with several names one for each.
fn samples() -> Vec<Event> {
    let at = |number: usize| -> Timestamp {
        ["2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z"][number]
            .parse()
            .unwrap()
    };
    let record = |number| Box::new(read::<Device>(&device_json(number)));
    let [old, new] = [record(0), record(1)];
    let device = || DeviceRef::of(&old);
    let tailnet = || TailnetRef::of(&read(&tailnet_json(0)));
    let credential = || CredentialRef::of(&read(&credential_json("auth", 0)));
    let user = || UserRef::of(&read(&user_json(0)));
    let webhook = |number| Box::new(read::<WebhookEndpoint>(&webhook_json(number)));
    let endpoint = || WebhookRef::of(&webhook(0));
    let dns = |number| Box::new(read::<Dns>(&dns_json(number)));
    let attribute = |value| Attribute {
        value: crate::device::AttributeValue::Bool(value),
        expires: None,
    };
    let attributes = [
        (None, Some(attribute(true))),
        (Some(attribute(true)), Some(attribute(false))),
        (Some(attribute(true)), None),
    ];
    let session = || {
        Box::new(SshSessionRef {
            source: device(),
            user: old.user,
            registered_by: old.registered_by,
            tags: old.tags.clone(),
            ssh_user: "root".to_owned(),
        })
    };
    let mut samples = vec![
        Event::TailnetCreated {
            tailnet: Box::new(read(&tailnet_json(0))),
            owner: "ann@example.com".to_owned(),
        },
        Event::UserCreated {
            user: Box::new(read(&user_json(0))),
        },
        Event::UserRole {
            user: user(),
            old: Role::Admin,
            new: Role::Member,
        },
        Event::UserApproved { user: user() },
        Event::UserSuspended { user: user() },
        Event::UserRestored { user: user() },
        Event::UserDeleted {
            user: Box::new(read(&user_json(0))),
            keys: vec![credential().id],
        },
        Event::DeviceCreated {
            device: old.clone(),
        },
        Event::DeviceLoggedIn {
            old: old.clone(),
            new: new.clone(),
        },
        Event::DeviceLoggedOut { device: device() },
        Event::DeviceDeleted {
            device: old.clone(),
        },
        Event::DeviceName {
            device: device(),
            old: "one".to_owned(),
            new: "two".to_owned(),
        },
        Event::DeviceTags {
            device: device(),
            old: old.tags.clone(),
            new: new.tags.clone(),
        },
        Event::DeviceTagsRefused {
            device: device(),
            old: old.refused_tags.clone(),
            new: new.refused_tags.clone(),
        },
        Event::DeviceRoutes {
            device: device(),
            old: old.enabled_routes.clone(),
            new: new.enabled_routes.clone(),
        },
        Event::DeviceRoutesApproved {
            device: device(),
            old: old.enabled_routes.clone(),
            new: new.enabled_routes.clone(),
        },
        Event::DeviceAddress {
            device: device(),
            old: old.ipv4,
            new: new.ipv4,
        },
        Event::DeviceKeyExpired {
            device: device(),
            old: old.key_expiry,
            new: new.key_expiry,
        },
        Event::DeviceKeyRestored {
            device: device(),
            expires: old.key_expiry,
        },
        Event::DeviceAttributeRestored {
            device: device(),
            key: "custom:x".to_owned(),
            new: attribute(true),
        },
        Event::LoginRefused {
            code: "abc".to_owned(),
            hostname: "one".to_owned(),
            node_key: old.node_key,
        },
        Event::CredentialCreated {
            credential: Box::new(read(&credential_json("auth", 0))),
        },
        Event::CredentialRevoked {
            credential: credential(),
            at: at(0),
        },
        Event::CredentialChanged {
            old: Box::new(read(&credential_json("federated", 0))),
            new: Box::new(read(&credential_json("federated", 1))),
        },
        Event::AccessTokenIssued {
            token: Box::new(read(&serde_json::from_str(&body!("accesstoken")).unwrap())),
        },
        Event::AccessTokenRevoked {
            id: KeyId::MIN,
            at: at(0),
        },
        Event::CredentialExpiring {
            credential: credential(),
            expires: Some(at(0)),
        },
        Event::CredentialExpired {
            credential: credential(),
            expires: Some(at(0)),
        },
        Event::CredentialRestored {
            credential: credential(),
            expires: Some(at(0)),
        },
        Event::DnsConfig {
            tailnet: tailnet(),
            old: dns(0),
            new: dns(1),
        },
        Event::KeyDuration {
            tailnet: tailnet(),
            old: 30,
            new: 31,
        },
        Event::PolicyFile {
            tailnet: tailnet(),
            old: PolicyRef::of("{}"),
            new: PolicyRef::of("{ }"),
        },
        Event::DeviceKeyExpiring {
            device: device(),
            expires: old.key_expiry,
        },
        Event::DeviceForwardingOff {
            device: device(),
            routes: vec!["0.0.0.0/0".parse().unwrap(), "10.0.0.0/8".parse().unwrap()],
        },
        Event::WebhookCreated {
            endpoint: webhook(0),
        },
        Event::WebhookSubscriptions {
            endpoint: endpoint(),
            old: webhook(0).subscriptions,
            new: webhook(1).subscriptions,
        },
        Event::WebhookSecret {
            endpoint: endpoint(),
            former_until: webhook(0).former_until,
        },
        Event::WebhookDeleted {
            endpoint: webhook(0),
        },
        Event::WebhookReplayed {
            endpoint: endpoint(),
            events: 2,
        },
        Event::ClockConfirmed {
            tailnet: tailnet(),
            old: at(0),
            new: at(1),
        },
        Event::RequestRefused {
            operation: "deleteDevice".to_owned(),
            request: "DELETE /device/5".to_owned(),
            error: "not permitted".to_owned(),
            unnoted: 3,
        },
    ];
    for new in [true, false] {
        let (device, tailnet, old) = (device(), tailnet(), !new);
        samples.extend([
            Event::DeviceApproval {
                device: device.clone(),
                old,
                new,
            },
            Event::DeviceKeyExpiryDisabled {
                device: device.clone(),
                old,
                new,
            },
            Event::SshSessionDecided {
                device,
                session: session(),
                accepted: new,
            },
            Event::MagicDns {
                tailnet: tailnet.clone(),
                old,
                new,
            },
            Event::ApprovalOfDevices {
                tailnet: tailnet.clone(),
                old,
                new,
            },
            Event::ApprovalOfUsers { tailnet, old, new },
        ]);
    }
    for why in [
        KeyExpirySet::Shortened,
        KeyExpirySet::Ended,
        KeyExpirySet::LoggedOut,
    ] {
        samples.push(Event::DeviceKeyExpiry {
            device: device(),
            old: Some(at(0)),
            new: Some(at(1)),
            why,
        });
    }
    for (old, new) in attributes {
        samples.push(Event::DeviceAttribute {
            device: device(),
            key: "custom:x".to_owned(),
            old,
            new,
            comment: Some("why".to_owned()),
        });
    }
    samples
}

/// Where in its values an event says a member that it tells, as a JSON pointer.
fn pointer(event: &Event, member: &str) -> String {
    if !matches!(
        event,
        Event::DeviceLoggedIn { .. } | Event::DnsConfig { .. } | Event::CredentialChanged { .. }
    ) {
        return String::new();
    }
    let own = match member.trim_start_matches("kind.") {
        "keyExpiry" => "expires",
        "registeredBy" => "maker",
        other => other,
    };
    format!("/{own}")
}

#[test]
fn an_event_says_in_its_values_what_it_tells() {
    let mut told: BTreeMap<ObjectId, BTreeSet<&str>> = BTreeMap::new();
    for event in samples() {
        let (old, new) = event.values();
        let own = match &event {
            Event::DeviceCreated { device } | Event::DeviceLoggedIn { new: device, .. } => {
                Some(ObjectId::of::<Device>(device.id))
            }
            Event::UserDeleted { user, .. } => Some(ObjectId::of::<User>(user.id)),
            _ => None,
        };
        event.tell(&mut |subject, telling| match telling {
            Telling::Created => assert!(old.is_null() && new.is_object(), "{event:?}"),
            Telling::Removed => assert!(old.is_object() && new.is_null(), "{event:?}"),
            // Another record's: the event names it.
            Telling::Members(members) if own.is_some_and(|own| own != subject) => {
                let (named, expected) = match &event {
                    Event::UserDeleted { .. } => (&old["revokedKeys"][0], "revoked"),
                    _ => (&new["authKey"], "kind.used"),
                };
                assert_eq!(members, [expected]);
                assert!(named.is_string(), "{event:?}");
                told.entry(subject).or_default().extend(members);
            }
            Telling::Members(members) => {
                for member in members {
                    let at = pointer(&event, member);
                    let (old, new) = (old.pointer(&at), new.pointer(&at));
                    assert!(old.is_some() && new.is_some(), "{member}: {event:?}");
                    assert_ne!(old, new, "{member}: {event:?}");
                }
                told.entry(subject).or_default().extend(members);
            }
        });
    }
    // Every told member that can change has an event that tells it.
    fn all<T: Told>(told: &BTreeSet<&str>, fixed: &[&str]) {
        for Member { name, .. } in T::TOLD {
            assert!(told.contains(name) != fixed.contains(name), "{name}");
        }
    }
    let device: Device = read(&device_json(0));
    all::<Device>(&told[&ObjectId::of::<Device>(device.id)], &["ipv6"]);
    let made_with = [
        "kind.type",
        "kind.reusable",
        "kind.ephemeral",
        "kind.preauthorized",
        "kind.maker",
        "user",
        "expires",
    ];
    let credential: Credential = read(&credential_json("auth", 0));
    all::<Credential>(
        &told[&ObjectId::of::<Credential>(credential.id)],
        &made_with,
    );
    let tailnet = TailnetId::new(3).unwrap();
    all::<Tailnet>(
        &told[&ObjectId::of::<Tailnet>(tailnet)],
        &["name", "dnsName"],
    );
    let user: User = read(&user_json(0));
    all::<User>(
        &told[&ObjectId::of::<User>(user.id)],
        &["loginName", "displayName"],
    );
    all::<Dns>(&told[&ObjectId::of::<Dns>(tailnet)], &[]);
    all::<PolicyFile>(&told[&ObjectId::of::<PolicyFile>(tailnet)], &[]);
    let endpoint: WebhookEndpoint = read(&webhook_json(0));
    all::<WebhookEndpoint>(
        &told[&ObjectId::of::<WebhookEndpoint>(endpoint.id)],
        &["url", "provider"],
    );
}

#[test]
fn every_event_has_a_name_of_the_table_and_a_row_that_reads_back() {
    let actor = ActorRef::Operator;
    let group = EventGroup::new([7; 16]);
    let mut written = BTreeSet::new();
    for event in samples() {
        let name = event.name();
        written.insert(name);
        let row = event.row(Timestamp::UNIX_EPOCH, &actor, group);
        let property = row.target.property.as_deref();
        assert_eq!(
            (&*row.target.kind, &*row.action),
            (name.target(), name.action())
        );
        assert_eq!(property, name.property());
        assert_eq!(row.target.is_ephemeral.is_some(), name.target() == "NODE");
        assert_eq!(Name::parse(&name.to_string()), Some(name));
        let body = record::encode(&row).unwrap();
        assert_eq!(record::decode::<AuditEvent>(&body).unwrap(), row);
    }
    let unused: Vec<_> = Name::ALL
        .iter()
        .filter(|name| !name.is_official() && !written.contains(name))
        .collect();
    assert!(
        unused.is_empty(),
        "names of ours that nothing writes: {unused:?}"
    );
    let names: BTreeSet<String> = Name::ALL.iter().map(Name::to_string).collect();
    assert_eq!(names.len(), Name::ALL.len());
    assert_eq!(Name::parse("NODE.UPDATE"), None);
}

#[test]
fn a_change_without_the_event_that_tells_it_is_found() {
    let json = [device_json(0), device_json(1)];
    let old: Device = read(&json[0]);
    let subject = ObjectId::of::<Device>(old.id);
    let nothing = Account::default();
    for Member { name, .. } in Device::TOLD {
        let new: Device = match *name {
            // The samples have the same.
            "attributes" => Device {
                attributes: BTreeMap::new(),
                ..old.clone()
            },
            name => with([&json[0], &json[1]], name),
        };
        let untold = nothing.check(subject, Some(&old), Some(&new)).unwrap_err();
        assert_eq!((untold.subject, untold.what), (subject, *name));
    }
    for (name, _) in Device::UNTOLD {
        let new: Device = with([&json[0], &json[1]], name);
        assert_eq!(
            nothing.check(subject, Some(&old), Some(&new)),
            Ok(()),
            "{name}"
        );
    }
    let untold = |old: Option<&Device>, new: Option<&Device>| {
        nothing.check(subject, old, new).unwrap_err().what
    };
    assert_eq!(untold(None, Some(&old)), "created");
    assert_eq!(untold(Some(&old), None), "removed");
    // The event of another device, or of another member, is not enough.
    let of = |id: u64| Event::DeviceTags {
        device: DeviceRef {
            id: DeviceId::new(id).unwrap(),
            ..DeviceRef::of(&old)
        },
        old: BTreeSet::new(),
        new: BTreeSet::new(),
    };
    let tagged: Device = with([&json[0], &json[1]], "tags");
    let approved: Device = with([&json[0], &json[1]], "authorized");
    let check = |event: &Event, new: &Device| {
        Account::of([event])
            .check(subject, Some(&old), Some(new))
            .is_ok()
    };
    assert!(check(&of(5), &tagged));
    assert!(!check(&of(6), &tagged));
    assert!(!check(&of(5), &approved));
    // A credential whose end was told may go.
    let ended: Credential = read(&credential_json("auth", 0));
    let key = ObjectId::of::<Credential>(ended.id);
    assert_eq!(nothing.check(key, Some(&ended), None), Ok(()));
    let valid = Credential {
        revoked: None,
        expired: None,
        ..ended
    };
    assert!(nothing.check(key, Some(&valid), None).is_err());
}

#[test]
fn a_node_key_is_revoked_where_it_stops_being_good() {
    let good = Device {
        authorized: true,
        expired: false,
        ..read(&device_json(0))
    };
    let other_key: Device = with([&device_json(0), &device_json(1)], "nodeKey");
    let changed = |change: &dyn Fn(&mut Device)| {
        let mut device = good.clone();
        change(&mut device);
        device
    };
    let ends = |next: &Device| good.revoked_by(Some(next)) == Some(good.node_key);
    assert!(ends(&changed(&|device| device.expired = true)));
    assert!(ends(&changed(&|device| device.authorized = false)));
    assert!(ends(&changed(
        &|device| device.node_key = other_key.node_key
    )));
    assert_eq!(good.revoked_by(None), Some(good.node_key));
    assert!(!ends(&changed(&|device| device.tags.clear())));
    let expired = changed(&|device| device.expired = true);
    assert_eq!(expired.revoked_by(Some(&expired)), None);
    assert_eq!(expired.revoked_by(Some(&good)), None);
}

#[test]
fn webhook_events_have_their_official_names() {
    let names: BTreeSet<&str> = WebhookEvent::ALL.map(WebhookEvent::as_str).into();
    assert_eq!(names.len(), WebhookEvent::ALL.len());
    let of = |event: Event| {
        event
            .webhooks()
            .iter()
            .map(|it| it.as_str())
            .collect::<Vec<_>>()
    };
    let device = |authorized| {
        Box::new(Device {
            authorized,
            ..read(&device_json(0))
        })
    };
    let created = |authorized| Event::DeviceCreated {
        device: device(authorized),
    };
    assert_eq!(of(created(true)), ["nodeCreated"]);
    assert_eq!(of(created(false)), ["nodeCreated", "nodeNeedsApproval"]);
    let joined = |needs_approval| Event::UserCreated {
        user: Box::new(User {
            needs_approval,
            ..read(&user_json(0))
        }),
    };
    assert_eq!(of(joined(false)), ["userCreated"]);
    assert_eq!(of(joined(true)), ["userCreated", "userNeedsApproval"]);
    let mut all = BTreeSet::new();
    for event in samples() {
        all.extend(of(event));
    }
    let expected = [
        "exitNodeIPForwardingNotEnabled",
        "nodeApproved",
        "nodeCreated",
        "nodeDeleted",
        "nodeKeyExpired",
        "nodeKeyExpiringInOneDay",
        "nodeNeedsApproval",
        "policyUpdate",
        "subnetIPForwardingNotEnabled",
        "userApproved",
        "userCreated",
        "userDeleted",
        "userRestored",
        "userRoleUpdated",
        "userSuspended",
        "webhookDeleted",
        "webhookUpdated",
    ];
    assert_eq!(all.into_iter().collect::<Vec<_>>(), expected);
}
