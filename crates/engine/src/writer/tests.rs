//! Closures that refuse, panic or forget their audit event.

use std::sync::Arc;

use bowline_model::device::Live;
use bowline_model::id::DeviceId;
use bowline_store::{Options, Store};
use futures_util::future::join_all;

use crate::credential::NewAuthKey;
use crate::draft::Draft;
use crate::due::device_target;
use crate::register::Registered;
use crate::{Actor, Engine, Refusal, Settings, StoreFailure, SystemClock, SystemRandom};

struct Net {
    engine: Engine,
    admin: Actor,
    device: DeviceId,
    _directory: tempfile::TempDir,
}

async fn net() -> Net {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bowline.db");
    let store = Store::open(&path.as_path().into(), Options::default())
        .await
        .unwrap();
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let engine = Engine::open(store, Settings::default(), clock, random)
        .await
        .unwrap();
    let made = engine
        .create_tailnet("ann@example.com", None)
        .await
        .unwrap();
    let admin = engine.authenticate(made.token.expose()).unwrap();
    let key = engine
        .create_auth_key(&admin, None, NewAuthKey::default())
        .await
        .unwrap();
    let request = crate::Registration {
        machine_key: bowline_model::key::MachineKey::from_bytes([1; 32]).unwrap(),
        node_key: bowline_model::key::NodeKey::from_bytes([2; 32]).unwrap(),
        old_node_key: None,
        lock_key: String::new(),
        auth_key: Some(key.0.expose().to_owned()),
        expiry: None,
        ephemeral: false,
        capability_version: 113,
        hostinfo: bowline_model::record::RawJson::empty_object(),
        facts: bowline_model::device::HostFacts::default(),
    };
    let Registered::In { device, .. } = engine.register(request).await.unwrap() else {
        panic!("not let in");
    };
    Net {
        engine,
        admin,
        device,
        _directory: directory,
    }
}

/// Renames the device, with an audit event or without.
fn rename(draft: &mut Draft<'_>, id: DeviceId, name: &str, audited: bool) {
    let mut device = (*draft.view().device(id).unwrap().device).clone();
    device.name = name.to_owned();
    if audited {
        let target = device_target(&device, None);
        draft.audit(
            "UPDATE",
            target,
            serde_json::Value::Null,
            serde_json::Value::Null,
        );
    }
    draft.put_device(device);
}

#[tokio::test]
async fn a_closure_that_refuses_panics_or_forgets_its_event_leaves_no_trace_and_others_commit() {
    let net = net().await;
    let id = net.device;
    let before = net.engine.snapshot(net.admin.tailnet).unwrap();
    let outcomes = join_all((0..40).map(|n| {
        let name = format!("name{n}");
        net.engine.write(&net.admin, move |draft| {
            rename(draft, id, &name, n % 4 != 1);
            match n % 4 {
                2 => Err(Refusal::NotPermitted),
                3 => panic!("on purpose"),
                _ => Ok(()),
            }
        })
    }))
    .await;
    for (n, outcome) in outcomes.iter().enumerate() {
        let expected = match n % 4 {
            0 => outcome.is_ok(),
            2 => matches!(outcome, Err(Refusal::NotPermitted)),
            _ => matches!(outcome, Err(Refusal::Store(StoreFailure::Defect(_)))),
        };
        assert!(expected, "{n}: {outcome:?}");
    }
    let after = net.engine.snapshot(net.admin.tailnet).unwrap();
    assert_eq!(after.device(id).unwrap().device.name, "name36");
    assert!(after.device_by_name("name37").is_none());
    assert!(after.seq - before.seq <= 3, "together, but for the first");
    let stored = net.engine.store().load(net.admin.tailnet).await.unwrap();
    assert_eq!(stored.seq, after.seq);
    assert!(stored.rows.iter().any(|row| row.body.contains("name36")));
}

#[tokio::test]
async fn a_row_that_the_database_refuses_costs_its_closure_alone() {
    let net = net().await;
    let id = net.device;
    let other = net
        .engine
        .create_tailnet("eve@example.org", None)
        .await
        .unwrap();
    let stolen = other.credential.clone();
    let (one, two, three) = tokio::join!(
        net.engine.write::<_, Refusal, _>(&net.admin, move |draft| {
            rename(draft, id, "first", true);
            Ok(())
        }),
        // A credential with the id that one of another tailnet has.
        net.engine.write::<_, Refusal, _>(&net.admin, move |draft| {
            let credential = stolen.clone();
            let target = crate::credential::target(&credential);
            draft.audit(
                "CREATE",
                target,
                serde_json::Value::Null,
                serde_json::Value::Null,
            );
            draft.put_credential(credential);
            Ok(())
        }),
        net.engine.write::<_, Refusal, _>(&net.admin, move |draft| {
            assert_eq!(draft.view().device(id).unwrap().device.name, "first");
            rename(draft, id, "second", true);
            Ok(())
        }),
    );
    assert!(one.is_ok() && three.is_ok(), "{one:?} {three:?}");
    assert!(
        matches!(two, Err(Refusal::Store(StoreFailure::Defect(_)))),
        "{two:?}"
    );
    let snapshot = net.engine.snapshot(net.admin.tailnet).unwrap();
    assert_eq!(snapshot.device(id).unwrap().device.name, "second");
    let theirs = net.engine.snapshot(other.tailnet).unwrap();
    assert!(theirs.credential(other.credential.id).is_some());
    assert!(net.engine.authenticate(other.token.expose()).is_some());
}

#[tokio::test]
async fn a_change_of_soft_state_that_panics_leaves_the_others() {
    let net = net().await;
    let (id, tailnet) = (net.device, net.admin.tailnet);
    let handle = net.engine.handle(tailnet).unwrap();
    for home_derp in [1, 2, 3, 4] {
        let change = move |draft: &mut Draft<'_>| {
            let live = (*draft.view().device(id).unwrap().live).clone();
            draft.set_live(id, Live { home_derp, ..live });
            assert_ne!(home_derp % 2, 0, "on purpose");
        };
        Engine::soften(&handle, change).await;
    }
    net.engine.tick().await;
    assert!(handle.is_settled());
    let snapshot = net.engine.snapshot(tailnet).unwrap();
    assert_eq!(snapshot.device(id).unwrap().live.home_derp, 3);
}
