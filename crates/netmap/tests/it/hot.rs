//! Every hot kind of the list: what is done with all of them alike.

use std::path::PathBuf;
use std::sync::Arc;

use bowline_model::kind::Kind;
use bowline_model::tailnet::Tailnet;
use bowline_netmap::DerpMap;
use bowline_netmap::hot::{HotKind, hot};
use bowline_netmap::snapshot::Snapshot;
use serde_json::Value;

fn kept(kind: Kind) -> Value {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../model/tests/bodies");
    let text = std::fs::read_to_string(directory.join(format!("{kind}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn snapshot() -> Snapshot {
    let tailnet: Tailnet = bowline_model::record::decode(&kept(Kind::Tailnet).to_string()).unwrap();
    Snapshot::new(tailnet, Arc::new(DerpMap::default()))
}

/// What a tailnet has one of goes by the tailnet's id.
fn number(kind: Kind) -> u64 {
    let id = kept(kind)["id"].as_u64();
    id.unwrap_or(snapshot().id().get())
}

fn encoded(objects: &dyn HotKind, snapshot: &Snapshot, id: u64) -> Option<Value> {
    let encoded = objects.encode(snapshot, id).unwrap()?;
    Some(serde_json::from_str(&encoded.body).unwrap())
}

fn each(check: impl Fn(Kind, &'static dyn HotKind, u64)) {
    let mut seen = 0;
    for kind in Kind::all() {
        assert_eq!(hot(kind).is_some(), kind.is_hot(), "{kind}");
        if let Some(objects) = hot(kind) {
            check(kind, objects, number(kind));
            seen += 1;
        }
    }
    assert!(seen > 5);
}

#[test]
fn every_hot_kind_is_read_and_written_with_what_is_not_known_of_it() {
    each(|kind, objects, id| {
        let mut state = snapshot();
        let mut newer = kept(kind);
        newer["newer"] = serde_json::json!({ "of": "another release" });
        objects.read(&mut state, id, &newer.to_string()).unwrap();
        assert!(objects.ids(&state).contains(&id), "{kind}");
        assert_eq!(
            encoded(objects, &state, id).as_ref(),
            Some(&newer),
            "{kind}"
        );
        let columns = objects.encode(&state, id).unwrap().unwrap().columns;
        assert_eq!(columns.len(), kind.columns().len(), "{kind}");

        // A copy has it too, also where the object itself is the same.
        let mut other = snapshot();
        objects
            .read(&mut other, id, &kept(kind).to_string())
            .unwrap();
        objects.copy(&state, &mut other, id);
        assert_eq!(
            encoded(objects, &other, id).as_ref(),
            Some(&newer),
            "{kind}"
        );

        // It goes when a body without it comes.
        objects
            .read(&mut state, id, &kept(kind).to_string())
            .unwrap();
        assert_eq!(encoded(objects, &state, id), Some(kept(kind)), "{kind}");
    });
}

#[test]
fn a_body_that_cannot_be_read_changes_nothing() {
    each(|kind, objects, id| {
        let mut state = snapshot();
        let mut body = kept(kind);
        body["newer"] = true.into();
        objects.read(&mut state, id, &body.to_string()).unwrap();
        let mut later = body.clone();
        later["v"] = 99.into();
        assert!(objects.read(&mut state, id, &later.to_string()).is_err());
        assert_eq!(encoded(objects, &state, id), Some(body), "{kind}");
    });
}

#[test]
fn a_removed_object_is_gone_or_as_in_a_new_tailnet() {
    each(|kind, objects, id| {
        let mut state = snapshot();
        let before = encoded(objects, &state, id);
        let mut body = kept(kind);
        body["newer"] = true.into();
        objects.read(&mut state, id, &body.to_string()).unwrap();
        let mut without = state.clone();
        objects.remove(&mut without, id);
        if kind == Kind::Tailnet {
            return; // it goes with its snapshot
        }
        assert_eq!(encoded(objects, &without, id), before, "{kind}");
        // And a copy of a state in which it is gone.
        objects.copy(&without, &mut state, id);
        if before.is_none() {
            assert_eq!(encoded(objects, &state, id), None, "{kind}");
        }
    });
}

#[test]
fn a_user_that_is_gone_is_not_found_and_leaves_its_login_to_others() {
    let objects = hot(Kind::User).unwrap();
    let mut state = snapshot();
    let mut body = kept(Kind::User);
    objects.read(&mut state, 2001, &body.to_string()).unwrap();
    // Another takes the login name over, in the same change.
    body["id"] = 2009.into();
    objects.read(&mut state, 2009, &body.to_string()).unwrap();
    objects.remove(&mut state, 2001);
    state.apply_policy();
    let found = state.user_by_login("ann@example.com").unwrap();
    assert_eq!((found.id.get(), state.user_count()), (2009, 1));
}
