//! An honest fleet behind one address, which no measure against attackers may refuse.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bowline_testkit::client::{Client, Compression, Identity};
use http::Method;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::harness::{Site, call, many_files};
use crate::home::patiently;

/// Devices behind one address.
const DEVICES: u64 = 2_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_behind_one_address_that_comes_back_at_once_is_served_whole() {
    many_files();
    let site = Site::start(&[]).await;
    // Nobody sees anybody: what is tried here is not how large a netmap is.
    let server = site.as_attacker().await;
    let path = "/api/v2/tailnet/-/acl";
    let (token, policy) = (&site.attacked.token, json!({"acls": []}));
    call(&server, Method::POST, path, token, policy)
        .await
        .unwrap();
    let client = |number| Client::new(server.clone(), Identity::numbered(number), "device");
    let few = Arc::new(Semaphore::new(64));
    let mut joining = JoinSet::new();
    for number in 0..DEVICES {
        let (client, few, key) = (client(number), few.clone(), site.attacked.auth_key.clone());
        joining.spawn(async move {
            let _one = few.acquire().await;
            client.join(&key).await
        });
    }
    while let Some(joined) = joining.join_next().await {
        joined.unwrap().unwrap();
    }
    // All of them at once, each with its map stream, and each stays.
    let began = Instant::now();
    let mut coming = JoinSet::new();
    for number in 0..DEVICES {
        let client = client(number);
        coming.spawn(async move {
            let connection = client.connect().await?;
            let request = client.map_request(Compression::Zstd);
            let mut frames = connection.map(&request).await?;
            let first = frames.next().await?;
            anyhow::ensure!(first.is_some(), "the stream ended before its first message");
            anyhow::Ok((connection, frames))
        });
    }
    let mut refused = Vec::new();
    let mut there = Vec::new();
    let all = async {
        while let Some(came) = coming.join_next().await {
            match came.unwrap() {
                Ok(stays) => there.push(stays),
                Err(error) => refused.push(format!("{error:#}")),
            }
        }
    };
    patiently(all).await;
    assert_eq!(refused, Vec::<String>::new(), "of {DEVICES}");
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    let open = "bowline_connections{listener=\"main\",state=\"established\"}";
    assert!(site.metric(open).await >= DEVICES);
    // Whoever comes now is served at once.
    let bystander = site.bystander().await;
    bystander.rounds(2).await;
    bystander.assert_served().await;
}
