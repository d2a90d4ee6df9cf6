//! How requests are written: paths, query parameters, members of bodies. Each rule holds for every
//! operation of the table.

use bowline_api::operations;
use bowline_model::requirement::Requirement;
use http::StatusCode;
use serde_json::{Value, json};

use crate::access::{case, objects};
use crate::schema::ours;
use crate::server::Server;

#[tokio::test]
async fn an_empty_query_parameter_is_an_absent_one_on_every_operation() {
    let server = Server::start().await;
    let objects = objects(&server).await;
    server.user("max@example.com", "member").await;
    let mut parameters = 0;
    for operation in operations().filter(|operation| !operation.changes()) {
        let (path, value) = case(&operation, "-", &objects);
        let path = path.split('?').next().unwrap();
        let verb = operation.verb.as_str();
        let ask = async |query: &str| {
            let path = format!("{path}{query}");
            let reply = if operation.requirement == Requirement::OPERATOR {
                server.operate(verb, &path, value.clone()).await
            } else {
                server.call(verb, &path, value.clone()).await
            };
            (reply.status, String::from_utf8(reply.body).unwrap())
        };
        let without = ask("").await;
        // Those of the operation, and the filters that no document lists.
        let method = verb.to_lowercase();
        let declared = &ours()["paths"][operation.path][&method]["parameters"];
        let own = declared.as_array().unwrap().iter();
        let own = own
            .filter(|parameter| parameter["in"] == "query")
            .map(|parameter| parameter["name"].as_str().unwrap().to_owned());
        let names: Vec<String> = own
            .chain(["name", "tags", "anything"].map(str::to_owned))
            .collect();
        for name in &names {
            parameters += 1;
            assert_eq!(
                ask(&format!("?{name}=")).await,
                without,
                "{} {name}",
                operation.id
            );
            assert_eq!(
                ask(&format!("?{name}")).await,
                without,
                "{} {name}",
                operation.id
            );
        }
        let all: Vec<String> = names.iter().map(|name| format!("{name}=")).collect();
        assert_eq!(
            ask(&format!("?{}", all.join("&"))).await,
            without,
            "{}",
            operation.id
        );
    }
    assert!(parameters > 60, "{parameters}");
}

#[tokio::test]
async fn doubled_and_final_slashes_change_no_operation() {
    let server = Server::start().await;
    let objects = objects(&server).await;
    for operation in operations() {
        let (path, value) = case(&operation, "-", &objects);
        let (path, query) = path.split_once('?').unwrap_or((&path, ""));
        let verb = operation.verb.as_str();
        for other in [
            path.replace('/', "//"),
            format!("{path}/"),
            format!("//{path}///"),
        ] {
            let other = format!("{other}?{query}");
            if operation.changes() {
                // It finds its operation, which asks for a credential, or for what it exchanges.
                let reply = server.send(false, None, verb, &other, Vec::new()).await;
                let expected = if operation.id == "exchangeToken" {
                    400
                } else {
                    401
                };
                assert_eq!(reply.status, expected, "{verb} {other}");
                continue;
            }
            let plain = format!("{path}?{query}");
            let (one, two) = if operation.requirement == Requirement::OPERATOR {
                let one = server.operate(verb, &plain, value.clone()).await;
                (one, server.operate(verb, &other, value.clone()).await)
            } else {
                let one = server.call(verb, &plain, value.clone()).await;
                (one, server.call(verb, &other, value.clone()).await)
            };
            assert_eq!(one.status, 200, "{verb} {plain}");
            assert_eq!(
                (one.status, one.body),
                (two.status, two.body),
                "{verb} {other}"
            );
        }
    }
}

#[tokio::test]
async fn an_absent_list_is_refused_and_an_empty_one_clears() {
    let server = Server::start().await;
    server.set_policy(r#"{"tagOwners": {"tag:bar": []}}"#).await;
    let device = server.device(&server.tailnet, "laptop").await;
    let path = |part: &str| format!("/device/{device}/{part}");
    for (path, good, member) in [
        (path("tags"), json!({"tags": ["tag:bar"]}), "tags"),
        (path("routes"), json!({"routes": ["10.0.1.0/24"]}), "routes"),
        (
            "/tailnet/-/dns/nameservers".to_owned(),
            json!({"dns": ["1.1.1.1"]}),
            "dns",
        ),
        (
            "/tailnet/-/dns/searchpaths".to_owned(),
            json!({"searchPaths": ["a.com"]}),
            "searchPaths",
        ),
    ] {
        let before = async || {
            let device = server.get(&format!("/device/{device}?fields=all")).await;
            let dns = server.get("/tailnet/-/dns/configuration").await;
            (device, dns)
        };
        server.call("POST", &path, good.clone()).await.ok();
        let set = before().await;
        let upper = member.to_uppercase();
        for absent in [
            json!({}),
            json!({(upper): good[member]}),
            json!({"tag": ["tag:bar"]}),
        ] {
            let message = server.call("POST", &path, absent).await.message(400);
            assert!(
                message.starts_with(&format!("{member} is required")),
                "{message}"
            );
        }
        assert_eq!(before().await, set, "{member}");
        // Clients in Go send null for an empty list.
        for empty in [Value::Null, json!([])] {
            server.call("POST", &path, good.clone()).await.ok();
            server
                .call("POST", &path, json!({(member): empty}))
                .await
                .ok();
            assert_ne!(before().await, set, "{member}");
        }
    }
}

#[tokio::test]
async fn a_member_that_is_there_twice_is_refused() {
    let server = Server::start().await;
    let device = server.device(&server.tailnet, "laptop").await;
    let attributes = "/tailnet/-/device-attributes";
    let split = "/tailnet/-/dns/split-dns";
    let id = device.stable();
    for (method, path, body) in [
        (
            "PATCH",
            attributes,
            format!(r#"{{"nodes":{{"{id}":{{}},"{id}":{{}}}}}}"#),
        ),
        (
            "PATCH",
            attributes,
            format!(r#"{{"nodes":{{"{id}":{{"custom:a":null,"custom:a":{{"value":1}}}}}}}}"#),
        ),
        ("PATCH", attributes, r#"{"nodes":{},"nodes":{}}"#.to_owned()),
        (
            "PATCH",
            split,
            r#"{"a.com":["1.1.1.1"],"a.com":null}"#.to_owned(),
        ),
        (
            "PUT",
            split,
            r#"{"a.com":["1.1.1.1"],"a.com":["1.1.1.2"]}"#.to_owned(),
        ),
        (
            "POST",
            "/tailnet/-/dns/configuration",
            r#"{"splitDNS":{"a.com":[],"a.com":[]}}"#.to_owned(),
        ),
        (
            "PATCH",
            "/tailnet/-/settings",
            r#"{"httpsEnabled":false,"httpsEnabled":false}"#.to_owned(),
        ),
        (
            "PATCH",
            "/tailnet/-/settings",
            r#"{"devicesApprovalOn":false,"devicesApprovalOn":true}"#.to_owned(),
        ),
    ] {
        let token = crate::server::bearer(&server.tailnet.token);
        let reply = server
            .send(false, token, method, path, body.clone().into_bytes())
            .await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{body}");
    }
}

#[tokio::test]
async fn an_integer_may_be_written_in_any_way_that_json_has() {
    let server = Server::start().await;
    let device = server.device(&server.tailnet, "laptop").await;
    let send = async |method: &str, path: &str, body: String| {
        let token = crate::server::bearer(&server.tailnet.token);
        server
            .send(false, token, method, path, body.into_bytes())
            .await
    };
    let attribute = format!("/device/{device}/attributes/custom:n");
    for (text, number) in [
        ("87.0", 87),
        ("1e2", 100),
        ("8.7E1", 87),
        ("-0", 0),
        ("-0.0", 0),
        ("-562949953421312.0", -562_949_953_421_312_i64),
        ("9007199254740991", 9_007_199_254_740_991),
    ] {
        let reply = send("POST", &attribute, format!(r#"{{"value":{text}}}"#)).await;
        let shown = reply.ok();
        assert_eq!(shown["attributes"]["custom:n"], json!(number), "{text}");
        assert!(
            !String::from_utf8(reply.body).unwrap().contains(".0"),
            "{text}"
        );
    }
    for text in [
        "87.5",
        "1e-1",
        "9007199254740992",
        "1e300",
        "-9007199254740991.0",
        "562949953421313.0",
    ] {
        let reply = send("POST", &attribute, format!(r#"{{"value":{text}}}"#)).await;
        assert!(reply.message(400).contains("integer"), "{text}");
    }
    let settings = "/tailnet/-/settings";
    let set = send(
        "PATCH",
        settings,
        r#"{"devicesKeyDurationDays":3e1}"#.to_owned(),
    )
    .await;
    assert_eq!(set.ok()["devicesKeyDurationDays"], 30);
    for text in ["30.5", "-1", "0", "181", "1e20", "\"30\"", "4294967326"] {
        let body = format!(r#"{{"devicesKeyDurationDays":{text}}}"#);
        send("PATCH", settings, body).await.message(400);
    }
    let body = r#"{"capabilities":{"devices":{}},"expirySeconds":3600.0}"#;
    let key = send("POST", "/tailnet/-/keys", body.to_owned()).await.ok();
    assert_eq!(key["expirySeconds"], 3600);
    let token = send(
        "POST",
        "/tailnet/-/access-tokens",
        r#"{"expirySeconds":6e1}"#.to_owned(),
    );
    assert_eq!(token.await.ok()["expires"], "2026-03-01T12:01:00Z");
}
