//! Map streams.

use bowline_modelclient::{ModelClient, Rules};
use bowline_testkit::client::Compression;
use http::{Method, StatusCode};
use serde_json::json;

use crate::server::Server;

#[tokio::test]
async fn two_clients_see_each_other_and_what_becomes_of_them() {
    let server = Server::start().await;
    let ((one, _), (two, second)) = (server.joined(1).await, server.joined(2).await);
    let mut go = one.stream(Compression::Zstd).await.unwrap();
    let mut rust = two.stream(Compression::None).await.unwrap();
    let id = second.get();
    let peer =
        |map: &ModelClient, field: &str| map.peer(id).and_then(|peer| peer.get(field).cloned());
    go.until(|map| peer(map, "Online") == Some(true.into()))
        .await
        .unwrap();
    rust.until(|map| map.peer_count() == 1).await.unwrap();

    two.update(&json!({"Endpoints": ["192.0.2.1:41641"], "EndpointTypes": [1]}))
        .await
        .unwrap();
    go.until(|map| peer(map, "Endpoints") == Some(json!(["192.0.2.1:41641"])))
        .await
        .unwrap();
    // Gone again: only an empty list says so.
    two.update(&json!({"Endpoints": [], "EndpointTypes": []}))
        .await
        .unwrap();
    go.until(|map| peer(map, "Endpoints").is_none())
        .await
        .unwrap();

    server
        .engine
        .rename_device(&server.admin, second, "printer")
        .await
        .unwrap();
    let is_renamed = |name: Option<serde_json::Value>| {
        name.is_some_and(|name| name.as_str().unwrap().starts_with("printer."))
    };
    go.until(|map| is_renamed(peer(map, "Name"))).await.unwrap();
    rust.until(|map| is_renamed(map.node().and_then(|node| node.get("Name").cloned())))
        .await
        .unwrap();

    server
        .engine
        .delete_device(&server.admin, second)
        .await
        .unwrap();
    go.until(|map| map.peer_count() == 0).await.unwrap();
    // The deleted one is told that its key has expired, and its stream ends.
    rust.until(|map| map.node().unwrap().get("Expired") == Some(&true.into()))
        .await
        .unwrap();
    assert!(rust.next().await.unwrap().is_none());
    // So it is when it comes back.
    let again = two.stream(Compression::Zstd).await.unwrap();
    assert_eq!(again.map().node().unwrap()["Expired"], true);
}

#[tokio::test]
async fn a_newer_stream_ends_the_older_and_the_device_stays_online() {
    let server = Server::start().await;
    let ((one, device), (watcher, _)) = (server.joined(1).await, server.joined(2).await);
    let mut witness = watcher.stream(Compression::Zstd).await.unwrap();
    let mut older = one.stream(Compression::Zstd).await.unwrap();
    let online = |map: &ModelClient| {
        map.peer(device.get())
            .and_then(|peer| peer.get("Online").cloned())
    };
    witness
        .until(|map| online(map) == Some(true.into()))
        .await
        .unwrap();
    let newer = one.stream(Compression::Zstd).await.unwrap();
    while older.next().await.unwrap().is_some() {}
    drop(older);
    drop(newer);
    witness
        .until(|map| online(map) == Some(false.into()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_read_only_stream_shows_the_map_and_changes_nothing() {
    let server = Server::start().await;
    let (client, device) = server.joined(1).await;
    let mut request = client.map_request(Compression::Zstd);
    request["ReadOnly"] = true.into();
    let connection = client.connect().await.unwrap();
    let mut frames = connection.map(&request).await.unwrap();
    let mut model = ModelClient::new(Rules::default());
    model
        .apply(&frames.next_decoded().await.unwrap().unwrap())
        .unwrap();
    assert!(model.node().is_some());
    server.engine.tick().await;
    let (_, entry) = server.engine.device(&server.admin, device).unwrap();
    assert!(!entry.live.online && !entry.device.seen && entry.live.disco_key.is_none());
}

#[tokio::test]
async fn a_map_is_for_the_machine_that_registered_the_node_key() {
    let server = Server::start().await;
    let (victim, _) = server.joined(1).await;
    let (thief, _) = server.joined(2).await;
    let connection = thief.connect().await.unwrap();
    for stream in [true, false] {
        let mut request = victim.map_request(Compression::Zstd);
        request["Stream"] = stream.into();
        let answer = connection
            .request(Method::POST, "/machine/map", request.to_string())
            .await
            .unwrap();
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    // An update of a node that nobody knows.
    let stranger = server.client(3);
    let request = stranger.update_request(&json!({}));
    let answer = stranger
        .connect()
        .await
        .unwrap()
        .request(Method::POST, "/machine/map", request.to_string())
        .await
        .unwrap();
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_single_map_is_one_message_and_the_end() {
    let server = Server::start().await;
    let ((client, _), _) = (server.joined(1).await, server.joined(2).await);
    let mut request = client.map_request(Compression::None);
    request["Stream"] = false.into();
    let connection = client.connect().await.unwrap();
    let mut frames = connection.map(&request).await.unwrap();
    let mut model = ModelClient::new(Rules::default());
    model
        .apply(&frames.next_decoded().await.unwrap().unwrap())
        .unwrap();
    assert_eq!(model.peer_count(), 1);
    assert!(frames.next().await.unwrap().is_none());
}

#[tokio::test]
async fn streams_end_when_the_server_does() {
    let server = Server::start().await;
    let (client, _) = server.joined(1).await;
    let mut stream = client.stream(Compression::Zstd).await.unwrap();
    server.engine.end_streams();
    while stream.next().await.unwrap().is_some() {}
    drop(stream);
    tokio::time::timeout(std::time::Duration::from_secs(10), server.control.closed())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_stream_of_a_replaced_node_key_says_nothing_of_the_new_one_and_ends() {
    let server = Server::start().await;
    let (old, device) = server.joined(1).await;
    let mut stream = old.stream(Compression::Zstd).await.unwrap();
    let new = old
        .clone()
        .with_identity(old.identity().with_node_key([0x55; 32]));
    let mut request = new.register_request();
    request["OldNodeKey"] = old.identity().node_key_text().into();
    request["Auth"] = json!({"AuthKey": server.key().await});
    new.register(&request).await.unwrap();
    // What happens meanwhile is for the new one.
    server
        .engine
        .rename_device(&server.admin, device, "renamed")
        .await
        .unwrap();
    let pause = std::time::Duration::from_millis(300);
    while let Ok(said) = tokio::time::timeout(pause, stream.next()).await {
        assert!(said.unwrap().is_some(), "it ended at once");
    }
    let newer = new.stream(Compression::Zstd).await.unwrap();
    assert_eq!(
        newer.map().node().unwrap()["Key"],
        new.identity().node_key_text()
    );
    assert!(stream.next().await.unwrap().is_none(), "it ends");
    let known = stream.map().node().unwrap();
    assert_eq!(known["Key"], old.identity().node_key_text());
    assert!(known["Name"].as_str().unwrap().starts_with("host1."));
}
