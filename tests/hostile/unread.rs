//! A client that opens map streams and never reads: it answers pings and acknowledges what arrives,
//! and so would keep old states of its tailnet in memory for ever.

use std::time::Duration;

use bowline_testkit::client::{CAPABILITY_VERSION, Client, Compression, Connection, Identity};
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Site, call};
use crate::home::patiently;

/// Devices of the attacker, each with a stream.
const DEVICES: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_nobody_reads_end_and_cost_others_nothing() {
    let site = Site::start_with("[limits]\nstuck_stream_seconds = 5\n", &[]).await;
    let bystander = site.bystander().await;
    let attacker = site.as_attacker().await;
    let mut unread = Vec::new();
    for number in 0..DEVICES {
        let client = Client::new(attacker.clone(), Identity::numbered(number), "silent");
        patiently(client.join(&site.attacked.auth_key))
            .await
            .unwrap();
        let io = patiently(attacker.dial()).await.unwrap();
        let opening = Connection::open_with_window(
            io,
            &attacker,
            client.identity(),
            CAPABILITY_VERSION,
            64, // less than any map
        );
        let connection = patiently(opening).await.unwrap();
        let request = client.map_request(Compression::Zstd);
        let frames = patiently(connection.map(&request)).await.unwrap();
        unread.push((connection, frames));
    }
    // What they do not read changes again and again.
    let server = site.serving.server().await;
    for round in 0..50 {
        let body = json!({"dns": [format!("192.0.2.{}", round + 1)]});
        let path = "/api/v2/tailnet/-/dns/nameservers";
        call(&server, Method::POST, path, &site.attacked.token, body)
            .await
            .unwrap();
    }
    let devices = "/api/v2/tailnet/-/devices?connectedToControl=true";
    let ended = async {
        loop {
            let token = &site.attacked.token;
            let connected = call(&server, Method::GET, devices, token, Value::Null).await;
            if connected.unwrap()["devices"] == json!([]) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(45), ended).await;
    assert!(
        in_time.is_ok(),
        "some streams go on though nobody reads them"
    );
    bystander.assert_served().await;
    drop(unread);
}
