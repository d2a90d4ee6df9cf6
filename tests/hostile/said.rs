//! A device that was let in says what no client would, as much as it can and as often as it can.

use std::time::{Duration, Instant};

use bowline_testkit::client::{Client, Compression, FollowedStream, Identity, Server};
use http::Method;
use serde_json::{Value, json};

use crate::harness::{BYSTANDER, Site, call};
use crate::home::patiently;

/// A device of the attacker, which says what it is told to.
struct Hostile {
    device: Client,
    auth_key: String,
}

impl Hostile {
    async fn of(site: &Site) -> Self {
        let server = site.as_attacker().await;
        Self {
            device: Client::new(server, Identity::numbered(66), "said"),
            auth_key: site.attacked.auth_key.clone(),
        }
    }

    /// Its answer to a registration with this in place of what an honest client says.
    async fn registers(&self, with: Value) -> anyhow::Result<Value> {
        let mut request = self.device.register_request();
        request["Auth"] = json!({"AuthKey": self.auth_key});
        replace(&mut request, with);
        self.device.connect().await?.register(&request).await
    }

    /// A report with this in it.
    async fn reports(&self, with: Value) -> anyhow::Result<()> {
        patiently(self.device.update(&with)).await
    }
}

fn replace(request: &mut Value, with: Value) {
    let Value::Object(with) = with else {
        panic!("not an object: {with}");
    };
    for (name, value) in with {
        request[name] = value;
    }
}

/// An honest peer of the attacker's own tailnet, whose messages are read as strictly as clients do.
async fn victim(site: &Site, number: u64) -> (Client, FollowedStream) {
    let server = site.serving.server().await.from_source(BYSTANDER);
    let device = Client::new(server, Identity::numbered(number), "victim");
    patiently(device.join(&site.attacked.auth_key))
        .await
        .unwrap();
    let stream = patiently(device.stream(Compression::Zstd)).await.unwrap();
    (device, stream)
}

/// Something that every device of the attacked tailnet is told of.
async fn tell_everybody(site: &Site, server: &Server, domain: &str) {
    let path = "/api/v2/tailnet/-/dns/searchpaths";
    let body = json!({"searchPaths": [domain]});
    call(server, Method::POST, path, &site.attacked.token, body)
        .await
        .unwrap();
}

async fn is_told(stream: &mut FollowedStream, domain: &str) {
    let told = stream.until(|map| map.state()["DNSConfig"].to_string().contains(domain));
    patiently(told).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_device_says_costs_no_peer_its_map() {
    let site = Site::start(&[]).await;
    let bystander = site.bystander().await;
    let server = site.serving.server().await;
    let hostile = Hostile::of(&site).await;
    let (device, mut stream) = victim(&site, 1).await;
    let mut said = vec![
        json!({"Hostname": "evil", "OS": 5}),
        json!({"Hostname": "evil", "Services": [{"Proto": "peerapi4", "Port": 70000}]}),
        json!({"Hostname": "evil", "Services": [{"Proto": "peerapi4", "Port": "1"}]}),
        json!({"Hostname": "evil", "sshHostKeys": {"a": 1}}),
        json!({"Hostname": "evil", "ShareeNode": "yes"}),
        json!({"Hostname": "evil", "NetInfo": {"PreferredDERP": u32::MAX}}),
    ];
    for odd in [json!(5), json!([1]), json!({"Priority": 1e300}), json!("x")] {
        said.push(json!({"Hostname": "evil", "Location": odd, "AppConnector": odd}));
    }
    let answer = patiently(hostile.registers(json!({"Hostinfo": said[0]})))
        .await
        .unwrap();
    assert_eq!(answer["Error"], "");
    for (number, hostinfo) in said.iter().enumerate() {
        hostile
            .reports(json!({"Hostinfo": hostinfo}))
            .await
            .unwrap();
        let domain = format!("after{number}.example");
        tell_everybody(&site, &server, &domain).await;
        is_told(&mut stream, &domain).await;
        assert_eq!(stream.map().peer_count(), 1);
        // A client that starts again gets its whole map.
        drop(patiently(device.stream(Compression::None)).await.unwrap());
        stream = patiently(device.stream(Compression::Zstd)).await.unwrap();
    }
    bystander.assert_served().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_says_much_and_often_costs_its_peers_little() {
    let site = Site::start(&[]).await;
    let bystander = site.bystander().await;
    let server = site.serving.server().await;
    let hostile = Hostile::of(&site).await;
    let (_, mut stream) = victim(&site, 1).await;
    patiently(hostile.registers(json!({}))).await.unwrap();
    is_peer(&mut stream, "said").await;
    let received = tokio::spawn(async move {
        let mut bytes = 0;
        while let Some(message) = stream.next().await.unwrap() {
            bytes += message.len();
            if stream.map().state()["DNSConfig"]
                .to_string()
                .contains("end.example")
            {
                break;
            }
        }
        (bytes, stream)
    });
    // As much as a report may have, another one each time, as fast as they are answered.
    let began = Instant::now();
    let mut sent = 0;
    for number in 0..400_u32 {
        let keys: Vec<String> = (0..14)
            .map(|key| format!("ssh-rsa {number}{key}{}", "A".repeat(3900)))
            .collect();
        let hostinfo =
            json!({"Hostname": format!("evil{number}"), "OS": "linux", "sshHostKeys": keys});
        hostile
            .reports(json!({"Hostinfo": hostinfo}))
            .await
            .unwrap();
        sent += hostinfo.to_string().len();
        if began.elapsed() > Duration::from_secs(20) {
            break;
        }
    }
    // Too much at once: none of it is taken, and the request is answered.
    let large = json!({"Hostname": "large", "sshHostKeys": ["A".repeat(3_900_000)]});
    let _ = hostile.reports(json!({"Hostinfo": large})).await;
    tell_everybody(&site, &server, "end.example").await;
    let (bytes, mut stream) = patiently(received).await.unwrap();
    let changes = 30 + began.elapsed().as_secs() / 5 + 2;
    let most = usize::try_from(changes).unwrap() * 10 * 1024;
    assert!(sent > 10 * bytes, "{sent} bytes sent, {bytes} came through");
    assert!(bytes < most, "{bytes} bytes for {changes} changes");
    // What it said last comes through at last.
    let newest = json!({"Hostname": "newest", "OS": "linux"});
    hostile.reports(json!({"Hostinfo": newest})).await.unwrap();
    is_peer(&mut stream, "newest").await;
    bystander.assert_served().await;
}

/// The devices of the attacker's tailnet, as its owner sees them.
async fn devices(site: &Site) -> Value {
    let (server, token) = (site.serving.server().await, &site.attacked.token);
    let path = "/api/v2/tailnet/-/devices";
    let shown = call(&server, Method::GET, path, token, Value::Null);
    shown.await.unwrap()["devices"].clone()
}

/// Waits until a peer has this host name, for as long as a report may be held.
async fn is_peer(stream: &mut FollowedStream, name: &str) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while stream
        .until(|map| {
            let mut peers = map.peers();
            peers.any(|(_, peer)| peer["Hostinfo"]["Hostname"] == name)
        })
        .await
        .is_err()
    {
        assert!(Instant::now() < deadline, "no peer {name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_quotes_little_and_forges_no_line() {
    let site = Site::start(&["--log-format=text"]).await;
    let bystander = site.bystander().await;
    let hostile = Hostile::of(&site).await;
    let forged = "tag:a\n2026-01-01T00:00:00Z ERROR forged\u{1b}[31m\u{202e}";
    let many: Vec<String> = (0..200).map(|n| format!("{forged}{n}")).collect();
    for tags in [
        vec![forged.to_owned()],
        many,
        vec!["tag:x".to_owned(); 5000],
    ] {
        let hostinfo = json!({"Hostname": "evil", "OS": "linux", "RequestTags": tags});
        let answer = patiently(hostile.registers(json!({"Hostinfo": hostinfo})))
            .await
            .unwrap();
        let error = answer["Error"].as_str().unwrap();
        assert!(!error.is_empty() && error.chars().count() <= 501, "{error}");
        assert!(
            !error.contains(['\n', '\u{1b}', '\u{202e}', '\\', '"']),
            "{error:?}"
        );
    }
    assert_eq!(devices(&site).await, json!([]));
    bystander.assert_served().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_means_none_is_no_device() {
    let site = Site::start(&[]).await;
    let bystander = site.bystander().await;
    let hostile = Hostile::of(&site).await;
    let zero = "0".repeat(64);
    for with in [
        json!({"NodeKey": format!("nodekey:{zero}")}),
        json!({"NodeKey": ""}),
        json!({"NLKey": "x"}),
        json!({"NLKey": format!("nlpub:{}", "g".repeat(64))}),
    ] {
        let refused = patiently(hostile.registers(with.clone())).await;
        assert!(refused.is_err(), "{with}: {refused:?}");
    }
    // Where none may be meant, none it is.
    let answer = patiently(hostile.registers(json!({
        "OldNodeKey": format!("nodekey:{zero}"), "NLKey": format!("nlpub:{zero}"),
    })));
    assert_eq!(answer.await.unwrap()["Error"], "");
    hostile
        .reports(json!({"DiscoKey": format!("discokey:{zero}")}))
        .await
        .unwrap();
    let devices = devices(&site).await;
    assert_eq!(devices.as_array().unwrap().len(), 1);
    assert_eq!(devices[0]["tailnetLockKey"], "");
    bystander.assert_served().await;
}
