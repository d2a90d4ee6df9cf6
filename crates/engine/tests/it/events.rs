//! What devices do over the control protocol, and what falls due, leaves exactly the events that
//! `docs/audit-events.md` names.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bowline_engine::credential::NewAuthKey;
use bowline_engine::{Registration, Report, Settings};
use bowline_model::audit::AuditEvent;
use bowline_model::device::{AttributeValue, HostFacts};
use bowline_model::id::DeviceId;
use bowline_model::record::{self, RawJson};
use bowline_store::Options;
use jiff::{SignedDuration, Timestamp};

use crate::net::{Net, node_key, quick, request, until};

const TABLES: &str = include_str!("../../../../docs/audit-events.md");
const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

const POLICY: &str = r#"{
    "acls": [],
    "tagOwners": {
        "tag:ci": ["ann@example.com"], "tag:deploy": ["tag:ci"],
    },
    "autoApprovers": {"routes": {"10.0.0.0/8": ["ann@example.com"]}},
}"#;

/// Rows of one table: what happens, and the events.
fn rows(section: &str) -> BTreeMap<String, Vec<String>> {
    let (_, table) = TABLES.split_once(&format!("## {section}\n")).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(2);
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let events = cells[1].split('`').skip(1).step_by(2);
        (cells[0].to_owned(), events.map(str::to_owned).collect())
    };
    rows.map(row).collect()
}

/// A tailnet whose events are held against a table.
struct Watched {
    net: Net,
    seen: usize,
    left: BTreeMap<String, Vec<String>>,
}

impl Watched {
    async fn new(section: &str) -> Self {
        let net = Net::new().await;
        net.set_policy(POLICY).await;
        let mut watched = Self {
            net,
            seen: 0,
            left: rows(section),
        };
        watched.skip().await;
        watched
    }

    async fn events(&self) -> Vec<AuditEvent> {
        let (from, to) = (Timestamp::MIN, Timestamp::MAX);
        let store = self.net.engine.store();
        let rows = store.audit(self.net.tailnet, from, to, usize::MAX).await;
        let mut rows = rows.unwrap();
        // As they were written: a clock that is set back writes earlier moments.
        rows.sort_by_key(|row| row.id);
        rows.iter()
            .map(|row| record::decode(&row.body).unwrap())
            .collect()
    }

    /// Takes no notice of what happened so far.
    async fn skip(&mut self) {
        self.seen = self.events().await.len();
    }

    /// What happened since is this row of the table, one group of events.
    async fn is(&mut self, what: &str) {
        self.net.settle().await;
        let new = self.events().await.split_off(self.seen);
        self.seen += new.len();
        let names: Vec<String> = new.iter().map(AuditEvent::name).collect();
        let expected = self.left.remove(what);
        assert_eq!(Some(names), expected, "{what}");
        let groups: BTreeSet<_> = new.iter().map(|event| event.event_group_id).collect();
        assert!(groups.len() <= 1, "{what}");
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

    async fn asks(&self, device: DeviceId, tags: &[&str]) {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        self.report(device, |facts| facts.request_tags = tags).await;
    }

    fn all_seen(self) {
        assert!(self.left.is_empty(), "not tried: {:?}", self.left);
    }
}

fn key(ephemeral: bool, tags: &[&str]) -> NewAuthKey {
    NewAuthKey {
        reusable: true,
        ephemeral,
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..NewAuthKey::default()
    }
}

fn rotated(from: Registration, number: u64) -> Registration {
    Registration {
        old_node_key: Some(from.node_key),
        node_key: node_key(number),
        ..from
    }
}

#[tokio::test]
async fn what_devices_do_leaves_the_events_of_the_table() {
    let mut all = Watched::new("Control protocol").await;
    let reusable = all.net.key_with(key(false, &[])).await.0;
    let one_off = all.net.one_off().await;
    let ephemeral = all.net.key_with(key(true, &[])).await.0;
    let tagged = all.net.key_with(key(false, &["tag:ci"])).await.0;
    all.skip().await;

    let device = all.net.register(request(1, &reusable)).await;
    all.is("a device registers with a reusable key").await;
    all.net.register(request(2, &one_off)).await;
    all.is("a device registers with a one-off key").await;
    all.net.register(request(1, &reusable)).await;
    all.is("a device with its key reconnects").await;
    let routes = vec!["10.1.0.0/16".parse().unwrap()];
    all.report(device, |facts| facts.advertised_routes = routes)
        .await;
    all.is("a device advertises routes that the policy approves")
        .await;
    all.report(device, |facts| facts.forwarding_off = true)
        .await;
    all.is("a device that advertises routes does not forward packets")
        .await;
    let mut again = rotated(request(1, &reusable), 11);
    again.facts = all.net.device(device).facts.clone();
    assert_eq!(all.net.register(again.clone()).await, device);
    all.is("a device logs in again with a new node key").await;
    let expiring = |at| Registration {
        expiry: Some(at),
        ..again.clone()
    };
    let now = all.net.now();
    all.net.try_register(expiring(now + DAY * 2)).await.unwrap();
    all.is("a device asks for an earlier expiry").await;
    let admin = &all.net.admin;
    let disable = all
        .net
        .engine
        .set_key_expiry_disabled(admin, device, Some(true));
    disable.await.unwrap();
    all.skip().await;
    all.net.try_register(expiring(now + DAY * 2)).await.unwrap();
    all.is("a device whose key does not expire asks for an expiry")
        .await;
    all.net.try_register(expiring(now - DAY)).await.unwrap();
    all.is("a device logs out").await;
    all.net.register(request(3, &ephemeral)).await;
    all.skip().await;
    let leaving = Registration {
        expiry: Some(now - DAY),
        ..request(3, &ephemeral)
    };
    all.net.try_register(leaving).await.unwrap();
    all.is("an ephemeral device logs out").await;

    let persons = all.net.register(request(4, &reusable)).await;
    all.skip().await;
    all.asks(persons, &["tag:ci"]).await;
    all.is("a person's device asks for tags that it may have")
        .await;
    let persons = all.net.register(request(5, &reusable)).await;
    all.skip().await;
    all.asks(persons, &["tag:never"]).await;
    all.is("a device asks for tags that it may not have").await;
    let server = all.net.register(request(6, &tagged)).await;
    all.is("a device with tags registers").await;
    all.asks(server, &["tag:deploy"]).await;
    all.is("a device with tags asks for tags that its own tags own")
        .await;
    all.asks(server, &[]).await;
    all.is("a device with tags asks for none").await;
    let person = rotated(request(6, &reusable), 16);
    assert_eq!(all.net.register(person).await, server);
    all.is("a device with tags logs in as a person").await;
    all.all_seen();
}

#[tokio::test]
async fn what_falls_due_leaves_the_events_of_the_table() {
    let mut all = Watched::new("What falls due").await;
    let net = &all.net;
    let (engine, admin) = (net.engine.clone(), net.admin.clone());
    let (reusable, _) = net.key_with(key(false, &[])).await;
    let device = net.register(request(1, &reusable)).await;
    let ends = |at| {
        let edit = Some((AttributeValue::Bool(true), Some(at)));
        vec![(device, BTreeMap::from([("custom:x".to_owned(), edit)]))]
    };
    let ephemeral_key = net.key_with(key(true, &[])).await.0;
    net.register(request(2, &ephemeral_key)).await;
    all.skip().await;
    all.net.pass(HOUR).await;
    all.is("an ephemeral device has been silent for too long")
        .await;

    let edit = engine.edit_attributes(&admin, ends(all.net.now() + HOUR), None);
    edit.await.unwrap();
    all.skip().await;
    all.net.pass(HOUR).await;
    all.is("an attribute ends").await;
    all.net.set_clock(all.net.now() - HOUR / 2).await;
    all.is("the clock that ended an attribute was wrong").await;

    let minute = SignedDuration::from_mins(1);
    let expiring = Registration {
        expiry: Some(all.net.now() + DAY + minute),
        ..request(1, &reusable)
    };
    all.net.try_register(expiring).await.unwrap();
    all.skip().await;
    all.net.pass(minute).await;
    all.is("a node key expires within a day").await;

    let week = NewAuthKey {
        expiry_seconds: Some(7 * 86_400 + 60),
        ..key(false, &[])
    };
    all.net.key_with(week).await;
    all.skip().await;
    all.net.pass(minute).await;
    all.is("an auth key expires within a week").await;

    // Only the keys that are named are left: the others would end at the same time.
    let short = NewAuthKey {
        expiry_seconds: Some(60),
        ..key(false, &[])
    };
    all.net.key_with(short).await;
    all.skip().await;
    all.net.pass(SignedDuration::from_mins(1)).await;
    all.is("an auth key expires").await;
    all.net
        .set_clock(all.net.now() - SignedDuration::from_secs(30))
        .await;
    all.is("the clock that ended an auth key was wrong").await;

    let now = all.net.now();
    let expiring = Registration {
        expiry: Some(now + SignedDuration::from_mins(5)),
        ..request(1, &reusable)
    };
    let registered = all.net.try_register(expiring).await;
    registered.unwrap();
    all.net.pass(SignedDuration::from_mins(2)).await;
    all.skip().await;
    all.net.pass(SignedDuration::from_mins(3)).await;
    all.is("a node key expires").await;
    all.net
        .set_clock(all.net.now() - SignedDuration::from_mins(1))
        .await;
    all.is("the clock that ended a node key was wrong").await;
    // The other keys and tokens end after 90 days, and the short one is forgotten at that time.
    let before = all.net.snapshot().credentials().count();
    all.net.pass(DAY * 90 - HOUR).await;
    all.skip().await;
    all.net.pass(SignedDuration::from_mins(30)).await;
    let after = all.net.snapshot().credentials().count();
    assert!(after <= before);
    all.is("an expired auth key is forgotten").await;
    all.all_seen();
}

#[tokio::test]
async fn the_events_of_a_registration_that_writes_twice_are_one_group() {
    let settings = Settings {
        report_burst: 1,
        report_interval: Duration::from_millis(20),
        ..quick()
    };
    let net = Net::with(settings, Options::default()).await;
    net.set_policy(POLICY).await;
    let (reusable, _) = net.key_with(key(false, &[])).await;
    let device = net.register(request(1, &reusable)).await;
    // It says something else of itself at each login, and more often than its peers are told.
    let mut login = request(1, &reusable);
    for number in 11..14 {
        login = rotated(login, number);
        login.facts.hostname = format!("name{number}");
        login.facts.advertised_routes = vec![format!("10.{number}.0.0/16").parse().unwrap()];
        assert_eq!(net.register(login.clone()).await, device);
    }
    let enabled = || net.device(device).enabled_routes.clone();
    let last = login.facts.advertised_routes[0];
    until("the last login's routes are approved", || {
        enabled().contains(&last).then_some(())
    })
    .await;
    let all = Watched {
        net,
        seen: 0,
        left: BTreeMap::new(),
    };
    let events = all.events().await;
    let of = |name: &str| events.iter().rfind(|event| event.name() == name).unwrap();
    assert_eq!(
        of("NODE.LOGIN").event_group_id,
        of("NODE.UPDATE.AUTO_APPROVED_ROUTES").event_group_id
    );
    let logins = events.iter().filter(|event| event.name() == "NODE.LOGIN");
    let groups: BTreeSet<_> = logins.map(|event| event.event_group_id).collect();
    assert_eq!(groups.len(), 3, "each login is its own");
}
