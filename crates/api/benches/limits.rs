//! What the largest requests cost a runtime thread, printed as a table.
//!
//! `cargo bench -p bowline-api --bench limits` sends each operation bodies of the largest size that
//! is read, and those lists that are as long as may be, on a tailnet of 1,000 devices and 1,000 users
//! (an argument is another number). The runtime has one thread here, so its processor time is all
//! that a runtime thread would spend: reading the body, the writer's closure, encoding, publishing.
//! What runs beside the runtime (the database, lists, policies) is not in it. The promise is 10 ms.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a program for developers, which prints"
)]

#[path = "../tests/it/largest.rs"]
mod largest;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use bowline_api::{ApiOptions, operations, router};
use bowline_engine::credential::NewAuthKey;
use bowline_engine::{
    Actor, Engine, Registered, Registration, Settings, SystemClock, SystemRandom,
};
use bowline_model::device::HostFacts;
use bowline_model::key::{MachineKey, NodeKey};
use bowline_model::record::RawJson;
use bowline_model::user::Role;
use bowline_store::{Options, Store};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use largest::{Named, cases, since, thread_time};
use serde_json::{Value, json};
use tower::ServiceExt as _;

/// What a use case may cost a runtime thread.
const PROMISED: Duration = Duration::from_millis(10);
/// The largest body.
const BODY: usize = 1024 * 1024;

struct Bench {
    router: Router,
    token: String,
    over: Vec<String>,
}

impl Bench {
    async fn ask(&self, verb: &str, path: &str, body: Vec<u8>) -> (StatusCode, usize) {
        let request = Request::builder()
            .method(verb)
            .uri(format!("/api/v2{path}"))
            .header("authorization", format!("Bearer {}", self.token))
            .body(Body::from(body))
            .unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, body.len())
    }

    /// The least of three, so that what else the machine does is not in it.
    async fn row(&mut self, verb: &str, path: &str, what: &str, body: Vec<u8>) {
        let size = body.len();
        let (mut least, mut took) = (Duration::MAX, Duration::MAX);
        let mut answer = (StatusCode::OK, 0);
        for _ in 0..3 {
            let (before, began) = (thread_time(), Instant::now());
            answer = self.ask(verb, path, body.clone()).await;
            least = least.min(since(before));
            took = took.min(began.elapsed());
        }
        let mark = if least > PROMISED { " *" } else { "" };
        let name = format!("{verb} {path}");
        let name: String = name.chars().take(56).collect();
        println!(
            "{name:<56} {what:<34} {size:>9} {:>6} {:>9} {:>9.2} {:>9.2}{mark}",
            answer.0.as_u16(),
            answer.1,
            least.as_secs_f64() * 1e3,
            took.as_secs_f64() * 1e3,
        );
        if least > PROMISED {
            self.over.push(format!("{name} {what}"));
        }
    }
}

fn key(kind: u8, number: usize) -> [u8; 32] {
    let mut bytes = [kind; 32];
    bytes[24..].copy_from_slice(&(number as u64).to_be_bytes());
    bytes
}

async fn tailnet(engine: &Engine, admin: &Actor, devices: usize) -> Vec<String> {
    let new = NewAuthKey {
        reusable: true,
        ..NewAuthKey::default()
    };
    let mut ids = Vec::with_capacity(devices);
    for number in 0..devices {
        let login = format!("user{number}@example.com");
        let made = engine.create_user(admin, &login, None, Role::Member);
        let user = made.await.unwrap().id;
        let made = engine.create_auth_key(admin, Some(user), new.clone());
        let (auth_key, _) = made.await.unwrap();
        let request = Registration {
            machine_key: MachineKey::from_bytes(key(1, number)).unwrap(),
            node_key: NodeKey::from_bytes(key(2, number)).unwrap(),
            old_node_key: None,
            lock_key: String::new(),
            auth_key: Some(auth_key.expose().to_owned()),
            expiry: None,
            ephemeral: false,
            capability_version: 141,
            hostinfo: RawJson::empty_object(),
            facts: HostFacts {
                hostname: format!("host{number}"),
                ..HostFacts::default()
            },
        };
        match engine.register(request).await {
            Ok(Registered::In { device, .. }) => ids.push(device.stable()),
            other => panic!("{other:?}"),
        }
    }
    ids
}

/// How many of a case make a body of the largest size.
fn fitting(build: impl Fn(usize) -> Option<Value>) -> usize {
    let length = |count: usize| build(count).map_or(0, |body| body.to_string().len());
    let (small, large) = (length(1_000), length(2_000));
    if large <= small {
        return 1_000;
    }
    // They grow a little faster than this: numbers get longer.
    let count = 1_000 + (BODY - small) * 1_000 / (large - small);
    (0..50)
        .map(|step| count - count * step / 50)
        .find(|count| length(*count) <= BODY)
        .unwrap()
}

async fn run(devices: usize) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bowline.db");
    let store = Store::open(&path.as_path().into(), Options::default())
        .await
        .unwrap();
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let engine = Engine::open(store, Settings::default(), clock, random)
        .await
        .unwrap();
    let made = engine
        .create_tailnet("ann@example.com", None)
        .await
        .unwrap();
    let admin = engine.authenticate(made.token.expose()).unwrap();
    let admin = admin.asking(bowline_model::requirement::Requirement::CALLER);
    let ids = tailnet(&engine, &admin, devices).await;
    let mut bench = Bench {
        router: router(engine.clone(), ApiOptions::default()),
        token: made.token.expose().to_owned(),
        over: Vec::new(),
    };
    let key_id = made.credential.id.stable();
    let named = Named {
        devices: &ids,
        key: &key_id,
        login: "0",
        webhook: "w9zCNTRL",
    };
    println!("{devices} devices, {devices} users; times in ms, * is over {PROMISED:?}");
    println!(
        "{:<56} {:<34} {:>9} {:>6} {:>9} {:>9} {:>9}",
        "request", "many", "body", "status", "answer", "thread", "took"
    );
    for operation in operations().filter(|operation| operation.takes_body) {
        let verb = operation.verb.as_str();
        for at in 0..cases(&operation, &named, 1).len() {
            let build = |count: usize| {
                let case = cases(&operation, &named, count).into_iter().nth(at)?;
                Some(case.body)
            };
            let case = cases(&operation, &named, fitting(build))
                .into_iter()
                .nth(at)
                .unwrap();
            let body = case.body.to_string().into_bytes();
            bench.row(verb, &case.path, case.what, body).await;
        }
    }
    // As long as is accepted.
    let tags: Vec<String> = (0..256).map(|n| format!("tag:t{n}")).collect();
    let owners: serde_json::Map<String, Value> =
        tags.iter().map(|tag| (tag.clone(), json!([]))).collect();
    let policy =
        json!({"tagOwners": owners, "acls": [{"action": "accept", "src": ["*"], "dst": ["*:*"]}]});
    bench
        .ask("POST", "/tailnet/-/acl", policy.to_string().into_bytes())
        .await;
    let routes: Vec<String> = (0..1024)
        .map(|n| format!("10.{}.{}.0/24", n / 256, n % 256))
        .collect();
    let addresses: Vec<String> = (0..500)
        .map(|n| format!("10.0.{}.{}", n / 256, n % 256))
        .collect();
    let domains: Vec<String> = (0..500).map(|n| format!("d{n}.com")).collect();
    let split: serde_json::Map<String, Value> = domains
        .iter()
        .map(|domain| (domain.clone(), json!(["10.0.0.1"])))
        .collect();
    let edits = bowline_engine::device::attribute::EDITS_MAX.min(ids.len());
    let nodes = |value: i64| -> Value {
        let nodes = ids[..edits]
            .iter()
            .map(|id| (id.clone(), json!({"custom:tier": {"value": value}})));
        json!({"nodes": Value::Object(nodes.collect())})
    };
    let device = &ids[0];
    let create = json!({"capabilities": {"devices": {"create": {"tags": tags}}}});
    for (verb, path, what, one, two) in [
        (
            "POST",
            "/tailnet/-/keys".to_owned(),
            "256 tags",
            create.clone(),
            create,
        ),
        (
            "POST",
            format!("/device/{device}/tags"),
            "256 tags",
            json!({"tags": tags}),
            json!({"tags": tags[..255]}),
        ),
        (
            "POST",
            format!("/device/{device}/routes"),
            "1,024 routes",
            json!({"routes": routes}),
            json!({"routes": routes[1..]}),
        ),
        (
            "PATCH",
            "/tailnet/-/device-attributes".to_owned(),
            "250 attributes",
            nodes(1),
            nodes(2),
        ),
        (
            "POST",
            "/tailnet/-/dns/nameservers".to_owned(),
            "500 nameservers",
            json!({"dns": addresses}),
            json!({"dns": addresses[1..]}),
        ),
        (
            "POST",
            "/tailnet/-/dns/searchpaths".to_owned(),
            "500 domains",
            json!({"searchPaths": domains}),
            json!({"searchPaths": domains[1..]}),
        ),
        (
            "PUT",
            "/tailnet/-/dns/split-dns".to_owned(),
            "500 domains",
            Value::Object(split),
            json!({"a.com": addresses}),
        ),
    ] {
        // Another one before, so that the first has something to change.
        bench.ask(verb, &path, two.to_string().into_bytes()).await;
        bench
            .row_once(verb, &path, what, one.to_string().into_bytes())
            .await;
    }
    for path in [
        "/tailnet/-/devices",
        "/tailnet/-/devices?fields=all&os=linux",
        "/tailnet/-/users",
        "/tailnet/-/keys?all=true",
        "/tailnet/-/logins",
        "/tailnet/-/ssh-checks",
    ] {
        bench.row("GET", path, "of everything", Vec::new()).await;
    }
    let user = format!("/users/{}", made.owner.stable());
    bench
        .row("GET", &user, "devices to look at", Vec::new())
        .await;
    println!(
        "{} of them over {PROMISED:?}: {}",
        bench.over.len(),
        bench.over.join("; ")
    );
    engine.close().await;
}

impl Bench {
    /// A change that is one only once.
    async fn row_once(&mut self, verb: &str, path: &str, what: &str, body: Vec<u8>) {
        let size = body.len();
        let (before, began) = (thread_time(), Instant::now());
        let (status, answer) = self.ask(verb, path, body).await;
        let (spent, took) = (since(before), began.elapsed());
        let mark = if spent > PROMISED { " *" } else { "" };
        let name: String = format!("{verb} {path}").chars().take(56).collect();
        println!(
            "{name:<56} {what:<34} {size:>9} {:>6} {answer:>9} {:>9.2} {:>9.2}{mark}",
            status.as_u16(),
            spent.as_secs_f64() * 1e3,
            took.as_secs_f64() * 1e3,
        );
        if spent > PROMISED {
            self.over.push(format!("{name} {what}"));
        }
    }
}

fn main() {
    let arguments = std::env::args().skip(1);
    let numbers: Vec<usize> = arguments.filter_map(|text| text.parse().ok()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let numbers = if numbers.is_empty() {
        vec![1_000]
    } else {
        numbers
    };
    for devices in numbers {
        runtime.block_on(run(devices));
    }
}
