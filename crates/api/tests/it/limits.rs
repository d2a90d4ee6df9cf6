//! How the cost of a request grows with its body: never faster than the body.
//!
//! Measured is the processor time of the one thread that is the runtime here: the handler, the
//! writer with its closure, and what is made of both. Times depend on the machine, so it is the ratio
//! of two that is looked at: eight times as much of something may cost some eight times as much, and
//! what looks at each for each would cost sixty-four times as much.

use std::time::Duration;

use bowline_api::operations;
use serde_json::{Value, json};

use crate::largest::{Named, cases, since, thread_time};
use crate::server::Server;

/// Few enough that a body of them is far from the limit, and many enough to be measured.
const FEW: usize = 2_000;
const MANY: usize = 8 * FEW;
/// Below this a cost is not worth a look, whatever it grows like.
const CHEAP: Duration = Duration::from_millis(3);
/// Between the two, and nearer to what must not be.
const GROWTH_MAX: f64 = 24.0;

async fn cost(server: &Server, verb: &str, path: &str, body: &Value) -> Duration {
    let body = body.to_string().into_bytes();
    let mut least = Duration::MAX;
    for _ in 0..3 {
        let before = thread_time();
        server.ask(verb, path, body.clone()).await;
        least = least.min(since(before));
    }
    least
}

#[tokio::test]
async fn no_cost_grows_faster_than_the_body_of_a_request() {
    let server = Server::start().await;
    // Something that each might be compared with.
    let key = server
        .auth_key(&server.tailnet, json!({"reusable": true}))
        .await;
    let mut devices = Vec::new();
    for number in 0..50 {
        let device = server.register(&key, &format!("host{number}")).await;
        devices.push(device.unwrap().stable());
    }
    let login = server.login("waiting").await;
    let new =
        json!({"endpointUrl": "https://hooks.example.com/", "subscriptions": ["userCreated"]});
    let webhook = server.call("POST", "/tailnet/-/webhooks", new).await.ok();
    let named = Named {
        webhook: webhook["endpointId"].as_str().unwrap(),
        devices: &devices,
        key: key["id"].as_str().unwrap(),
        login: &login,
    };
    let mut measured = 0;
    for operation in operations().filter(|operation| operation.takes_body) {
        let few = cases(&operation, &named, FEW);
        let many = cases(&operation, &named, MANY);
        for (few, many) in few.into_iter().zip(many) {
            measured += 1;
            let verb = operation.verb.as_str();
            let one = cost(&server, verb, &few.path, &few.body).await;
            let eight = cost(&server, verb, &many.path, &many.body).await;
            let growth = eight.as_secs_f64() / one.as_secs_f64().max(1e-9);
            assert!(
                eight <= CHEAP || growth <= GROWTH_MAX,
                "{}: {FEW} {} cost {one:?}, {MANY} cost {eight:?}",
                operation.id,
                few.what
            );
        }
    }
    assert!(measured >= 25, "{measured}");
}

#[tokio::test]
async fn a_change_costs_the_same_however_large_the_tailnet_is() {
    let mut costs = Vec::new();
    for devices in [100, 400] {
        let server = Server::start().await;
        let key = server
            .auth_key(&server.tailnet, json!({"reusable": true}))
            .await;
        let mut last = None;
        for number in 0..devices {
            let device = server.register(&key, &format!("host{number}")).await;
            let path = format!("/device/{}/attributes/custom:k", device.unwrap());
            server.ask("POST", &path, br#"{"value":1}"#.to_vec()).await;
            last = device;
        }
        let device = last.unwrap();
        let edits: serde_json::Map<String, Value> = (0..90)
            .map(|n| (format!("custom:k{n}"), json!({"value": n})))
            .collect();
        let body = json!({"nodes": {device.stable(): edits}});
        costs.push(cost(&server, "PATCH", "/tailnet/-/device-attributes", &body).await);
    }
    let growth = costs[1].as_secs_f64() / costs[0].as_secs_f64();
    assert!(
        costs[1] <= CHEAP || growth <= 2.5,
        "of 100 devices {:?}, of 400 {:?}",
        costs[0],
        costs[1]
    );
}
