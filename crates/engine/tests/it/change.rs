//! Changes of many at once.

use std::collections::HashSet;

use bowline_engine::Refusal;
use bowline_engine::dns::DnsEdit;
use bowline_model::requirement::Requirement;
use bowline_model::right::Right;
use bowline_model::scope::Scope;
use bowline_model::user::Role;
use futures_util::future::join_all;
use jiff::SignedDuration;

use crate::net::{Net, present, request};

#[tokio::test]
async fn ten_devices_that_join_at_once_do_so_in_few_commits_and_publications() {
    let net = Net::new().await;
    let key = net.reusable().await;
    let before = net.snapshot();
    let devices = join_all((1..=10).map(|number| net.register(request(number, &key)))).await;
    assert_eq!(devices.iter().collect::<HashSet<_>>().len(), 10);
    let after = net.snapshot();
    assert!(
        after.seq - before.seq <= 2,
        "the first one alone at most: {}",
        after.seq - before.seq
    );
    assert!(after.revision - before.revision <= 2);
    let net = net.restart(SignedDuration::ZERO).await;
    assert_eq!(net.snapshot().device_count(), 10);
}

#[tokio::test]
async fn refused_changes_between_accepted_ones_leave_no_trace() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let outcomes = join_all((0..20).map(|n| {
        let net = &net;
        async move {
            let name = if n % 2 == 0 {
                format!("name{n}")
            } else {
                "no name!".to_owned()
            };
            net.engine.rename_device(&net.admin, device, &name).await
        }
    }))
    .await;
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_ok(), n % 2 == 0, "{n}: {outcome:?}");
    }
    assert_eq!(net.device(device).name, "name18");
    let renames = net
        .audit()
        .await
        .iter()
        .filter(|(_, property)| property == "MACHINE_NAME")
        .count();
    assert_eq!(renames, 10);
    let net = net.restart(SignedDuration::ZERO).await;
    assert_eq!(net.device(device).name, "name18");
}

#[tokio::test]
async fn every_change_leaves_an_audit_event_and_a_repetition_none() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let (engine, admin) = (&net.engine, &net.admin);
    for expected in [2, 0] {
        let before = net.audit().await.len();
        engine
            .rename_device(admin, device, "printer")
            .await
            .unwrap();
        engine
            .set_device_routes(admin, device, &["10.0.0.0/8".to_owned()])
            .await
            .unwrap();
        assert_eq!(net.audit().await.len() - before, expected);
    }
    for expected in [1, 0] {
        let before = net.audit().await.len();
        engine
            .edit_dns(admin, DnsEdit::Nameservers(vec!["9.9.9.9".to_owned()]))
            .await
            .unwrap();
        assert_eq!(net.audit().await.len() - before, expected);
    }
    for expected in [1, 0] {
        let before = net.audit().await.len();
        engine.expire_device(admin, device).await.unwrap();
        assert_eq!(net.audit().await.len() - before, expected);
    }
}

#[tokio::test]
async fn a_role_that_may_not_write_changes_nothing() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let bob = net
        .engine
        .create_user(&net.admin, "bob@example.com", None, Role::Auditor)
        .await
        .unwrap();
    let auditor = net.acting(bob.id).await.asking(Requirement::all(
        &[Scope::DEVICES_CORE],
        Right::WriteDevices,
    ));
    let before = net.snapshot().revision;
    for refused in [
        net.engine.rename_device(&auditor, device, "x").await,
        net.engine.delete_device(&auditor, device).await,
        net.engine.expire_device(&auditor, device).await,
        net.engine.authorize_device(&auditor, device, false).await,
    ] {
        assert!(matches!(refused, Err(Refusal::NotPermitted)), "{refused:?}");
    }
    assert_eq!(net.snapshot().revision, before);
}

#[tokio::test]
async fn another_tailnets_objects_are_not_found() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let (_, key) = net
        .key_with(bowline_engine::credential::NewAuthKey::default())
        .await;
    let made = net
        .engine
        .create_tailnet("eve@example.org", None)
        .await
        .unwrap();
    let eve = present(&net.engine, made.token.expose());
    assert!(matches!(
        net.engine.rename_device(&eve, device, "x").await,
        Err(Refusal::NotFound)
    ));
    assert!(matches!(
        net.engine.delete_device(&eve, device).await,
        Err(Refusal::NotFound)
    ));
    assert!(matches!(
        net.engine.device(&eve, device),
        Err(Refusal::NotFound)
    ));
    assert!(matches!(
        net.engine.revoke_credential(&eve, key).await,
        Err(Refusal::NotFound)
    ));
    assert!(matches!(
        net.engine.credential(&eve, key),
        Err(Refusal::NotFound)
    ));
}
