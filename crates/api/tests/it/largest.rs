//! The largest bodies of each operation: what somebody would send to make the server work.
//!
//! Shared by the test of how costs grow (`tests/it/limits.rs`) and the bench that prints what they
//! are (`benches/limits.rs`).

use std::time::Duration;

use bowline_api::Operation;
use serde_json::{Map, Value, json};

/// Objects that requests name.
pub(crate) struct Named<'a> {
    /// Ids of devices.
    pub(crate) devices: &'a [String],
    /// Id of a key.
    pub(crate) key: &'a str,
    /// Code of a login that waits.
    pub(crate) login: &'a str,
    /// Id of a webhook endpoint.
    pub(crate) webhook: &'a str,
}

/// A request whose body has `count` of something.
pub(crate) struct Case {
    /// What there are many of.
    pub(crate) what: &'static str,
    /// Path below `/api/v2`.
    pub(crate) path: String,
    pub(crate) body: Value,
}

fn texts(count: usize, text: impl Fn(usize) -> String) -> Vec<String> {
    (0..count).map(text).collect()
}

fn members(count: usize, name: impl Fn(usize) -> String, value: &Value) -> Value {
    let members: Map<String, Value> = (0..count).map(|n| (name(n), value.clone())).collect();
    Value::Object(members)
}

fn address(n: usize) -> String {
    format!("10.{}.{}.{}", n / 65536 % 256, n / 256 % 256, n % 256)
}

/// The cases of an operation that takes a body. One that has none here fails the test.
pub(crate) fn cases(operation: &Operation, named: &Named<'_>, count: usize) -> Vec<Case> {
    let tags = || texts(count, |n| format!("tag:t{n}"));
    let addresses = || texts(count, address);
    let domains = || texts(count, |n| format!("d{n}.com"));
    let long = || "x".repeat(count);
    let attribute = json!({"value": 1});
    let bodies: Vec<(&'static str, Value)> = match operation.id {
        "batchUpdateCustomDevicePostureAttributes" => {
            let keys = members(count, |n| format!("custom:k{n}"), &attribute);
            let one = json!({"nodes": {(named.devices[0].as_str()): keys}});
            let each = json!({"custom:k": {"value": 2}});
            let devices = named.devices.len();
            let nodes = members(count.min(devices), |n| named.devices[n].clone(), &each);
            vec![
                ("attributes of a device", one),
                ("devices", json!({"nodes": nodes})),
                (
                    "devices that are not there",
                    json!({"nodes": members(count, |n| n.to_string(), &each)}),
                ),
            ]
        }
        "setDeviceRoutes" => {
            let routes = texts(count, |n| format!("{}/32", address(n)));
            let same = vec!["10.0.0.0/8"; count];
            vec![
                ("routes", json!({"routes": routes})),
                ("times the same route", json!({"routes": same})),
            ]
        }
        "authorizeDevice" => {
            let mut body = members(count, |n| format!("m{n}"), &json!(1));
            body["authorized"] = json!(true);
            vec![("members that are not known", body)]
        }
        "setDeviceName" => vec![("characters", json!({"name": long()}))],
        "setDeviceTags" => {
            let same = vec!["x"; count];
            vec![
                ("tags", json!({"tags": tags()})),
                ("times the same text", json!({"tags": same})),
            ]
        }
        "updateDeviceKey" => vec![("characters", json!({"keyExpiryDisabled": long()}))],
        "setDeviceIp" => vec![("characters", json!({"ipv4": long()}))],
        "setCustomDevicePostureAttributes" => vec![
            ("characters of a value", json!({"value": long()})),
            (
                "characters of a comment",
                json!({"value": 1, "comment": long()}),
            ),
        ],
        "confirmLogin" => vec![("tags", json!({"tags": tags(), "user": "ann@example.com"}))],
        "createKey" => {
            let create = json!({"capabilities": {"devices": {"create": {"tags": tags()}}}});
            let mut described = json!({"capabilities": {"devices": {}}});
            described["description"] = json!(long());
            vec![("tags", create), ("characters of a description", described)]
        }
        "setKey" => {
            let scopes = json!({"scopes": texts(count, |_| "dns".to_owned())});
            let tags = json!({"scopes": ["dns"], "tags": tags()});
            vec![("scopes", scopes), ("tags", tags)]
        }
        "exchangeToken" => vec![(
            "characters",
            json!(format!("client_id=T1CNTRL-k1CNTRL&jwt={}", long())),
        )],
        "createOauthToken" => {
            vec![("words", json!(format!("scope={}", "dns ".repeat(count))))]
        }
        "createAccessToken" | "createScimKey" => {
            vec![("characters", json!({"description": long()}))]
        }
        "identifySecret" => vec![
            (
                "characters",
                json!({"kind": "auth", "id": long(), "sha256": "0".repeat(64)}),
            ),
            (
                "characters of a hash",
                json!({"kind": "auth", "id": "k2CNTRL", "sha256": long()}),
            ),
        ],
        "setDnsNameservers" => vec![("nameservers", json!({"dns": addresses()}))],
        "setDnsPreferences" => vec![("characters", json!({"magicDNS": long()}))],
        "setDnsSearchPaths" => vec![("domains", json!({"searchPaths": domains()}))],
        "updateSplitDns" | "setSplitDns" => {
            let list = json!(["10.0.0.1"]);
            vec![
                ("domains", members(count, |n| format!("d{n}.com"), &list)),
                ("nameservers of a domain", json!({"d.com": addresses()})),
                (
                    "domains without",
                    members(count, |n| format!("d{n}.com"), &json!([])),
                ),
            ]
        }
        "setDnsConfiguration" => {
            let resolvers: Vec<Value> = addresses()
                .iter()
                .map(|address| json!({"address": address}))
                .collect();
            let list = json!([{"address": "10.0.0.1"}]);
            let split = members(count, |n| format!("d{n}.com"), &list);
            vec![
                ("nameservers", json!({"nameservers": resolvers})),
                ("domains", json!({"splitDNS": split})),
                ("search paths", json!({"searchPaths": domains()})),
            ]
        }
        "updateTailnetSettings" | "confirmClock" => vec![(
            "members that are not known",
            members(count, |n| format!("m{n}"), &json!(1)),
        )],
        "createUser" => vec![
            (
                "characters",
                json!({"loginName": format!("{}@x.com", long())}),
            ),
            (
                "characters of a name",
                json!({"loginName": "new@x.com", "displayName": long()}),
            ),
        ],
        "updateUserRole" => vec![("characters", json!({"role": long()}))],
        "createWebhook" => {
            let of =
                |url: String, names: Vec<&str>| json!({"endpointUrl": url, "subscriptions": names});
            let url = || "https://hooks.example.com/".to_owned();
            vec![
                (
                    "characters",
                    of(format!("{}{}", url(), long()), vec!["nodeCreated"]),
                ),
                (
                    "times the same subscription",
                    of(url(), vec!["nodeCreated"; count]),
                ),
            ]
        }
        "updateWebhook" => {
            let same = vec!["nodeDeleted"; count];
            vec![(
                "times the same subscription",
                json!({"subscriptions": same}),
            )]
        }
        "replayWebhookDeliveries" => {
            let ids = texts(count, |n| format!("{}", n + 1));
            vec![("deliveries", json!({"deliveries": ids}))]
        }
        "createTailnet" => vec![("characters", json!({"owner": format!("{}@x.com", long())}))],
        // Policies are judged by a budget of their own, beside the runtime.
        "setPolicyFile"
        | "previewRuleMatches"
        | "validateAndTestPolicyFile"
        | "explainPolicyFile"
        | "diffPolicyFile" => Vec::new(),
        other => panic!("{other} takes a body and has no case of a large one"),
    };
    let path = operation
        .path
        .replace("{tailnet}", "-")
        .replace("{deviceId}", &named.devices[0])
        .replace("{keyId}", named.key)
        .replace("{endpointId}", named.webhook)
        .replace("{code}", named.login)
        .replace("{attributeKey}", "custom:k");
    bodies
        .into_iter()
        .map(|(what, body)| Case {
            what,
            path: path.clone(),
            body,
        })
        .collect()
}

/// Processor time that this thread has had, since some moment: on a loaded machine it says what was
/// done, and not how long that took.
pub(crate) fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap(),
        u32::try_from(time.tv_nsec).unwrap(),
    )
}

/// Processor time of this thread since then.
pub(crate) fn since(before: Duration) -> Duration {
    thread_time().saturating_sub(before)
}
