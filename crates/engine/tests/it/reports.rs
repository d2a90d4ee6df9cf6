//! What a device reports: how much of it is taken, how often, and what is said where it is not.

use std::time::Duration;

use bowline_engine::{NetReport, Registration, Report, Settings};
use bowline_model::device::HostFacts;
use bowline_model::id::DeviceId;
use bowline_model::record::RawJson;
use bowline_store::Options;

use crate::net::{Net, node_key, quick, request, until};

fn hostinfo(number: u32) -> (RawJson, HostFacts) {
    let hostname = format!("name{number}");
    let json = RawJson::of(&serde_json::json!({"Hostname": hostname})).unwrap();
    let facts = HostFacts {
        hostname,
        ..HostFacts::default()
    };
    (json, facts)
}

fn said(number: u32) -> Report {
    Report {
        hostinfo: Some(hostinfo(number)),
        ..Report::default()
    }
}

fn held(net: &Net) -> u64 {
    let counters = net.engine.counters();
    counters
        .reports_held
        .load(std::sync::atomic::Ordering::Relaxed)
}

async fn strict() -> Net {
    let settings = Settings {
        report_burst: 3,
        report_interval: Duration::from_millis(300),
        ..quick()
    };
    Net::with(settings, Options::default()).await
}

async fn is_called(net: &Net, device: DeviceId, number: u32) {
    let name = format!("name{number}");
    until("the newest state is out", || {
        (net.device(device).name == name).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_device_that_changes_what_it_says_too_often_is_heard_later_and_at_last() {
    let net = strict().await;
    let (device, other) = (net.join(1).await, net.join(2).await);
    let before = net.snapshot().revision;
    for number in 1..=200 {
        net.engine.report(net.tailnet, device, said(number)).await;
    }
    // Somebody else is heard at once.
    net.engine.report(net.tailnet, other, said(900)).await;
    net.settle().await;
    assert_eq!(net.device(other).name, "name900");
    assert!(held(&net) >= 190);
    is_called(&net, device, 200).await;
    let told = net.snapshot().revision - before;
    assert!(told < 20, "{told} publications");
    // Parts that are said apart come out together.
    for number in 201..210 {
        net.engine.report(net.tailnet, device, said(number)).await;
    }
    let endpoints = Report {
        endpoints: Some(vec!["192.0.2.1:1".parse().unwrap()]),
        ..Report::default()
    };
    net.engine.report(net.tailnet, device, endpoints).await;
    // What is so by now is said while something else waits: that is the newest.
    net.engine.report(net.tailnet, device, said(200)).await;
    is_called(&net, device, 200).await;
    until("the endpoints are out", || {
        (net.entry(device).live.endpoints.len() == 1).then_some(())
    })
    .await;
    assert_eq!(net.device(device).name, "name200");
}

#[tokio::test]
async fn an_honest_device_is_never_held_up() {
    let net = Net::new().await;
    let devices = [net.join(1).await, net.join(2).await, net.join(3).await];
    // As much as a client says in its first moments, and at a few changes of its network.
    for number in 1..=8 {
        for device in devices {
            net.engine.report(net.tailnet, device, said(number)).await;
            net.engine.report(net.tailnet, device, said(number)).await;
            let net_info = Report {
                net_info: Some(NetReport {
                    json: RawJson::empty_object(),
                    home_derp: 900 + number,
                    is_shortened: false,
                }),
                ..Report::default()
            };
            net.engine.report(net.tailnet, device, net_info).await;
        }
    }
    net.settle().await;
    assert_eq!(held(&net), 0);
}

#[tokio::test]
async fn a_machine_that_logs_in_again_and_again_is_heard_as_one_that_reports() {
    let net = strict().await;
    let key = net.reusable().await;
    let login = |number: u32| {
        let (hostinfo, facts) = hostinfo(number);
        let (new, old) = (u64::from(number) + 100, u64::from(number) + 99);
        Registration {
            node_key: node_key(new),
            old_node_key: Some(node_key(old)),
            hostinfo,
            facts,
            ..request(1, &key)
        }
    };
    let device = net.register(login(1)).await;
    for number in 2..=20 {
        assert_eq!(net.register(login(number)).await, device);
        let now = net.device(device);
        assert_eq!(now.node_key, node_key(u64::from(number) + 100));
    }
    assert!(held(&net) > 0);
    is_called(&net, device, 20).await;
}

#[tokio::test]
async fn what_is_over_a_limit_is_kept_in_mind_until_it_no_longer_is() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let shortened = || {
        let counters = net.engine.counters();
        counters
            .reports_shortened
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    let mut report = said(1);
    let (_, facts) = report.hostinfo.as_mut().unwrap();
    facts.shortened.insert("Services".to_owned());
    report.endpoints = Some(Vec::new());
    report.endpoints_shortened = true;
    net.engine.report(net.tailnet, device, report.clone()).await;
    net.settle().await;
    assert!(net.device(device).facts.shortened.contains("Services"));
    assert!(net.entry(device).live.endpoints_shortened);
    assert_eq!(shortened(), 1);
    net.engine.report(net.tailnet, device, report).await;
    net.settle().await;
    assert_eq!(shortened(), 1, "said once");
    // All of it too large: what was said before stays.
    let large = Report {
        hostinfo_too_large: true,
        ..Report::default()
    };
    net.engine.report(net.tailnet, device, large).await;
    net.settle().await;
    assert_eq!(net.device(device).name, "name1");
    assert!(net.device(device).facts.shortened.contains("Hostinfo"));
    let mut report = said(2);
    report.endpoints = Some(Vec::new());
    net.engine.report(net.tailnet, device, report).await;
    net.settle().await;
    assert!(net.device(device).facts.shortened.is_empty());
    assert!(!net.entry(device).live.endpoints_shortened);
}
