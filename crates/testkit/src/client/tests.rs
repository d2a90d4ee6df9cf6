//! The client against a small responder that only knows the wire.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use bowline_control::noise::{NoiseStream, handshake, respond};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};

use super::*;

const SECRET: [u8; 32] = [0x51; 32];

type Reply = BoxBody<Bytes, Infallible>;

/// What the responder does; everything that tests change about it.
struct Script {
    early_payload: Option<&'static [u8]>,
    register: Value,
    /// The pieces of map streams, one receiver for each stream.
    streams: Mutex<Vec<mpsc::Receiver<Bytes>>>,
    /// The bodies of requests inside Noise.
    requests: mpsc::UnboundedSender<(String, Value)>,
}

struct Responder {
    url: String,
    requests: mpsc::UnboundedReceiver<(String, Value)>,
    script: Arc<Script>,
}

impl Responder {
    async fn start(early_payload: Option<&'static [u8]>, register: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        let streams = Mutex::default();
        let script = Arc::new(Script {
            early_payload,
            register,
            streams,
            requests: sender,
        });
        let served = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let script = Arc::clone(&served);
                let service = service_fn(move |request| {
                    let reply = outer(request, Arc::clone(&script));
                    async move { Ok::<_, Infallible>(reply) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades(),
                );
            }
        });
        Self {
            url,
            requests,
            script,
        }
    }

    async fn client(&self) -> Client {
        let server = Server::discover(&self.url).await.unwrap();
        Client::new(server, Identity::numbered(1), "laptop")
    }

    /// The next map stream gets these pieces and then ends, if `ends`.
    async fn stream(&self, pieces: impl IntoIterator<Item = Vec<u8>>) -> mpsc::Sender<Bytes> {
        let (sender, receiver) = mpsc::channel(64);
        for piece in pieces {
            sender.send(piece.into()).await.unwrap();
        }
        self.script.streams.lock().await.push(receiver);
        sender
    }
}

fn whole(status: StatusCode, body: impl Into<Bytes>) -> Response<Reply> {
    let mut response = Response::new(Full::new(body.into()).boxed());
    *response.status_mut() = status;
    response
}

fn outer(mut request: Request<Incoming>, script: Arc<Script>) -> Response<Reply> {
    use base64::Engine as _;
    if request.uri().path() == "/key" {
        let public = handshake::public_key(&SECRET).unwrap();
        let keys = json!({"publicKey": super::identity::text("mkey", &public), "legacyPublicKey": format!("mkey:{:064}", 0)});
        return whole(StatusCode::OK, keys.to_string());
    }
    let Some(initiation) = request.headers().get("x-tailscale-handshake") else {
        return whole(StatusCode::BAD_REQUEST, "no handshake");
    };
    let initiation = base64::engine::general_purpose::STANDARD
        .decode(initiation.as_bytes())
        .unwrap();
    let responded = respond(&SECRET, &initiation).unwrap();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut noise = NoiseStream::server(TokioIo::new(upgrade.await.unwrap()), responded);
        if let Some(json) = script.early_payload {
            let length = u32::try_from(json.len()).unwrap().to_be_bytes();
            let early = [&b"\xFF\xFF\xFFTS"[..], &length, json].concat();
            noise.write_all(&early).await.unwrap();
        }
        let service = service_fn(move |request| inner(request, Arc::clone(&script)));
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(noise), service)
            .await;
    });
    let mut response = whole(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.insert("upgrade", "tailscale-control-protocol".parse().unwrap());
    headers.insert("connection", "upgrade".parse().unwrap());
    response
}

async fn inner(
    request: Request<Incoming>,
    script: Arc<Script>,
) -> Result<Response<Reply>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let wants_stream = body["Stream"] == json!(true);
    script.requests.send((path.clone(), body)).unwrap();
    Ok(match path.as_str() {
        "/machine/register" => whole(StatusCode::OK, script.register.to_string()),
        "/machine/map" if wants_stream => match script.streams.lock().await.pop() {
            Some(pieces) => Response::new(Pieces(pieces).boxed()),
            None => whole(StatusCode::NOT_FOUND, "no such node"),
        },
        "/machine/map" => whole(StatusCode::OK, ""),
        _ => whole(StatusCode::NOT_IMPLEMENTED, "not here"),
    })
}

struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

fn accepted() -> Value {
    json!({"User": {"ID": 7, "DisplayName": "Ann"},
        "Login": {"ID": 7, "Provider": "", "LoginName": "ann@corp.example", "DisplayName": "Ann"},
        "NodeKeyExpired": false, "MachineAuthorized": true, "AuthURL": "", "Error": ""})
}

fn node(id: u64) -> Value {
    json!({"ID": id, "StableID": format!("n{id}"), "Name": format!("host-{id}.corp.example."),
        "User": 7, "Key": format!("nodekey:{id:064x}"), "Machine": format!("mkey:{id:064x}"),
        "Addresses": [format!("100.64.0.{id}/32"), format!("fd7a:115c:a1e0::{id:x}/128")],
        "Hostinfo": {"OS": "linux"}, "Online": true, "MachineAuthorized": true})
}

fn full_map() -> Value {
    json!({"Node": node(1), "Peers": [node(2)], "Domain": "corp.example", "DNSConfig": {},
        "DERPMap": {"Regions": {}}, "PacketFilters": {"base": []},
        "UserProfiles": [{"ID": 7, "LoginName": "ann@corp.example"}]})
}

fn message(compression: Compression, parts: &[&str]) -> Vec<u8> {
    let encode = |part: &&str| match compression {
        Compression::None => part.as_bytes().to_vec(),
        Compression::Zstd => zstd::encode_all(part.as_bytes(), 1).unwrap(),
    };
    let body: Vec<u8> = parts.iter().flat_map(encode).collect();
    [
        u32::try_from(body.len()).unwrap().to_le_bytes().to_vec(),
        body,
    ]
    .concat()
}

#[tokio::test]
async fn a_client_joins_with_an_auth_key() {
    let mut responder = Responder::start(Some(b"{}"), accepted()).await;
    let client = responder.client().await;
    let answer = client.join("tskey-auth-x").await.unwrap();
    assert_eq!(answer["Login"]["LoginName"], "ann@corp.example");
    let (path, request) = responder.requests.recv().await.unwrap();
    assert_eq!(path, "/machine/register");
    assert_eq!(request["Auth"]["AuthKey"], "tskey-auth-x");
    assert_eq!(request["NodeKey"], client.identity().node_key_text());
    assert_eq!(request["Hostinfo"]["Hostname"], "laptop");
}

#[tokio::test]
async fn a_refusal_reaches_the_caller_as_its_text() {
    let mut refused = accepted();
    refused["Error"] = json!("auth key expired");
    let responder = Responder::start(None, refused).await;
    let error = responder
        .client()
        .await
        .join("tskey-auth-x")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("auth key expired"), "{error}");
}

#[tokio::test]
async fn an_answer_that_lacks_a_field_is_not_taken() {
    let mut partial = accepted();
    partial.as_object_mut().unwrap().remove("MachineAuthorized");
    let responder = Responder::start(None, partial).await;
    responder
        .client()
        .await
        .join("tskey-auth-x")
        .await
        .unwrap_err();
}

#[tokio::test]
async fn a_stream_is_followed_with_and_without_compression_and_early_payload() {
    for (compression, early) in [
        (Compression::Zstd, None),
        (
            Compression::None,
            Some(b"{\"nodeKeyChallenge\":\"\"}".as_slice()),
        ),
    ] {
        let mut responder = Responder::start(early, accepted()).await;
        let full = full_map().to_string();
        let (start, end) = full.split_at(full.len() / 2);
        let mut first = message(compression, &[start, end]);
        let second = first.split_off(first.len() / 3);
        let sender = responder.stream([first, second]).await;
        let client = responder.client().await;
        let mut stream = client.stream(compression).await.unwrap();
        assert_eq!(stream.map().peer_count(), 1);
        assert_eq!(stream.connection().early_payload(), early);

        let delta = json!({"PeersChanged": [node(3)]}).to_string();
        sender
            .send(message(compression, &[&delta]).into())
            .await
            .unwrap();
        sender
            .send(message(compression, &[r#"{"KeepAlive": true}"#]).into())
            .await
            .unwrap();
        stream
            .until(|map| map.peer(3).is_some() && map.keep_alives() == 1)
            .await
            .unwrap();
        drop(sender);
        assert!(stream.next().await.unwrap().is_none());
        let (_, request) = responder.requests.recv().await.unwrap();
        assert_eq!(request["Compress"], compression.name());
    }
}

#[tokio::test]
async fn a_message_that_no_client_takes_fails_the_stream() {
    let responder = Responder::start(None, accepted()).await;
    let delta = message(Compression::Zstd, &[r#"{"OnlineChange":{"2":true}}"#]);
    let _sender = responder.stream([delta]).await;
    let error = responder
        .client()
        .await
        .stream(Compression::Zstd)
        .await
        .unwrap_err();
    let violation: &bowline_modelclient::ProtocolViolation = error.downcast_ref().unwrap();
    assert_eq!(violation.rule, bowline_modelclient::Rule::FirstWithoutNode);
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_message_is_an_error() {
    let responder = Responder::start(None, accepted()).await;
    let full = message(Compression::Zstd, &[&full_map().to_string()]);
    drop(responder.stream([full, vec![9, 0, 0, 0, 1]]).await);
    let mut stream = responder
        .client()
        .await
        .stream(Compression::Zstd)
        .await
        .unwrap();
    stream.next().await.unwrap_err();
}

#[tokio::test]
async fn a_refused_stream_tells_the_status() {
    let responder = Responder::start(None, accepted()).await;
    let error = responder
        .client()
        .await
        .stream(Compression::Zstd)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("404"), "{error}");
}

#[tokio::test]
async fn updates_and_other_requests_go_beside_the_stream() {
    let mut responder = Responder::start(None, accepted()).await;
    let full = message(Compression::Zstd, &[&full_map().to_string()]);
    let _sender = responder.stream([full]).await;
    let client = responder.client().await;
    let stream = client.stream(Compression::Zstd).await.unwrap();
    responder.requests.recv().await.unwrap();
    let update = client.update_request(&json!({"Endpoints": ["192.0.2.1:41641"]}));
    stream.connection().update(&update).await.unwrap();
    let (_, request) = responder.requests.recv().await.unwrap();
    assert_eq!(request["OmitPeers"], true);
    assert_eq!(request["Endpoints"], json!(["192.0.2.1:41641"]));
    let answer = stream
        .connection()
        .request(http::Method::POST, "/machine/other", "{}")
        .await
        .unwrap();
    assert_eq!(answer.status, StatusCode::NOT_IMPLEMENTED);
}
