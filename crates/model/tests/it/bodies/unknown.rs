//! Members that this program does not know: two releases on one database lose nothing.

use bowline_model::kind::{Kind, Stored, Visitor};
use bowline_model::record::{self, Body};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use super::{kept, value};

/// A way to a value: names of members and places in lists.
type Path = Vec<Step>;

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Member(String),
    Place(usize),
}

fn at<'a>(value: &'a Value, path: &[Step]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, step| match step {
        Step::Member(name) => value.get(name),
        Step::Place(place) => value.get(place),
    })
}

fn object_at<'a>(value: &'a mut Value, path: &[Step]) -> &'a mut Map<String, Value> {
    let found = path.iter().fold(value, |value, step| match step {
        Step::Member(name) => value.get_mut(name).unwrap(),
        Step::Place(place) => value.get_mut(place).unwrap(),
    });
    found.as_object_mut().unwrap()
}

/// Every object in a value.
fn objects(value: &Value, path: &Path, found: &mut Vec<Path>) {
    let inside: Vec<(Step, &Value)> = match value {
        Value::Object(members) => {
            found.push(path.clone());
            let members = members.iter();
            members
                .map(|(name, value)| (Step::Member(name.clone()), value))
                .collect()
        }
        Value::Array(list) => {
            let list = list.iter().enumerate();
            list.map(|(place, value)| (Step::Place(place), value))
                .collect()
        }
        _ => Vec::new(),
    };
    for (step, value) in inside {
        let mut path = path.clone();
        path.push(step);
        objects(value, &path, found);
    }
}

fn with(body: &Value, path: &[Step], name: &str, value: Value) -> Value {
    let mut body = body.clone();
    object_at(&mut body, path).insert(name.to_owned(), value);
    body
}

/// Objects of a body that a newer release could give another member: those that are records. Others
/// have names that users choose, or are kept as a client sent them.
fn records<T: Stored>(body: &Value) -> Vec<Path> {
    let mut found = Vec::new();
    objects(body, &Vec::new(), &mut found);
    let is_record = |path: &Path| {
        let probed = with(body, path, "newer", json!({"probe": 1})).to_string();
        Body::<T>::decode(&probed).is_ok_and(|body| !body.unknown.is_empty())
    };
    found.retain(is_record);
    found
}

/// The record with one of its own values changed, in every way that this program reads.
fn changed<T: Stored>(body: &Value) -> Vec<T> {
    let mut found = Vec::new();
    for (name, old) in body.as_object().unwrap() {
        let others = match old {
            Value::String(text) => vec![json!(format!("{text}x")), json!("2026-09-09T09:09:09Z")],
            Value::Number(_) => vec![json!(7)],
            Value::Bool(flag) => vec![json!(!flag)],
            _ => Vec::new(),
        };
        for other in others.into_iter().filter(|_| name != "v") {
            let other = with(body, &[], name, other).to_string();
            found.extend(record::decode::<T>(&other));
        }
    }
    found
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // With few digits: serde_json itself reads others a little differently each time.
        any::<i16>().prop_map(|number| json!(f64::from(number) / 8.0)),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map(".{0,4}", inner, 0..3)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

struct Keeps;

impl Visitor for Keeps {
    type Output = ();

    fn visit<T: Stored>(self) {
        let body = value(&kept(T::NAME));
        let records = records::<T>(&body);
        assert!(records.contains(&Vec::new()), "{}", T::NAME);
        let changed = changed::<T>(&body);
        assert!(!changed.is_empty(), "{}: nothing could be changed", T::NAME);
        let one = (
            0..records.len(),
            "\\PC{0,6}".prop_map(|text| format!("newer {text}")),
            any_json(),
        );
        let strategy = (
            proptest::collection::vec(one, 1..6),
            proptest::option::of(0..changed.len()),
        );
        let mut runner = TestRunner::new(Config {
            cases: 48,
            failure_persistence: None,
            ..Config::default()
        });
        let result = runner.run(&strategy, |(added, change)| {
            let mut newer = body.clone();
            for (record, name, value) in &added {
                newer = with(&newer, &records[*record], name, value.clone());
            }
            let mut read = Body::<T>::decode(&newer.to_string()).unwrap();
            if let Some(change) = change {
                read.record = changed[change].clone();
            }
            let written = value(&read.encode().unwrap());
            for (record, name, _) in &added {
                let mut path = records[*record].clone();
                path.push(Step::Member(name.clone()));
                prop_assert_eq!(at(&written, &path), at(&newer, &path), "{}", name);
            }
            // And nothing else came: without them it is what this program writes.
            let alone = value(&record::encode(&read.record).unwrap());
            let mut stripped = written;
            for (record, name, _) in &added {
                object_at(&mut stripped, &records[*record]).remove(name);
            }
            prop_assert_eq!(stripped, alone);
            Ok(())
        });
        result.unwrap_or_else(|error| panic!("{}: {error}", T::NAME));
    }
}

#[test]
fn every_kind_keeps_members_that_it_does_not_know_when_it_is_changed() {
    for kind in Kind::all() {
        kind.visit(Keeps);
    }
}

#[test]
fn nested_records_are_tried_too() {
    fn names<T: Stored>() -> Vec<String> {
        let found = records::<T>(&value(&kept(T::NAME)));
        let steps = found.into_iter().map(|path| {
            let steps = path.into_iter().map(|step| match step {
                Step::Member(name) => name,
                Step::Place(place) => place.to_string(),
            });
            steps.collect::<Vec<_>>().join("/")
        });
        steps.collect()
    }
    use bowline_model::{credential::Credential, device::Device, dns::Dns};
    assert_eq!(names::<Credential>(), ["", "kind", "kind/used"]);
    let dns = ["", "nameservers/0", "splitDNS/Lab.example.com/0"];
    assert!(
        dns.iter()
            .all(|name| names::<Dns>().contains(&(*name).to_owned()))
    );
    let device = names::<Device>();
    let inside = [
        "",
        "facts",
        "attributes/custom:owner",
        "endedAttributes/custom:guest",
    ];
    assert!(
        inside
            .iter()
            .all(|name| device.contains(&(*name).to_owned())),
        "{device:?}"
    );
    // Those have names that users or clients choose.
    assert!(!device.contains(&"attributes".to_owned()) && !device.contains(&"hostinfo".to_owned()));
}
