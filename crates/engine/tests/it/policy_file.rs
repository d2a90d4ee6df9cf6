//! The policy file: set in one step, with the routes that it approves.

use std::collections::BTreeSet;
use std::sync::Arc;

use bowline_engine::Report;
use bowline_engine::policy::file::{Expected, PolicyRefused, etag};
use bowline_model::device::HostFacts;
use bowline_model::id::DeviceId;
use bowline_model::record::RawJson;
use bowline_policy::Policy;
use ipnet::IpNet;

use crate::net::{Net, operator, request};

fn policy(text: &str) -> Arc<Policy> {
    Arc::new(Policy::parse(text).unwrap())
}

async fn set(net: &Net, text: &str) -> Result<(), PolicyRefused> {
    let done = net
        .engine
        .set_policy_file(&net.admin, Some(policy(text)), None);
    done.await.map(|_| ())
}

fn routes(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

async fn router(net: &Net, number: u64, advertised: Vec<IpNet>) -> DeviceId {
    let key = net.one_off().await;
    let mut request = request(number, &key);
    request.facts.advertised_routes = advertised;
    net.register(request).await
}

#[tokio::test]
async fn both_routes_of_an_exit_node_are_approved_and_only_what_is_advertised() {
    let net = Net::new().await;
    let exit = router(&net, 1, routes(&["0.0.0.0/0", "10.1.0.0/16"])).await;
    let other = router(&net, 2, routes(&["10.1.0.0/16", "192.168.0.0/24"])).await;
    let approvers = r#"{"acls": [], "autoApprovers": {
        "exitNode": ["autogroup:member"],
        "routes": {"10.0.0.0/8": ["ann@example.com"], "172.16.0.0/12": ["ann@example.com"]},
    }}"#;
    set(&net, approvers).await.unwrap();
    let enabled = |device| net.device(device).enabled_routes.clone();
    assert_eq!(enabled(exit), routes(&["0.0.0.0/0", "10.1.0.0/16", "::/0"]));
    assert_eq!(enabled(other), routes(&["10.1.0.0/16"]));
    let approvals = async || {
        let events = net.audit().await;
        let of_routes = events
            .iter()
            .filter(|(_, what)| what == "AUTO_APPROVED_ROUTES");
        of_routes.count()
    };
    assert_eq!(approvals().await, 2);
    // Again: there is nothing left to approve.
    set(&net, &format!("{approvers}\n")).await.unwrap();
    assert_eq!(approvals().await, 2);
}

#[tokio::test]
async fn approving_what_is_learned_all_the_time_does_not_grow_a_record_for_ever() {
    let net = Net::new().await;
    let learned = |from: u32| -> Vec<IpNet> {
        let hosts = (from..from + 1000).map(|n| (0x0a00_0000 + n).into());
        hosts
            .map(|address: std::net::Ipv4Addr| IpNet::new(address.into(), 32).unwrap())
            .collect()
    };
    let connector = router(&net, 1, learned(0)).await;
    let approving =
        r#"{"acls": [], "autoApprovers": {"routes": {"10.0.0.0/8": ["ann@example.com"]}}}"#;
    set(&net, approving).await.unwrap();
    assert_eq!(net.device(connector).enabled_routes.len(), 1000);
    let facts = HostFacts {
        advertised_routes: learned(500),
        ..net.device(connector).facts.clone()
    };
    let report = Report {
        hostinfo: Some((RawJson::empty_object(), facts)),
        ..Report::default()
    };
    net.engine.report(net.tailnet, connector, report).await;
    net.settle().await;
    set(&net, &format!("{approving}\n")).await.unwrap();
    let enabled: BTreeSet<IpNet> = net
        .device(connector)
        .enabled_routes
        .iter()
        .copied()
        .collect();
    assert_eq!(enabled, learned(500).into_iter().collect());
}

#[tokio::test]
async fn a_refused_policy_leaves_no_trace_in_what_is_committed_with_it() {
    let net = Net::new().await;
    let device = router(&net, 1, routes(&["10.1.0.0/16"])).await;
    let failing = r#"{"acls": [], "autoApprovers": {"routes": {"10.0.0.0/8": ["ann@example.com"]}},
        "tests": [{"src": "ann@example.com", "accept": ["1.2.3.4:1"]}]}"#;
    let (refused, renamed, foreign) = tokio::join!(
        set(&net, failing),
        net.engine.rename_device(&net.admin, device, "renamed"),
        set(
            &net,
            r#"{"ssh": [{"action": "accept", "src": ["user:*@a.org"], "dst": ["autogroup:self"], "users": ["x"]}]}"#
        ),
    );
    renamed.unwrap();
    let Err(PolicyRefused::Wrong(diagnostic)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(diagnostic.message, "test(s) failed");
    assert_eq!(diagnostic.failures.len(), 1);
    assert!(matches!(foreign, Err(PolicyRefused::Wrong(_))));
    let snapshot = net.snapshot();
    assert_eq!(snapshot.policy().text, None);
    assert_eq!(snapshot.compiled().policy().test_count(), 0);
    assert_eq!(net.device(device).enabled_routes, []);
    assert!(net.audit().await.iter().all(|(_, what)| what != "ACL"));
}

#[tokio::test]
async fn of_two_who_replace_the_same_policy_one_is_told_that_it_is_outdated() {
    let net = Net::new().await;
    set(&net, "{}").await.unwrap();
    let expected = || Some(Expected::etag(&etag("{}")));
    let (first, second) = tokio::join!(
        net.engine
            .set_policy_file(&net.admin, Some(policy(r#"{"acls": []}"#)), expected()),
        net.engine
            .set_policy_file(&net.admin, Some(policy(r#"{"grants": []}"#)), expected()),
    );
    let outcomes = [first, second];
    let won: Vec<_> = outcomes.iter().flatten().collect();
    assert_eq!(won.len(), 1);
    assert!(
        outcomes
            .iter()
            .any(|outcome| matches!(outcome, Err(PolicyRefused::Outdated)))
    );
    assert_eq!(won[0], net.snapshot().policy());
}

#[tokio::test]
async fn a_policy_is_in_force_again_after_a_restart_and_a_reset_too() {
    let net = Net::new().await;
    let closed = r#"{"acls": []} // closed
"#;
    set(&net, closed).await.unwrap();
    let (one, two) = (net.join(1).await, net.join(2).await);
    let sees = |net: &Net| net.snapshot().compiled().visible(one.get(), two.get());
    assert!(!sees(&net));
    let net = net.restart(jiff::SignedDuration::from_secs(1)).await;
    assert_eq!(net.snapshot().policy().text.as_deref(), Some(closed));
    assert!(!sees(&net));
    let reset = net.engine.set_policy_file(&net.admin, None, None);
    assert_eq!(reset.await.unwrap().text, None);
    assert!(sees(&net));
    let net = net.restart(jiff::SignedDuration::from_secs(1)).await;
    assert_eq!(net.snapshot().policy().text, None);
    assert!(sees(&net));
}

#[tokio::test]
async fn the_domains_of_a_tailnet_are_its_names_and_its_owners() {
    let net = Net::new().await;
    let rule = |domain: &str| {
        format!(r#"{{"grants": [{{"src": ["user:*@{domain}"], "dst": ["*"], "ip": ["*"]}}]}}"#)
    };
    let may = async |owner: &str, name: &str, domain: &str| {
        let made = net.engine.create_tailnet(owner, Some(name)).await.unwrap();
        let actor = operator(made.tailnet);
        let set = net
            .engine
            .set_policy_file(&actor, Some(policy(&rule(domain))), None);
        set.await.is_ok()
    };
    assert!(may("ann@corp.net", "one", "corp.net").await);
    assert!(may("ann@corp.net", "Two.ORG", "two.org").await);
    assert!(may("ann@gmail.com", "three@corp.net", "corp.net").await);
    assert!(!may("ann@gmail.com", "four", "gmail.com").await);
    assert!(!may("ann@github", "five", "github").await);
    assert!(!may("ann@corp.net", "six", "sub.corp.net").await);
}
