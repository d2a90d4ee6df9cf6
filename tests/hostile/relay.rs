//! A device of one tailnet, which knows the node key of a device of another, tries to reach it
//! through the relay, to push its packets out of its queue, and to learn whether it is connected.

use bowline_derp::client::{self, Event, Options};
use bowline_derp::frame::PeerGoneReason;
use bowline_derp::{NodeKey, SecretKey};
use bowline_testkit::client::{Client, Identity, Server};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::harness::{Site, Tailnet, call};
use crate::home::{Home, patiently};

type Relayed = client::Client<TokioIo<Upgraded>>;

struct Node {
    key: NodeKey,
    relayed: Relayed,
}

/// A device that joins and connects to the relay, which a proxy would end TLS for.
async fn node(site: &Site, server: Server, tailnet: &Tailnet, number: u8) -> Node {
    let secret = SecretKey::from_bytes([number; 32]);
    let key = secret.public();
    let identity = Identity::numbered(u64::from(number)).with_node_key(*key.as_bytes());
    let device = Client::new(server, identity, &format!("relayed{number}"));
    patiently(device.join(&tailnet.auth_key)).await.unwrap();
    let relayed = connect(site, &secret).await.unwrap();
    Node { key, relayed }
}

async fn connect(site: &Site, secret: &SecretKey) -> Result<Relayed, client::Error> {
    let address = site.serving.greeting["derpListen"].as_str().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let upgraded = patiently(client::upgrade(stream, address)).await?;
    patiently(client::connect(upgraded, secret, &Options::default())).await
}

impl Node {
    async fn send(&mut self, to: &NodeKey, packet: &[u8]) {
        patiently(self.relayed.send(to, packet)).await.unwrap();
    }

    /// What came until the relay has dealt with all that this node sent.
    async fn events(&mut self) -> Vec<Event> {
        let mark = *b"hostile.";
        patiently(self.relayed.writer().ping(mark)).await.unwrap();
        let mut events = Vec::new();
        loop {
            match patiently(self.relayed.recv()).await.unwrap() {
                Event::Pong(data) if data == mark => return events,
                Event::KeepAlive => {}
                event => events.push(event),
            }
        }
    }
}

fn disco() -> Vec<u8> {
    let mut packet = b"TS\xf0\x9f\x92\xac".to_vec();
    packet.resize(62, 7);
    packet
}

#[tokio::test]
async fn the_relay_is_a_wall_between_tailnets() {
    let settings = Home::new();
    let file = settings.file("relay.toml", "[derp]\ntls = \"proxy-plain\"\n");
    let site = Site::start(&[&format!("--config={}", file.display())]).await;
    let bystander = site.bystander().await;
    let honest = site.serving.server().await;
    let mut attacker = node(&site, site.as_attacker().await, &site.attacked, 1).await;
    let mut victim = node(&site, honest.clone(), &site.other, 2).await;
    let mut friend = node(&site, honest, &site.other, 3).await;

    // A device that is connected looks exactly like one that was never there.
    let nobody = SecretKey::from_bytes([99; 32]).public();
    for (number, to) in [victim.key, nobody].into_iter().enumerate() {
        for _ in 0..200 {
            attacker.send(&to, &[0; 1000]).await;
        }
        attacker.send(&to, &disco()).await;
        let told = attacker.events().await;
        let gone = Event::PeerGone {
            peer: to,
            reason: PeerGoneReason::NOT_HERE,
        };
        assert_eq!(told, [gone], "{number}");
    }
    assert_eq!(victim.events().await, [], "nothing crossed");
    // Those who belong together reach each other meanwhile.
    for number in 0..50_u8 {
        friend.send(&victim.key, &[number]).await;
        let packet = patiently(victim.relayed.recv()).await.unwrap();
        let Event::Packet { source, packet } = packet else {
            panic!("{packet:?}");
        };
        assert_eq!((source, &packet[..]), (friend.key, &[number][..]));
    }
    bystander.rounds(3).await;
    bystander.assert_served().await;
}

#[tokio::test]
async fn devices_that_are_deleted_in_a_batch_lose_the_relay_all_of_them() {
    let settings = Home::new();
    let file = settings.file("relay.toml", "[derp]\ntls = \"proxy-plain\"\n");
    let site = Site::start(&[&format!("--config={}", file.display())]).await;
    let bystander = site.bystander().await;
    let server = site.as_attacker().await;
    let mut nodes = Vec::new();
    for number in 10..30 {
        nodes.push(node(&site, server.clone(), &site.attacked, number).await);
    }
    let devices = "/api/v2/tailnet/-/devices";
    let token = &site.attacked.token;
    let listed = call(
        &server,
        http::Method::GET,
        devices,
        token,
        serde_json::Value::Null,
    )
    .await;
    for device in listed.unwrap()["devices"].as_array().unwrap() {
        let path = format!("/api/v2/device/{}", device["id"].as_str().unwrap());
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let deleted = server
            .request(http::Method::DELETE, &path, &headers, "")
            .await;
        assert_eq!(deleted.unwrap().status, 200);
    }
    for (number, node) in nodes.iter_mut().enumerate() {
        let ended = async { while node.relayed.recv().await.is_ok() {} };
        patiently(ended).await;
        let secret = SecretKey::from_bytes([u8::try_from(number).unwrap() + 10; 32]);
        assert!(connect(&site, &secret).await.is_err(), "{number} came back");
    }
    bystander.rounds(3).await;
    bystander.assert_served().await;
}
