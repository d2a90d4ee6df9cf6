//! Closures that refuse, panic or forget their audit event.

use std::sync::Arc;

use bowline_model::device::{Device, Live};
use bowline_model::event::{DeviceRef, Event};
use bowline_model::id::DeviceId;
use bowline_model::requirement::Requirement;
use bowline_netmap::snapshot::Snapshot;
use bowline_store::{Batch, Column, Kind, Options, Put, Store};
use futures_util::FutureExt;
use futures_util::future::join_all;

use crate::core::draft::Draft;
use crate::credential::NewAuthKey;
use crate::registration::{Registered, RegistrationRefused};
use crate::{Actor, Engine, Refusal, Settings, StoreFailure, SystemClock, SystemRandom};

pub(crate) struct Net {
    pub(crate) engine: Engine,
    pub(crate) admin: Actor,
    device: DeviceId,
    directory: tempfile::TempDir,
}

pub(crate) async fn net() -> Net {
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
    let admin = admin.asking(Requirement::CALLER);
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
        directory,
    }
}

/// Renames the device, with an audit event or without.
fn rename(draft: &mut Draft<'_>, id: DeviceId, name: &str, audited: bool) {
    let mut device = (*draft.view().device(id).unwrap().device).clone();
    device.name = name.to_owned();
    device.name_given = true;
    if audited {
        draft.audit(Event::DeviceName {
            device: DeviceRef::of(&device),
            old: String::new(),
            new: name.to_owned(),
        });
    }
    draft.put(device);
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
            draft.audit(Event::CredentialCreated {
                credential: Box::new(credential.clone()),
            });
            draft.put(credential);
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
        Engine::soften(&handle, Some(id), change).await;
    }
    net.engine.tick().await;
    assert!(handle.pending.has_no_pending_reports(id));
    let snapshot = net.engine.snapshot(tailnet).unwrap();
    assert_eq!(snapshot.device(id).unwrap().live.home_derp, 3);
}

#[tokio::test]
async fn a_change_that_the_policy_cannot_follow_is_refused_alone_before_it_is_stored() {
    let net = net().await;
    let id = net.device;
    let tailnet = net.admin.tailnet;
    let outcomes = join_all((0..20).map(|n| {
        let name = if n % 5 == 4 {
            super::attempt::tests::POISON.to_owned()
        } else {
            format!("name{n}")
        };
        net.engine.write::<_, Refusal, _>(&net.admin, move |draft| {
            rename(draft, id, &name, true);
            Ok(())
        })
    }))
    .await;
    for (n, outcome) in outcomes.iter().enumerate() {
        let expected = match n % 5 {
            4 => matches!(outcome, Err(Refusal::Store(StoreFailure::Defect(_)))),
            _ => outcome.is_ok(),
        };
        assert!(expected, "{n}: {outcome:?}");
    }
    let snapshot = net.engine.snapshot(tailnet).unwrap();
    assert_eq!(snapshot.device(id).unwrap().device.name, "name18");
    let stored = net.engine.store().load(tailnet).await.unwrap();
    assert_eq!(stored.seq, snapshot.seq);
    let poisoned = |row: &bowline_store::Row| row.body.contains(super::attempt::tests::POISON);
    assert!(!stored.rows.iter().any(poisoned));
}

#[tokio::test]
async fn a_stored_state_that_cannot_be_put_into_force_takes_down_its_tailnet_alone() {
    let net = net().await;
    let (id, tailnet) = (net.device, net.admin.tailnet);
    let own = net
        .engine
        .create_auth_key(&net.admin, None, NewAuthKey::default())
        .await
        .unwrap();
    let other = net
        .engine
        .create_tailnet("eve@example.org", None)
        .await
        .unwrap();
    let node_key = net.engine.snapshot(tailnet).unwrap();
    let node_key = node_key.device(id).unwrap().device.node_key;
    let Net {
        engine, directory, ..
    } = net;
    engine.close().await;
    let path = directory.path().join("bowline.db");
    let url = path.as_path().into();
    let open = || Store::open(&url, Options::default());
    let store = open().await.unwrap();
    let loaded = store.load(tailnet).await.unwrap();
    let row = loaded.rows.iter().find(|row| row.kind == Kind::Device);
    let mut device: Device = bowline_model::record::decode(&row.unwrap().body).unwrap();
    device.name = super::attempt::tests::POISON.to_owned();
    let body = bowline_model::record::encode(&device).unwrap();
    let mut batch = Batch::new(tailnet, loaded.seq, [7; 16], jiff::Timestamp::UNIX_EPOCH);
    batch.puts = vec![
        Put::new(Kind::Device, device.id.get(), body)
            .with(Column::NodeKey, device.node_key.to_string())
            .with(Column::Ipv6, device.ipv6.to_string()),
    ];
    store.commit(batch).await.unwrap();
    store.close().await;

    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let store = open().await.unwrap();
    let engine = Engine::open(store, Settings::default(), clock, random)
        .await
        .unwrap();
    assert_eq!(engine.tailnets_out_of_order(), [tailnet]);
    // Its devices are not told that nobody knows them, and its tokens are not called wrong.
    assert!(engine.is_out_of_order(&node_key));
    assert!(engine.is_token_out_of_order(own.0.expose()));
    let request = crate::Registration {
        machine_key: device.machine_key,
        node_key,
        old_node_key: None,
        lock_key: String::new(),
        auth_key: None,
        expiry: None,
        ephemeral: false,
        capability_version: 113,
        hostinfo: bowline_model::record::RawJson::empty_object(),
        facts: bowline_model::device::HostFacts::default(),
    };
    let known = engine.register(request.clone()).await;
    assert!(
        matches!(
            known,
            Err(RegistrationRefused::Store(StoreFailure::WriterLost))
        ),
        "{known:?}"
    );
    let joining = crate::Registration {
        node_key: bowline_model::key::NodeKey::from_bytes([9; 32]).unwrap(),
        auth_key: Some(own.0.expose().to_owned()),
        ..request
    };
    let joining = engine.register(joining).await;
    assert!(
        matches!(
            joining,
            Err(RegistrationRefused::Store(StoreFailure::WriterLost))
        ),
        "{joining:?}"
    );
    let eve = engine.authenticate(other.token.expose()).unwrap();
    let eve = eve.asking(Requirement::CALLER);
    engine
        .create_auth_key(&eve, None, NewAuthKey::default())
        .await
        .unwrap();
}

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("on purpose");
    }
}

#[tokio::test]
async fn a_writer_that_dies_is_noticed_and_starts_again_from_what_is_stored() {
    let net = net().await;
    let (id, tailnet) = (net.device, net.admin.tailnet);
    let handle = net.engine.handle(tailnet).unwrap();
    // Nothing guards how a writer answers: this stands for any defect there. The answer's caller
    // has gone, so the writer drops it.
    let dies = net.engine.write::<_, Refusal, _>(&net.admin, move |draft| {
        rename(draft, id, "stored", true);
        Ok(Bomb)
    });
    assert!(
        dies.now_or_never().is_none(),
        "asked for, and not waited for"
    );
    let lost = net.engine.write::<_, Refusal, _>(&net.admin, move |draft| {
        rename(draft, id, "stored", true);
        Ok(())
    });
    let lost = lost.await;
    assert!(
        matches!(lost, Err(Refusal::Store(StoreFailure::WriterLost))),
        "{lost:?}"
    );
    let meanwhile = net.engine.write::<_, Refusal, _>(&net.admin, move |draft| {
        rename(draft, id, "later", true);
        Ok(())
    });
    // Refused while it is away, or taken by the writer that came after it.
    let meanwhile = meanwhile.await;
    assert!(
        matches!(
            meanwhile,
            Ok(()) | Err(Refusal::Store(StoreFailure::WriterLost))
        ),
        "{meanwhile:?}"
    );
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
    while handle
        .writer_lost
        .load(std::sync::atomic::Ordering::Acquire)
    {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    net.engine
        .write::<_, Refusal, _>(&net.admin, move |draft| {
            let name = &draft.view().device(id).unwrap().device.name;
            assert!(name == "stored" || name == "later", "{name}");
            rename(draft, id, "after", true);
            Ok(())
        })
        .await
        .unwrap();
    let snapshot = net.engine.snapshot(tailnet).unwrap();
    assert_eq!(snapshot.device(id).unwrap().device.name, "after");
    assert!(handle.pending.has_no_pending_reports(id));
}

#[tokio::test]
async fn an_id_that_the_database_has_for_another_tailnet_is_drawn_again() {
    let net = net().await;
    let other = net
        .engine
        .create_tailnet("eve@example.org", None)
        .await
        .unwrap();
    let stolen = other.credential.clone();
    let mut runs = 0;
    let made = net
        .engine
        .write::<_, Refusal, _>(&net.admin, move |draft| {
            runs += 1;
            let mut credential = stolen.clone();
            if runs > 1 {
                let id = draft.new_id();
                credential.id = bowline_model::id::KeyId::new(id).unwrap();
            }
            draft.audit(Event::CredentialCreated {
                credential: Box::new(credential.clone()),
            });
            let id = credential.id;
            draft.put(credential);
            Ok(id)
        })
        .await
        .unwrap();
    assert_ne!(made, other.credential.id);
    let snapshot = net.engine.snapshot(net.admin.tailnet).unwrap();
    assert!(snapshot.credential(made).is_some());
}

#[tokio::test]
async fn objects_that_swap_their_names_are_found_by_them_after_a_rebase() {
    let net = net().await;
    let there = net.engine.snapshot(net.admin.tailnet).unwrap();
    let pattern = there.device(net.device).unwrap().device.clone();
    let store = |snapshot: &mut Snapshot, number: u8, name: &str| {
        let mut device = (*pattern).clone();
        device.id = DeviceId::new(number.into()).unwrap();
        device.machine_key = bowline_model::key::MachineKey::from_bytes([number; 32]).unwrap();
        device.node_key = bowline_model::key::NodeKey::from_bytes([number; 32]).unwrap();
        device.ipv4 = [100, 64, 9, number].into();
        device.name = name.to_owned();
        snapshot.put_device(device);
    };
    let mut base = (*there).clone();
    base.remove_device(net.device);
    for (number, name) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
        store(&mut base, number, name);
    }
    base.apply_policy();
    let id = |number| DeviceId::new(number).unwrap();
    let mut published = base.clone();
    published.set_live(
        id(3),
        Live {
            home_derp: 7,
            ..Live::default()
        },
    );
    published.apply_policy();
    let mut committed = base.clone();
    // A goes to a name that becomes free, and so on round; D goes, and E takes D's name.
    for (number, name) in [(1, "x"), (2, "y"), (3, "b"), (1, "c"), (2, "a")] {
        store(&mut committed, number, name);
    }
    committed.remove_device(id(4));
    store(&mut committed, 5, "d");
    committed.set_live(
        id(3),
        Live {
            home_derp: 7,
            ..Live::default()
        },
    );
    committed.apply_policy();
    let mut changes = crate::core::draft::Changes::default();
    for number in 1..=5 {
        changes.touch::<bowline_model::device::Device>(id(number));
    }
    let softened = std::collections::BTreeSet::from([id(3)]);
    let next = super::rebase::onto(&published, &committed, &changes, &softened);
    assert_eq!(next.device_count(), 4);
    for (number, name) in [(1, "c"), (2, "a"), (3, "b"), (5, "d")] {
        assert_eq!(next.device_by_name(name).unwrap().device.id, id(number));
        assert_eq!(
            next.device_by_ipv4(next.device(id(number)).unwrap().device.ipv4)
                .unwrap()
                .device
                .id,
            id(number)
        );
    }
    assert!(next.device(id(4)).is_none());
    assert_eq!(next.device(id(3)).unwrap().live.home_derp, 7);
}
