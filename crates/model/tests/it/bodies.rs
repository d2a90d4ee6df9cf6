//! Every stored body: one with every member is kept in `tests/bodies/`, and every kind of the list is
//! tried with its own.

mod filled;
mod unknown;

use std::path::PathBuf;

use bowline_model::audit::AuditEvent;
use bowline_model::device::Live;
use bowline_model::id::TailnetId;
use bowline_model::kind::{Kind, Stored, Visitor};
use bowline_model::record::{self, Body, BodyError, Record};
use serde_json::Value;

/// The kept body of this name, as its file has it.
fn kept(name: &str) -> String {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/bodies");
    let path = directory.join(format!("{name}.json"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| {
        panic!(
            "every stored kind has a body with every member in {}: {error}",
            path.display()
        )
    })
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Names of all kept bodies.
fn names() -> Vec<String> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/bodies");
    let files = std::fs::read_dir(directory).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .map(|name| name.strip_suffix(".json").unwrap().to_owned())
        .collect()
}

/// Reads and writes the kept body with every member of one record, and those of its variants
/// (`<name>.<variant>.json`), which have what the first cannot have.
fn check<T: Record + PartialEq + std::fmt::Debug>(name: &str) {
    filled::check::<T>(&kept(name)).unwrap_or_else(|problem| panic!("{name}: {problem}"));
    come_back::<T>(name);
    for variant in names() {
        let own = variant.strip_prefix(&format!("{name}."));
        let is_version = |rest: &str| {
            rest.strip_prefix('v')
                .is_some_and(|n| n.parse::<u32>().is_ok())
        };
        if own.is_some_and(|rest| !is_version(rest)) {
            come_back::<T>(&variant);
        }
    }
}

/// Reads, compares and writes a kept body.
fn come_back<T: Record + PartialEq + std::fmt::Debug>(name: &str) {
    let text = kept(name);
    let body = Body::<T>::decode(&text).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    assert!(body.unknown.is_empty(), "{name}: {:?}", body.unknown);

    let written = body.encode().unwrap();
    assert_eq!(value(&written), value(&text), "{name}");
    assert_eq!(
        record::decode::<T>(&written).unwrap(),
        body.record,
        "{name}"
    );
    // What this program writes it reads as its own, byte for byte.
    let again = Body::<T>::decode(&written).unwrap();
    assert_eq!(again.encode().unwrap(), written, "{name}");
}

/// Bodies of other versions are refused, and say so.
fn refuse_other_versions<T: Record>(name: &str) {
    let with_version = |version: Value| {
        let mut body = value(&kept(name));
        body["v"] = version;
        body.to_string()
    };
    let refusal = |text: &str| Body::<T>::decode(text).map(|_| ()).unwrap_err();
    for version in [0, T::VERSION + 1, u32::MAX] {
        let error = refusal(&with_version(version.into()));
        assert!(
            matches!(error, BodyError::Version { found, known }
                if found == version && known == T::VERSION),
            "{name}: {error:?}"
        );
        let expected = format!(
            "body has version {version}, this program knows up to {}",
            T::VERSION
        );
        assert_eq!(error.to_string(), expected);
    }
    // Every version that was ever released is read.
    for version in 1..T::VERSION {
        let text = kept(&format!("{name}.v{version}"));
        Body::<T>::decode(&text).unwrap_or_else(|error| panic!("{name}: {error:?}"));
    }
    let mut body = value(&kept(name));
    body.as_object_mut().unwrap().remove("v");
    for text in [body.to_string(), with_version("1".into()), "[]".to_owned()] {
        let error = refusal(&text);
        assert!(matches!(error, BodyError::Json(_)), "{name}: {error:?}");
    }
}

struct Check;

impl Visitor for Check {
    type Output = ();

    fn visit<T: Stored>(self) {
        check::<T>(T::NAME);
        refuse_other_versions::<T>(T::NAME);
        let record: T = record::decode(&kept(T::NAME)).unwrap();
        let named = record.columns().into_iter().map(|(column, value)| {
            assert!(!value.is_empty(), "{}", T::NAME);
            column
        });
        assert_eq!(named.collect::<Vec<_>>(), T::COLUMNS, "{}", T::NAME);
        let id = record.id(TailnetId::MIN);
        let number: u64 = id.into();
        assert_eq!(T::Id::try_from(number).ok(), Some(id), "{}", T::NAME);
    }
}

#[test]
fn every_kind_has_a_body_with_every_member_that_comes_back_as_it_was() {
    for kind in Kind::all() {
        kind.visit(Check);
    }
    check::<Live>("presence");
    check::<AuditEvent>("audit");
}

#[test]
fn every_kept_body_belongs_to_something() {
    for name in names() {
        let stem = name.split('.').next().unwrap();
        let is_known = Kind::from_name(stem).is_some() || ["presence", "audit"].contains(&stem);
        assert!(is_known, "{name} belongs to nothing");
    }
}
