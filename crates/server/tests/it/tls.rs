//! TLS on the listeners for clients and on the relay, and certificates that change.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bowline_testkit::client::{Client, Compression, Identity, Server};
use http::Method;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::home::{Home, Serving, patiently};

fn issued() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap()
}

/// Puts a pair where the settings say.
fn put(home: &Home, issued: &CertifiedKey<KeyPair>) {
    home.file("certificate.pem", &issued.cert.pem());
    home.file("key.pem", &issued.signing_key.serialize_pem());
}

/// A server with TLS, and further settings.
async fn serve(home: &Home, issued: &CertifiedKey<KeyPair>, more: &str) -> Serving {
    put(home, issued);
    let text =
        format!("tls_certificate_file = \"certificate.pem\"\ntls_key_file = \"key.pem\"\n{more}");
    let settings = home.file("tls.toml", &text);
    let config = format!("--config={}", settings.display());
    home.serve_with(&[&config]).await
}

/// TLS as a client makes it that trusts this certificate alone.
async fn connect(
    address: &str,
    trusted: &CertificateDer<'static>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let address: SocketAddr = address.parse().unwrap();
    let name = ServerName::from(address.ip());
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

/// A listener from which bytes go on to the server through TLS, for clients that know none.
async fn tunnel(address: &str, trusted: &CertificateDer<'static>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (address, trusted) = (address.to_owned(), trusted.clone());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let (address, trusted) = (address.clone(), trusted.clone());
            tokio::spawn(async move {
                let Ok(mut far) = connect(&address, &trusted).await else {
                    return;
                };
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    });
    Server::discover(&url).await.unwrap()
}

async fn auth_key(home: &Home) -> String {
    let key = home.prints_json(&["key", "create", "--reusable"]).await;
    key["key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn clients_join_through_tls_and_through_a_websocket_in_it() {
    let (home, issued) = (Home::new(), issued());
    let serving = serve(&home, &issued, "api_listen = \"127.0.0.1:0\"\n").await;
    let address = serving.authority().to_owned();
    assert_eq!(serving.greeting["url"], format!("https://{address}"));
    let stream = connect(&address, issued.cert.der()).await.unwrap();
    let (_, session) = stream.get_ref();
    assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));

    let server = tunnel(&address, issued.cert.der()).await;
    let key = auth_key(&home).await;
    let laptop = Client::new(server.clone(), Identity::numbered(1), "laptop");
    laptop.join(&key).await.unwrap();
    let mut stream = laptop.stream(Compression::Zstd).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let browser = Client::new(server.as_browser(), Identity::numbered(2), "browser");
    browser.join(&key).await.unwrap();
    stream.until(|map| map.peers().count() == 1).await.unwrap();

    // The listener of the API has the same certificate, and so has the relay, by default.
    for listener in ["apiListen", "derpListen"] {
        let address = serving.greeting[listener].as_str().unwrap();
        let stream = connect(address, issued.cert.der()).await.unwrap();
        let (_, session) = stream.get_ref();
        assert_eq!(
            session.peer_certificates().unwrap()[0],
            *issued.cert.der(),
            "{listener}"
        );
    }
    // Whoever speaks plain HTTP is let go.
    let plain = Server::with_key(&address, [0; 32]);
    assert!(
        plain
            .request(Method::GET, "/health", &[], "")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_certificate_is_replaced_while_clients_stay_connected() {
    let (home, old, new) = (Home::new(), issued(), issued());
    let serving = serve(&home, &old, "").await;
    let address = serving.authority().to_owned();
    let server = tunnel(&address, old.cert.der()).await;
    let key = auth_key(&home).await;
    let laptop = Client::new(server.clone(), Identity::numbered(1), "laptop");
    laptop.join(&key).await.unwrap();
    let mut stream = laptop.stream(Compression::Zstd).await.unwrap();
    stream.next().await.unwrap().unwrap();
    let expires = "bowline_tls_certificate_expires_timestamp_seconds{listener=\"main\"} ";
    assert!(serving.metrics().await.contains(expires));

    // A pair that does not fit: the one before stays, and a metric says so.
    home.file("certificate.pem", &new.cert.pem());
    serving.signal(Signal::HUP);
    let refused = "bowline_tls_certificate_refused{listener=\"main\"} 1";
    until(async || serving.metrics().await.contains(refused)).await;
    connect(&address, old.cert.der()).await.unwrap();

    put(&home, &new);
    serving.signal(Signal::HUP);
    until(async || connect(&address, new.cert.der()).await.is_ok()).await;
    assert!(connect(&address, old.cert.der()).await.is_err());
    let relay = serving.greeting["derpListen"].as_str().unwrap();
    until(async || connect(relay, new.cert.der()).await.is_ok()).await;
    let replaced = "bowline_tls_certificates_replaced_total{listener=\"main\"} 1";
    let metrics = serving.metrics().await;
    assert!(
        metrics.contains(replaced) && !metrics.contains(refused),
        "{metrics}"
    );

    // A client that was connected is told of a device that comes by the new certificate.
    let server = tunnel(&address, new.cert.der()).await;
    let other = Client::new(server, Identity::numbered(2), "other");
    other.join(&key).await.unwrap();
    patiently(stream.until(|map| map.peers().count() == 1))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_replaced_certificate_is_seen_without_a_signal() {
    let (home, old, new) = (Home::new(), issued(), issued());
    let serving = serve(&home, &old, "").await;
    put(&home, &new);
    until(async || connect(serving.authority(), new.cert.der()).await.is_ok()).await;
}

#[tokio::test]
async fn who_is_silent_in_the_handshake_holds_up_nobody_and_is_let_go() {
    let (home, issued) = (Home::new(), issued());
    let serving = serve(&home, &issued, "[limits]\nhandshake_seconds = 2\n").await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(serving.authority()).await.unwrap());
    }
    let began = std::time::Instant::now();
    connect(serving.authority(), issued.cert.der())
        .await
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
    for mut stream in silent {
        // The server's end: nothing, or an alert.
        let mut rest = Vec::new();
        let _ = patiently(stream.read_to_end(&mut rest)).await;
    }
}

#[tokio::test]
async fn a_server_whose_certificate_cannot_be_used_does_not_start() {
    let (home, issued, other) = (Home::new(), issued(), issued());
    put(&home, &issued);
    home.file("key.pem", &other.signing_key.serialize_pem());
    let text = "tls_certificate_file = \"certificate.pem\"\ntls_key_file = \"key.pem\"\n";
    let settings = home.file("tls.toml", text);
    let config = format!("--config={}", settings.display());
    let told = home.refuses(&Home::serve_args(&[&config])).await;
    assert!(
        told.starts_with("bowline: cannot use the server's certificate\n"),
        "{told}"
    );
    assert!(
        told.contains("certificate and key do not fit each other"),
        "{told}"
    );
}

/// Waits until it is so.
async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    patiently(waiting).await;
}
