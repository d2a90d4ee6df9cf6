//! An issuer of workload tokens on loopback, with TLS and a name that only its client resolves.
#![allow(
    clippy::unwrap_used,
    reason = "it is for tests alone, which fail where something is not as it must be"
)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub use bowline_outbound::Client;
use bowline_outbound::{Addresses, Networks, Resolve, Roots};
use futures_util::future::BoxFuture;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

/// Where issuers have their discovery document.
pub const DISCOVERY: &str = "/.well-known/openid-configuration";
/// Where this one has its keys.
pub const KEYS: &str = "/keys";

/// What an issuer answers to a path.
#[derive(Debug, Clone)]
pub enum Answer {
    /// 200 and this body.
    Body(String),
    /// 302 to this URL.
    Redirect(String),
    /// Nothing, for as long as the client waits.
    Nothing,
}

/// A key that signs tokens.
pub struct SigningKey {
    id: String,
    key: EncodingKey,
    algorithm: Algorithm,
}

impl SigningKey {
    /// A new key for ES256.
    pub fn new(id: &str) -> Self {
        let pair = KeyPair::generate().unwrap();
        Self {
            id: id.to_owned(),
            key: EncodingKey::from_ec_der(&pair.serialize_der()),
            algorithm: Algorithm::ES256,
        }
    }

    /// The public key, as a document of keys lists it.
    pub fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.id.clone());
        serde_json::to_value(jwk).unwrap()
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = Some(self.id.clone());
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    /// Signs claims, and says in the header that another key did, or none.
    pub fn sign_as(&self, id: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = id.map(ToOwned::to_owned);
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

#[derive(Default)]
struct Served {
    answers: Mutex<HashMap<String, Answer>>,
    asked: Mutex<Vec<String>>,
    open: AtomicUsize,
}

/// An issuer; it ends with its value.
pub struct Issuer {
    url: String,
    authority: CertificateDer<'static>,
    served: Arc<Served>,
    task: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Resolves every name to addresses that a test sets.
#[derive(Debug, Clone)]
pub struct Names(Arc<Mutex<Vec<IpAddr>>>);

impl Default for Names {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(vec![Ipv4Addr::LOCALHOST.into()])))
    }
}

impl Names {
    /// From now on every name has this address.
    pub fn mean(&self, address: &str) {
        *self.0.lock().unwrap() = vec![address.parse().unwrap()];
    }
}

impl Resolve for Names {
    fn resolve(&self, _: String) -> BoxFuture<'static, Addresses> {
        let addresses = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(addresses) })
    }
}

impl Issuer {
    /// An issuer without keys.
    pub async fn start() -> Self {
        let (authority, acceptor) = certificate();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("https://issuer.example:{port}");
        let served = Arc::new(Served::default());
        let task = tokio::spawn(serve(listener, acceptor, served.clone()));
        let issuer = Self {
            url,
            authority,
            served,
            task,
        };
        let document =
            json!({"issuer": issuer.url(), "jwks_uri": format!("{}{KEYS}", issuer.url())});
        issuer.answer(DISCOVERY, Answer::Body(document.to_string()));
        issuer.publish(&[]);
        issuer
    }

    /// Its URL, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client that reaches it by its name, and no other address that is not public.
    pub fn client(&self) -> Client {
        client(&[self], Names::default())
    }

    /// Lists these keys, and no others.
    pub fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.jwk()).collect();
        self.answer(KEYS, Answer::Body(json!({"keys": keys}).to_string()));
    }

    /// From now on answers a path like this.
    pub fn answer(&self, path: &str, answer: Answer) {
        let mut answers = self.served.answers.lock().unwrap();
        answers.insert(path.to_owned(), answer);
    }

    /// The paths that were asked for.
    pub fn asked(&self) -> Vec<String> {
        self.served.asked.lock().unwrap().clone()
    }

    /// How often its keys were asked for.
    pub fn fetches(&self) -> usize {
        self.asked().iter().filter(|path| *path == KEYS).count()
    }

    /// Requests that wait for an answer.
    pub fn open(&self) -> usize {
        self.served.open.load(Ordering::SeqCst)
    }
}

/// A client that reaches these issuers by names that a test can change, and no other address that is
/// not public.
pub fn client(issuers: &[&Issuer], names: Names) -> Client {
    let mut roots = Roots::none();
    for issuer in issuers {
        roots.add(issuer.authority.clone()).unwrap();
    }
    let networks = Networks::public_and(["127.0.0.1/32".parse().unwrap()]);
    Client::with_resolver(networks, roots, names)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, served: Arc<Served>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, served) = (acceptor.clone(), served.clone());
        connections.spawn(async move {
            let mut stream = acceptor.accept(stream).await?;
            let mut head = Vec::new();
            while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                if stream.read_buf(&mut head).await? == 0 {
                    return Ok(());
                }
            }
            let head = String::from_utf8_lossy(&head).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            served.asked.lock().unwrap().push(path.clone());
            let answer = served.answers.lock().unwrap().get(&path).cloned();
            let text = match answer {
                Some(Answer::Body(body)) => format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
                Some(Answer::Redirect(url)) => {
                    format!("HTTP/1.1 302 Found\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n")
                }
                Some(Answer::Nothing) => {
                    served.open.fetch_add(1, Ordering::SeqCst);
                    // Until the client gives up.
                    let ended = stream.read_buf(&mut Vec::new()).await;
                    served.open.fetch_sub(1, Ordering::SeqCst);
                    ended?;
                    return Ok(());
                }
                None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await
        });
    }
}

/// An authority, and its certificate for the issuer's name.
fn certificate() -> (CertificateDer<'static>, TlsAcceptor) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = ["issuer.example".to_owned(), "other.example".to_owned()];
    let certificate = CertificateParams::new(names).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    (authority.der().clone(), TlsAcceptor::from(Arc::new(config)))
}
