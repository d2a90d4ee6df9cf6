//! A server with one tailnet.

use std::convert::Infallible;
use std::time::Duration;

use bowline_admission::{Admission, Listener};
use bowline_control::{Config, Control, Liveness};
use bowline_engine::{Actor, Engine, Settings};
use bowline_model::id::DeviceId;
use bowline_netmap::{DerpMap, Region, Relay};
use bowline_store::{Options, Sealer};
use bowline_testkit::client::{Client, Identity, Server as Address};
use bowline_testkit::clock::TestClock;
use bowline_testkit::net::Net;
use http::{Method, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) control: Control,
    pub(crate) admin: Actor,
    pub(crate) address: Address,
    net: Net,
}

fn derp_map() -> DerpMap {
    let relay = Relay {
        name: "900a".to_owned(),
        region_id: 900,
        host_name: "relay.example.com".to_owned(),
        cert_name: String::new(),
        ipv4: String::new(),
        ipv6: String::new(),
        stun_port: 0,
        derp_port: 0,
        insecure_for_tests: false,
        ..Relay::default()
    };
    let region = Region {
        id: 900,
        code: "own".to_owned(),
        name: "Own".to_owned(),
        nodes: vec![relay],
        ..Region::default()
    };
    DerpMap {
        omit_default_regions: true,
        regions: [(900, region)].into(),
    }
}

pub(crate) fn config() -> Config {
    Config {
        noise_secret: zeroize::Zeroizing::new([0x51; 32]),
        url: "http://bowline.example.com".to_owned(),
        log_upload: false,
        body_limit: 1024 * 1024,
        registrations_per_second: 0.0,
        liveness: Liveness::default(),
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(config()).await
    }

    pub(crate) async fn with(config: Config) -> Self {
        Self::behind(Admission::unlimited(), config).await
    }

    pub(crate) async fn behind(admission: Admission, config: Config) -> Self {
        let settings = Settings {
            derp_map: derp_map(),
            offline_grace: Duration::from_millis(50),
            url: config.url.clone(),
            sealer: Some(Sealer::new(&[7; 32]).unwrap()),
            ..Settings::default()
        };
        let net = Net::with(settings, Options::default()).await;
        let (engine, admin) = (net.engine.clone(), net.admin.clone());
        let control = Control::new(engine.clone(), config).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(listen(listener, admission, control.clone()));
        let address = Address::discover(&url).await.unwrap();
        Self {
            engine,
            control,
            admin,
            address,
            net,
        }
    }

    /// `host:port`
    pub(crate) fn authority(&self) -> &str {
        self.address.authority()
    }

    /// The public half of the server's Noise key.
    pub(crate) fn control_key() -> [u8; 32] {
        bowline_control::noise::handshake::public_key(&config().noise_secret).unwrap()
    }

    /// As [`Server::client`], in a browser.
    pub(crate) fn browser(&self, number: u64) -> Client {
        Client::new(
            self.address.clone().as_browser(),
            Identity::numbered(number),
            &format!("browser{number}"),
        )
    }

    pub(crate) fn client(&self, number: u64) -> Client {
        Client::new(
            self.address.clone(),
            Identity::numbered(number),
            &format!("host{number}"),
        )
    }

    /// Puts a policy into force.
    pub(crate) async fn set_policy(&self, text: &str) {
        self.net.set_policy(text).await;
    }

    /// The clock of the engine.
    pub(crate) fn clock(&self) -> &TestClock {
        &self.net.clock
    }

    pub(crate) async fn key(&self) -> String {
        self.net.reusable().await
    }

    /// A client that has joined, and its device.
    pub(crate) async fn joined(&self, number: u64) -> (Client, DeviceId) {
        let client = self.client(number);
        client.join(&self.key().await).await.unwrap();
        let node_key = client.identity().node_key_text().parse().unwrap();
        let device = self.engine.find_device(&node_key).unwrap().2.device.id;
        (client, device)
    }
}

async fn listen(listener: TcpListener, admission: Admission, control: Control) {
    while let Ok((stream, peer)) = listener.accept().await {
        let ticket = admission
            .admit(Listener::Main, peer.ip(), false, None)
            .unwrap();
        let (control, ending) = (control.clone(), ticket.clone());
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (control, ticket) = (control.clone(), ticket.clone());
            async move {
                let _busy = ticket.busy();
                Ok::<_, Infallible>(match (request.method(), request.uri().path()) {
                    (&Method::GET, "/key") => control.key(),
                    (_, "/ts2021") => control.upgrade(request, peer.ip(), ticket).await,
                    _ => {
                        let mut answer = control.key();
                        *answer.status_mut() = StatusCode::NOT_FOUND;
                        answer
                    }
                })
            }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        tokio::spawn(async move {
            tokio::select! {
                _ = connection => {}
                () = ending.ended() => {}
            }
        });
    }
}
