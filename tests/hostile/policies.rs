//! Policies that are written to cost: chains that exhaust a stack, sets and tests that never end.
//! Whoever may read a tailnet's policy may have one judged.

use std::fmt::Write as _;
use std::time::Instant;

use bowline_testkit::client::{Client, Identity, Server};
use http::Method;
use serde_json::{Value, json};

use crate::harness::{BYSTANDER, SOON, Site, call};
use crate::home::patiently;

const ACL: &str = "/api/v2/tailnet/-/acl";

/// A policy whose tests ask about every rule: seconds of work, and minutes without a bound.
fn costly() -> Value {
    let rules: Vec<Value> = (0..4000)
        .map(|number| {
            let address = format!("10.{}.{}.1:1", number / 250, number % 250);
            json!({"action": "accept", "src": ["autogroup:member"], "dst": [address]})
        })
        .collect();
    let test = json!({"src": "alice@example.com", "deny": ["9.9.9.9:1", "9.9.9.8:1"]});
    json!({"groups": {"group:a": ["alice@example.com"]}, "acls": rules, "tests": vec![test; 9000]})
}

/// An IP set that another one names again and again. The text stays below the limit of a policy.
fn bomb() -> Value {
    let address = |number: u32| std::net::Ipv4Addr::from(0x0b00_0000 + 2 * number).to_string();
    let addresses: Vec<String> = (0..20_000).map(address).collect();
    json!({"ipsets": {"ipset:a": addresses, "ipset:b": vec!["ipset:a"; 50_000]}})
}

/// Asks for a judgement, whatever becomes of it.
fn judged(server: Server, token: String, policy: Value) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let path = format!("{ACL}/validate");
        let _ = call(&server, Method::POST, &path, &token, policy).await;
    })
}

#[tokio::test]
async fn a_chain_of_tags_exhausts_no_stack() {
    let site = Site::start(&[]).await;
    let bystander = site.bystander().await;
    let (server, token) = (site.as_attacker().await, site.attacked.token.clone());
    let mut owners = serde_json::Map::new();
    owners.insert("tag:zz".to_owned(), json!([]));
    for link in 0..20_000 {
        let mut next = String::new();
        write!(next, "tag:a{}", link + 1).unwrap();
        owners.insert(format!("tag:a{link}"), json!([next]));
    }
    owners.insert("tag:a20000".to_owned(), json!([]));
    let policy = json!({"tagOwners": owners});
    call(&server, Method::POST, ACL, &token, policy)
        .await
        .unwrap();
    let body =
        json!({"capabilities": {"devices": {"create": {"reusable": true, "tags": ["tag:zz"]}}}});
    let keys = "/api/v2/tailnet/-/keys";
    let key = call(&server, Method::POST, keys, &token, body)
        .await
        .unwrap();
    let device = Client::new(server, Identity::numbered(67), "chain");
    let mut request = device.register_request();
    request["Auth"] = json!({"AuthKey": key["key"]});
    request["Hostinfo"]["RequestTags"] = json!(["tag:a0"]);
    let register = async { device.connect().await?.register(&request).await };
    let answer = patiently(register).await.unwrap();
    assert_ne!(answer["Error"], json!(""), "a tag that is not to be had");
    bystander.rounds(3).await;
    bystander.assert_served().await;
}

#[tokio::test]
async fn one_tailnets_policies_hold_up_nobody_and_no_shutdown() {
    let site = Site::start(&[]).await;
    let bystander = site.bystander().await;
    let (server, token) = (site.as_attacker().await, site.attacked.token.clone());
    let mut attacks = Vec::new();
    for policy in [bomb(), costly(), bomb(), costly(), costly()] {
        attacks.push(judged(server.clone(), token.clone(), policy));
    }
    let other = site.serving.server().await.from_source(BYSTANDER);
    for _ in 0..5 {
        let began = Instant::now();
        let path = format!("{ACL}/validate");
        let verdict = call(&other, Method::POST, &path, &site.other.token, json!({}));
        assert_eq!(patiently(verdict).await.unwrap(), json!({}));
        let took = began.elapsed();
        assert!(took < SOON, "another tailnet waited {took:?}");
        bystander.rounds(1).await;
    }
    bystander.assert_served().await;
    // The connections are cut first, and the work ends with its requests.
    attacks.iter().for_each(tokio::task::JoinHandle::abort);
    let began = Instant::now();
    site.serving.terminate();
    patiently(site.serving.end()).await;
    let took = began.elapsed();
    assert!(took.as_secs() < 20, "the process ended after {took:?}");
}
