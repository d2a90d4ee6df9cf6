//! A server under test: two tailnets, a clock that is moved, and a check of every answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::workload::SHARED;
use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_api::{ApiOptions, Operation, operations, router};
use bowline_engine::{Engine, Registered, Registration, Settings, Webhooks};
use bowline_model::audit::AuditEvent;
use bowline_model::device::HostFacts;
use bowline_model::id::{DeviceId, TailnetId, UserId};
use bowline_model::key::{MachineKey, NodeKey};
use bowline_model::record::{self, RawJson};
use bowline_netmap::full::full;
use bowline_netmap::viewer::Viewer;
use bowline_store::{Fault, Options, Point, Store};
use bowline_testkit::clock::{TestClock, TestRandom};
use bowline_testkit::post::Post;
use bowline_wire::map_request::Encoding;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::schema;

/// One tailnet of the server.
pub(crate) struct Tailnet {
    pub(crate) id: TailnetId,
    pub(crate) name: String,
    pub(crate) owner: UserId,
    /// API access token of the owner.
    pub(crate) token: String,
}

/// The server.
pub(crate) struct Server {
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<TestClock>,
    /// `example.com`.
    pub(crate) tailnet: Tailnet,
    /// `other.org`.
    pub(crate) other: Tailnet,
    pub(crate) directory: TempDir,
    /// While set, every commit finds the disk full.
    pub(crate) disk_is_full: Arc<AtomicBool>,
    router: Router,
    operator: Router,
    keys: AtomicU64,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The JSON of a 200.
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    /// The message of a failure with this status.
    pub(crate) fn message(&self, status: u16) -> String {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        let body = self.json();
        let mut keys = body.as_object().unwrap().keys();
        // Where an access token was asked for, also what RFC 6749 calls them.
        let known = ["message", "data", "error", "error_description"];
        assert!(keys.all(|key| known.contains(&&**key)), "{body}");
        body["message"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

pub(crate) fn basic(token: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{token}:")))
}

/// The operation that a request addresses.
pub(crate) fn operation_of(method: &str, path: &str) -> Option<Operation> {
    let path = path.strip_prefix("/api/v2")?.split('?').next()?;
    // Doubled slashes and the last one say nothing.
    let segments = path.split('/').filter(|segment| !segment.is_empty());
    let path = format!("/{}", segments.collect::<Vec<_>>().join("/"));
    operations().find(|operation| {
        let (mut declared, mut own) = (operation.path.split('/'), path.split('/'));
        operation.verb.as_str() == method
            && loop {
                match (declared.next(), own.next()) {
                    (None, None) => break true,
                    (Some(name), Some(_)) if name.starts_with('{') => {}
                    (Some(name), Some(own)) if name == own => {}
                    _ => break false,
                }
            }
    })
}

impl Server {
    pub(crate) async fn start() -> Self {
        let quick = bowline_testkit::net::quick();
        let settings = Settings {
            sealer: quick.sealer,
            webhooks: Webhooks {
                // Nothing is delivered: what a request changes is looked at here, and nothing else
                // may change anything meanwhile.
                courier: Some(Arc::new(Post::silent())),
                ..Webhooks::default()
            },
            ..Settings::default()
        };
        Self::start_with(settings).await
    }

    pub(crate) async fn start_with(settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let disk_is_full = Arc::new(AtomicBool::new(false));
        let full = disk_is_full.clone();
        let options = Options {
            connections: 1,
            hook: Some(Arc::new(move |point| {
                (point == Point::BeforeCommit && full.load(Ordering::SeqCst)).then_some(Fault::Full)
            })),
            ..Options::default()
        };
        let url = directory.path().join("bowline.db").as_path().into();
        let store = Store::open(&url, options).await.unwrap();
        let start = "2026-03-01T12:00:00Z".parse().unwrap();
        let clock = Arc::new(TestClock::at(start));
        let random = Arc::new(TestRandom::default());
        let settings = Settings {
            outbound: SHARED.client(),
            url: "https://bowline.example.com".to_owned(),
            ..settings
        };
        let engine = Engine::open(store, settings, clock.clone(), random)
            .await
            .unwrap();
        let tailnet = make(&engine, "ann@example.com", "example.com").await;
        let other = make(&engine, "olga@other.org", "other.org").await;
        let operator = ApiOptions {
            operator: true,
            ..ApiOptions::default()
        };
        Self {
            router: router(engine.clone(), ApiOptions::default()),
            operator: router(engine.clone(), operator),
            engine,
            clock,
            tailnet,
            other,
            directory,
            disk_is_full,
            keys: AtomicU64::new(1),
        }
    }

    /// Moves the clock, and does what falls due.
    pub(crate) async fn advance(&self, seconds: i64) {
        self.clock.pass(SignedDuration::from_secs(seconds));
        self.engine.tick().await;
        self.engine.run_jobs().await;
    }

    /// Sets the wall clock so far away from the time that has passed, and lets it be looked at.
    pub(crate) async fn set_clock_away(&self, by: SignedDuration) {
        self.clock.set_away(by);
        self.engine.tick().await;
    }

    /// What every change moves.
    pub(crate) async fn state(&self) -> Vec<(TailnetId, u64)> {
        self.engine.store().tailnets().await.unwrap()
    }

    pub(crate) async fn audit(&self, tailnet: TailnetId) -> Vec<AuditEvent> {
        let (from, to) = (Timestamp::UNIX_EPOCH, Timestamp::MAX);
        let store = self.engine.store();
        let rows = store.audit(tailnet, from, to, 100_000).await.unwrap();
        rows.iter()
            .map(|row| record::decode(&row.body).unwrap())
            .collect()
    }

    /// Audit events since there were `count`, as `TARGET.ACTION[.PROPERTY]`.
    pub(crate) async fn events_after(&self, count: usize) -> Vec<String> {
        let events = self.audit(self.tailnet.id).await;
        let text = |event: &AuditEvent| {
            let target = &event.target;
            let property = target
                .property
                .iter()
                .map(|property| format!(".{property}"));
            format!(
                "{}.{}{}",
                target.kind,
                event.action,
                property.collect::<String>()
            )
        };
        events[count..].iter().map(text).collect()
    }

    /// Sends a request, and checks what is true of every answer.
    pub(crate) async fn send(
        &self,
        as_operator: bool,
        authorization: impl Into<Option<String>>,
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Reply {
        let authorization = authorization.into();
        let header = authorization.iter();
        let headers: Vec<(&str, &str)> = header.map(|text| ("authorization", &**text)).collect();
        self.send_with(as_operator, &headers, method, path, body)
            .await
    }

    /// Sends a request of the owner of `example.com` and looks at nothing but the status.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Vec<u8>) -> StatusCode {
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v2{path}"))
            .header("authorization", bearer(&self.tailnet.token));
        let request = request.body(Body::from(body)).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        response.into_body().collect().await.unwrap();
        status
    }

    /// The same with whatever headers.
    pub(crate) async fn send_with(
        &self,
        as_operator: bool,
        headers: &[(&str, &str)],
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Reply {
        let before = self.state().await;
        let path = format!("/api/v2{path}");
        let mut request = Request::builder().method(method).uri(&path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let router = if as_operator {
            &self.operator
        } else {
            &self.router
        };
        let request = request.body(Body::from(body.clone())).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let (parts, answer) = response.into_parts();
        let reply = Reply {
            status: parts.status,
            headers: parts.headers,
            body: answer.collect().await.unwrap().to_bytes().to_vec(),
        };
        assert!(reply.headers.contains_key("x-request-id"));
        let changed = self.state().await != before;
        assert!(
            !changed || (matches!(reply.status.as_u16(), 200 | 202 | 403) && method != "GET"),
            "{method} {path} answered {} and changed something",
            reply.status
        );
        if reply.status == 403 && changed {
            // What was refused left an event and nothing else.
            let all = [self.tailnet.id, self.other.id];
            for tailnet in all {
                let last = self.audit(tailnet).await.pop().unwrap();
                let is_new = before.iter().all(|(id, seq)| {
                    *id != tailnet || self.engine.snapshot(tailnet).unwrap().seq != *seq
                });
                assert!(!is_new || last.target.kind == "FAILED_REQUEST", "{last:?}");
            }
        }
        if !reply.status.is_success() && reply.status != 304 {
            assert!(reply.status.as_u16() >= 400);
            assert!(!reply.message(reply.status.as_u16()).is_empty());
        }
        let operation = operation_of(method, &path);
        // 304 says that the caller has the answer already.
        if let Some(operation) = operation.filter(|_| reply.status != 304) {
            let status = reply.status.as_u16();
            let is_policy = reply
                .headers
                .get("content-type")
                .is_some_and(|value| value == "application/hujson");
            if !is_policy {
                schema::check_answer(&operation, status, &reply.body);
            }
            if status == 200 && !body.is_empty() {
                // What is in no field that is read may be unreadable.
                if let Ok(value) = serde_json::from_slice(&body) {
                    schema::check_body(&operation, &value);
                }
            }
        }
        reply
    }

    /// A `GET` of the owner of `example.com` with an `Accept` header.
    pub(crate) async fn get_as(&self, path: &str, accept: &str) -> Reply {
        let token = bearer(&self.tailnet.token);
        let headers = [("authorization", &*token), ("accept", accept)];
        self.send_with(false, &headers, "GET", path, Vec::new())
            .await
    }

    /// A `POST` of a policy file by the owner of `example.com`.
    pub(crate) async fn post_policy(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        text: &str,
    ) -> Reply {
        let token = bearer(&self.tailnet.token);
        let headers = [&[("authorization", &*token)], headers].concat();
        let body = text.as_bytes().to_vec();
        self.send_with(false, &headers, "POST", path, body).await
    }

    /// A `POST` whose body is announced, and does not come.
    pub(crate) async fn post_lost_body(&self, path: &str) -> Reply {
        // A stream does not know before it ends that it has nothing.
        let body = futures_util::stream::empty::<Result<Vec<u8>, std::convert::Infallible>>();
        let request = Request::post(format!("/api/v2{path}"))
            .header("authorization", bearer(&self.tailnet.token))
            .body(Body::from_stream(body))
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, answer) = response.into_parts();
        Reply {
            status: parts.status,
            headers: parts.headers,
            body: answer.collect().await.unwrap().to_bytes().to_vec(),
        }
    }

    /// Puts a policy file into force.
    pub(crate) async fn set_policy(&self, text: &str) {
        let reply = self.post_policy("/tailnet/-/acl", &[], text).await;
        assert_eq!(
            reply.status,
            200,
            "{}",
            String::from_utf8_lossy(&reply.body)
        );
    }

    /// What a device is told.
    pub(crate) fn map(&self, device: DeviceId) -> Value {
        let newest = self.engine.publication(self.tailnet.id).unwrap();
        let viewer = Viewer {
            device,
            version: 130,
            encoding: Encoding::Plain,
            log_upload: false,
        };
        let message = full(viewer, &newest, self.engine.now()).unwrap();
        serde_json::from_slice(&message.payload()).unwrap()
    }

    /// A request of the owner of `example.com`. A `null` body is none.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Reply {
        self.call_as(&self.tailnet.token, method, path, body).await
    }

    pub(crate) async fn call_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Value,
    ) -> Reply {
        self.send(false, bearer(token), method, path, bytes(&body))
            .await
    }

    /// A request of the server's operator.
    pub(crate) async fn operate(&self, method: &str, path: &str, body: Value) -> Reply {
        self.send(true, None, method, path, bytes(&body)).await
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.call("GET", path, Value::Null).await.ok()
    }

    async fn made(&self, login: &str, role: &str) -> String {
        let body = json!({"loginName": login, "role": role});
        let user = self.call("POST", "/tailnet/-/users", body).await.ok();
        user["id"].as_str().unwrap().to_owned()
    }

    /// Makes a member; their id.
    pub(crate) async fn member(&self, login: &str) -> String {
        self.made(login, "member").await
    }

    /// Makes a user and an API access token of theirs.
    pub(crate) async fn user(&self, login: &str, role: &str) -> (String, String) {
        let user = self.made(login, role).await;
        let path = format!("/tailnet/{}/access-tokens", self.tailnet.name);
        let token = self
            .operate("POST", &path, json!({"user": login}))
            .await
            .ok();
        (user, token["key"].as_str().unwrap().to_owned())
    }

    pub(crate) async fn auth_key(&self, tailnet: &Tailnet, create: Value) -> Value {
        let body = json!({"capabilities": {"devices": {"create": create}}});
        self.call_as(&tailnet.token, "POST", "/tailnet/-/keys", body)
            .await
            .ok()
    }

    /// A number that no key of the server's devices has yet.
    pub(crate) fn next_number(&self) -> u64 {
        self.keys.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers a device with this auth key.
    pub(crate) async fn register(&self, auth_key: &Value, hostname: &str) -> Option<DeviceId> {
        let mut key = [7; 32];
        key[..8].copy_from_slice(&self.next_number().to_le_bytes());
        let request = Registration {
            machine_key: MachineKey::from_bytes(key).unwrap(),
            node_key: NodeKey::from_bytes(key).unwrap(),
            old_node_key: None,
            lock_key: String::new(),
            auth_key: Some(auth_key["key"].as_str().unwrap().to_owned()),
            expiry: None,
            ephemeral: false,
            capability_version: 130,
            hostinfo: RawJson::empty_object(),
            facts: HostFacts {
                hostname: hostname.to_owned(),
                os: "linux".to_owned(),
                os_version: "6.1".to_owned(),
                client_version: "1.80.3-tabc".to_owned(),
                distro: ["debian".to_owned(), "12".to_owned(), "bookworm".to_owned()],
                advertised_routes: vec![
                    "2.0.0.0/24".parse().unwrap(),
                    "10.0.1.0/24".parse().unwrap(),
                ],
                auto_update: Some(false),
                ..HostFacts::default()
            },
        };
        match self.engine.register(request).await {
            Ok(Registered::In { device, .. }) => Some(device),
            _ => None,
        }
    }

    /// A new device of the tailnet's owner.
    pub(crate) async fn device(&self, tailnet: &Tailnet, hostname: &str) -> DeviceId {
        let key = self.auth_key(tailnet, json!({"preauthorized": true})).await;
        self.register(&key, hostname).await.unwrap()
    }
}

/// A body as it is sent: JSON, where it is a text a form, where it is `null` none.
pub(crate) fn bytes(body: &Value) -> Vec<u8> {
    match body {
        Value::Null => Vec::new(),
        Value::String(form) => form.clone().into_bytes(),
        body => body.to_string().into_bytes(),
    }
}

async fn make(engine: &Engine, owner: &str, name: &str) -> Tailnet {
    let made = engine.create_tailnet(owner, Some(name)).await.unwrap();
    Tailnet {
        id: made.tailnet,
        name: name.to_owned(),
        owner: made.owner,
        token: made.token.expose().to_owned(),
    }
}
