//! Devices.

use bowline_model::id::DeviceId;
use serde_json::{Value, json};

use crate::server::Server;

/// What a device is told.
fn map(server: &Server, device: DeviceId) -> Value {
    server.map(device)
}

async fn pair() -> (Server, DeviceId, DeviceId) {
    let server = Server::start().await;
    let laptop = server.device(&server.tailnet, "laptop").await;
    let desk = server.device(&server.tailnet, "desk").await;
    (server, laptop, desk)
}

#[tokio::test]
async fn a_device_shows_the_documented_fields_in_both_id_forms() {
    let (server, laptop, _) = pair().await;
    let by_stable = server.get(&format!("/device/{}", laptop.stable())).await;
    assert_eq!(by_stable, server.get(&format!("/device/{laptop}")).await);
    let dns_name = server
        .engine
        .snapshot(server.tailnet.id)
        .unwrap()
        .tailnet()
        .dns_name
        .clone();
    assert_eq!(by_stable["id"], laptop.to_string());
    assert_eq!(by_stable["nodeId"], laptop.stable());
    assert_eq!(by_stable["name"], format!("laptop.{dns_name}"));
    assert_eq!(by_stable["hostname"], "laptop");
    assert_eq!(by_stable["user"], "ann@example.com");
    assert_eq!(by_stable["created"], "2026-03-01T12:00:00Z");
    assert_eq!(by_stable["expires"], "2026-08-28T12:00:00Z");
    assert_eq!(by_stable["authorized"], true);
    for absent in [
        "lastSeen",
        "tags",
        "enabledRoutes",
        "clientConnectivity",
        "distro",
    ] {
        assert!(by_stable.get(absent).is_none(), "{absent}");
    }
    let all = server.get(&format!("/device/{laptop}?fields=all")).await;
    assert_eq!(
        all["advertisedRoutes"],
        json!(["2.0.0.0/24", "10.0.1.0/24"])
    );
    assert_eq!(all["enabledRoutes"], json!([]));
    assert_eq!(all["distro"]["codeName"], "bookworm");
    assert_eq!(
        all["clientConnectivity"]["clientSupports"]["hairPinning"],
        Value::Null
    );
    assert_eq!(
        server
            .get(&format!("/device/{laptop}?fields=nonsense"))
            .await,
        by_stable
    );
}

#[tokio::test]
async fn the_list_has_the_tailnets_own_devices_and_filters_them() {
    let (server, laptop, _) = pair().await;
    server.device(&server.other, "laptop").await;
    let ids = async |query: &str| {
        let list = server.get(&format!("/tailnet/-/devices{query}")).await;
        let devices = list["devices"].as_array().unwrap().clone();
        devices
            .iter()
            .map(|device| device["hostname"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("").await, ["laptop", "desk"]);
    assert_eq!(ids("?hostname=desk").await, ["desk"]);
    assert_eq!(
        ids(&format!("?nodeId={}&isEphemeral=false", laptop.stable())).await,
        ["laptop"]
    );
    assert_eq!(ids("?enabledRoutes=10.0.0.0/8").await, [""; 0]);
    assert_eq!(
        ids("?advertisedRoutes=10.0.1.0%2F24&fields=all").await,
        ["laptop", "desk"]
    );
    assert_eq!(ids("?tags=tag:x").await, [""; 0]);
    assert_eq!(ids("?unknown=1").await, ["laptop", "desk"]);
    for own in ["example.com", "EXAMPLE.com", &server.tailnet.id.stable()] {
        assert_eq!(
            server.get(&format!("/tailnet/{own}/devices")).await["devices"]
                .as_array()
                .unwrap()
                .len(),
            2
        );
    }
    let empty = Server::start().await;
    assert_eq!(
        empty.get("/tailnet/-/devices").await,
        json!({"devices": []})
    );
}

#[tokio::test]
async fn absent_impossible_and_foreign_devices_look_alike() {
    let (server, laptop, _) = pair().await;
    let foreign = server.device(&server.other, "secret").await;
    let absent = DeviceId::new(laptop.get() + 1_000_000).unwrap();
    let (foreign, absent) = (
        [foreign.stable(), foreign.to_string()],
        [absent.stable(), absent.to_string()],
    );
    let ids = foreign
        .iter()
        .chain(&absent)
        .map(String::as_str)
        .chain(["0", "x", "nCNTRL", "%20", "-"]);
    for id in ids {
        for (method, end, body) in [
            ("GET", "", Value::Null),
            ("DELETE", "", Value::Null),
            ("POST", "/expire", Value::Null),
            ("GET", "/routes", Value::Null),
            ("POST", "/routes", json!({"routes": []})),
            ("POST", "/authorized", json!({"authorized": false})),
            ("POST", "/name", json!({"name": "x"})),
            ("POST", "/tags", json!({"tags": []})),
            ("POST", "/tags", json!({"tags": ["tag:x"]})),
            ("POST", "/key", json!({"keyExpiryDisabled": true})),
            ("POST", "/ip", json!({"ipv4": "100.80.0.1"})),
            ("GET", "/attributes", Value::Null),
            ("POST", "/attributes/custom:x", json!({"value": 1})),
            ("DELETE", "/attributes/custom:x", Value::Null),
        ] {
            let reply = server
                .call(method, &format!("/device/{id}{end}"), body)
                .await;
            assert_eq!(reply.message(404), "not found", "{method} {id}{end}");
        }
    }
}

#[tokio::test]
async fn deleting_a_device_takes_it_from_its_peers_and_frees_its_name() {
    let (server, laptop, desk) = pair().await;
    assert_eq!(map(&server, desk)["Peers"].as_array().unwrap().len(), 1);
    let path = format!("/device/{laptop}");
    let count = server.audit(server.tailnet.id).await.len();
    let reply = server.call("DELETE", &path, Value::Null).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0));
    assert_eq!(server.events_after(count).await, ["NODE.DELETE"]);
    assert_eq!(
        server.call("DELETE", &path, Value::Null).await.message(404),
        "not found"
    );
    assert_eq!(
        server.call("GET", &path, Value::Null).await.message(404),
        "not found"
    );
    assert!(
        map(&server, desk)
            .get("Peers")
            .is_none_or(|peers| peers.as_array().is_some_and(Vec::is_empty))
    );
    let again = server.device(&server.tailnet, "laptop").await;
    assert_eq!(
        server.get(&format!("/device/{again}")).await["hostname"],
        "laptop"
    );
    assert!(
        server.get(&format!("/device/{again}")).await["name"]
            .as_str()
            .unwrap()
            .starts_with("laptop.")
    );
}

#[tokio::test]
async fn expiring_twice_is_expiring_once_even_with_expiry_disabled() {
    let (server, laptop, desk) = pair().await;
    let path = format!("/device/{laptop}");
    server
        .call(
            "POST",
            &format!("{path}/key"),
            json!({"keyExpiryDisabled": true}),
        )
        .await
        .ok();
    server.advance(60).await;
    let count = server.audit(server.tailnet.id).await.len();
    for _ in 0..2 {
        let reply = server
            .call("POST", &format!("{path}/expire"), Value::Null)
            .await;
        assert_eq!((reply.status.as_u16(), reply.body.len()), (200, 0));
    }
    assert_eq!(
        server.events_after(count).await,
        ["NODE.ENABLE.KEY_EXPIRY", "NODE.UPDATE.KEY_EXPIRY_TIME"]
    );
    let device = server.get(&path).await;
    assert_eq!(device["expires"], "2026-03-01T12:01:00Z");
    assert_eq!(device["keyExpiryDisabled"], false);
    assert_eq!(map(&server, laptop)["Node"]["Expired"], true);
    assert_ne!(map(&server, desk)["Node"]["Expired"], true);
}

#[tokio::test]
async fn key_expiry_is_disabled_and_the_instant_kept() {
    let (server, laptop, _) = pair().await;
    let path = format!("/device/{laptop}/key");
    let expires = server.get(&format!("/device/{laptop}")).await["expires"].clone();
    let count = server.audit(server.tailnet.id).await.len();
    for body in [
        json!({"keyExpiryDisabled": true}),
        json!({"keyExpiryDisabled": true}),
        json!({}),
        json!({"keyExpiryDisabled": null}),
    ] {
        assert_eq!(server.call("POST", &path, body).await.ok(), json!({}));
    }
    assert_eq!(
        server.events_after(count).await,
        ["NODE.DISABLE.KEY_EXPIRY"]
    );
    let device = server.get(&format!("/device/{laptop}")).await;
    assert_eq!(
        (&device["keyExpiryDisabled"], &device["expires"]),
        (&json!(true), &expires)
    );
    let expiry = |map: &Value| map["Node"].get("KeyExpiry").cloned();
    assert!(expiry(&map(&server, laptop)).is_none_or(|at| at == "0001-01-01T00:00:00Z"));
    // Longer than the key's life: enabling expiry again finds it in the past.
    server.advance(181 * 86400).await;
    assert_ne!(map(&server, laptop)["Node"]["Expired"], true);
    // The owner's own token has expired too by then.
    let path = format!("/device/{}/key", laptop.stable());
    server
        .operate("POST", &path, json!({"keyExpiryDisabled": false}))
        .await
        .ok();
    assert_eq!(
        server.events_after(count).await.last().unwrap(),
        "NODE.ENABLE.KEY_EXPIRY"
    );
    assert_eq!(map(&server, laptop)["Node"]["Expired"], true);
    let message = server
        .operate("POST", &path, json!({"keyExpiryDisabled": "yes"}))
        .await
        .message(400);
    assert!(message.contains("expected a boolean"), "{message}");
}

#[tokio::test]
async fn routes_are_replaced_sorted_and_reach_the_peers() {
    let (server, laptop, desk) = pair().await;
    let path = format!("/device/{laptop}/routes");
    let advertised = json!(["2.0.0.0/24", "10.0.1.0/24"]);
    assert_eq!(
        server.get(&path).await,
        json!({"advertisedRoutes": advertised, "enabledRoutes": []})
    );
    let count = server.audit(server.tailnet.id).await.len();
    let body = json!({"routes": ["10.0.1.0/24", "2.0.0.0/24", "192.168.0.0/16", "10.0.1.0/24"]});
    let expected = json!({"advertisedRoutes": advertised, "enabledRoutes": ["2.0.0.0/24", "10.0.1.0/24", "192.168.0.0/16"]});
    for _ in 0..2 {
        assert_eq!(
            server.call("POST", &path, body.clone()).await.ok(),
            expected
        );
    }
    assert_eq!(server.get(&path).await, expected);
    assert_eq!(
        server.events_after(count).await,
        ["NODE.UPDATE.ALLOWED_IPS"]
    );
    let allowed = map(&server, desk)["Peers"][0]["AllowedIPs"].clone();
    let has = |route: &str| allowed.as_array().unwrap().contains(&json!(route));
    assert!(
        has("2.0.0.0/24") && has("10.0.1.0/24") && !has("192.168.0.0/16"),
        "{allowed}"
    );
    // What was set is what is shown; Terraform compares.
    for routes in [
        json!(["0.0.0.0/0"]),
        json!(["::/0"]),
        json!(["0.0.0.0/0", "::/0"]),
    ] {
        let exit = server.call("POST", &path, json!({"routes": routes})).await;
        assert_eq!(exit.ok()["enabledRoutes"], routes);
        let shown = server.get(&format!("/device/{laptop}?fields=all")).await;
        assert_eq!(shown["enabledRoutes"], routes);
    }
    for bad in ["10.0.0.1/8", "10.0.0.0", "x", "", "10.0.0.0/33", "::/129"] {
        let message = server
            .call("POST", &path, json!({"routes": ["10.0.1.0/24", bad]}))
            .await
            .message(400);
        assert!(message.contains(&format!("{bad:?}")), "{message}");
    }
    let many: Vec<String> = (0..1025)
        .map(|n| format!("10.{}.{}.0/24", n / 256, n % 256))
        .collect();
    assert!(
        server
            .call("POST", &path, json!({"routes": many}))
            .await
            .message(400)
            .contains("at most 1024")
    );
    for empty in [json!({"routes": null}), json!({"routes": []})] {
        assert_eq!(
            server.call("POST", &path, empty).await.ok()["enabledRoutes"],
            json!([])
        );
    }
}

#[tokio::test]
async fn approval_is_taken_and_given_back() {
    let (server, laptop, desk) = pair().await;
    let path = format!("/device/{laptop}/authorized");
    let count = server.audit(server.tailnet.id).await.len();
    for _ in 0..2 {
        assert_eq!(
            server
                .call("POST", &path, json!({"authorized": false}))
                .await
                .ok(),
            json!({})
        );
    }
    assert_eq!(
        server.get(&format!("/device/{laptop}")).await["authorized"],
        false
    );
    assert!(
        map(&server, desk)
            .get("Peers")
            .is_none_or(|peers| peers.as_array().is_some_and(Vec::is_empty))
    );
    assert_ne!(map(&server, laptop)["Node"]["MachineAuthorized"], true);
    for _ in 0..2 {
        server
            .call("POST", &path, json!({"authorized": true}))
            .await
            .ok();
    }
    assert_eq!(map(&server, desk)["Peers"].as_array().unwrap().len(), 1);
    assert_eq!(
        server.events_after(count).await,
        ["NODE.REVOKE", "NODE.APPROVE"]
    );
    let message = server.call("POST", &path, json!({})).await.message(400);
    assert_eq!(message, "authorized must be true or false");
}

#[tokio::test]
async fn a_name_is_a_label_or_full_name_unique_and_can_be_taken_back() {
    let (server, laptop, desk) = pair().await;
    let suffix = server
        .engine
        .snapshot(server.tailnet.id)
        .unwrap()
        .tailnet()
        .dns_name
        .clone();
    let path = format!("/device/{laptop}/name");
    let count = server.audit(server.tailnet.id).await.len();
    for name in [
        "Dev-Server".to_owned(),
        format!("dev-server.{suffix}"),
        format!("dev-server.{suffix}."),
    ] {
        assert_eq!(
            server.call("POST", &path, json!({"name": name})).await.ok(),
            json!({})
        );
    }
    assert_eq!(
        server.events_after(count).await,
        ["NODE.UPDATE.MACHINE_NAME"]
    );
    let device = server.get(&format!("/device/{laptop}")).await;
    assert_eq!(
        (&device["name"], &device["hostname"]),
        (&json!(format!("dev-server.{suffix}")), &json!("laptop"))
    );
    assert_eq!(
        map(&server, desk)["Peers"][0]["Name"],
        format!("dev-server.{suffix}.")
    );
    for bad in [
        "-x",
        "a_b",
        "a.b",
        "ä",
        "desk",
        &"x".repeat(64),
        &format!("desk.{suffix}"),
    ] {
        let message = server
            .call("POST", &path, json!({"name": bad}))
            .await
            .message(400);
        assert!(
            message.contains("invalid name") || message.contains("already in use"),
            "{message}"
        );
    }
    for empty in [json!({"name": ""}), json!({})] {
        server.call("POST", &path, empty).await.ok();
        assert_eq!(
            server.get(&format!("/device/{laptop}")).await["name"],
            format!("laptop.{suffix}")
        );
    }
}

#[tokio::test]
async fn tags_that_no_policy_declares_get_the_documented_refusal() {
    let (server, laptop, _) = pair().await;
    let path = format!("/device/{laptop}/tags");
    let message = server
        .call("POST", &path, json!({"tags": ["tag:a", "tag:b"]}))
        .await
        .message(400);
    assert_eq!(
        message,
        "requested tags [tag:a tag:b] are invalid or not permitted"
    );
    for none in [json!({"tags": []}), json!({"tags": null})] {
        assert_eq!(server.call("POST", &path, none).await.ok(), json!({}));
    }
    assert_eq!(
        server.get(&format!("/device/{laptop}")).await["user"],
        "ann@example.com"
    );
}

#[tokio::test]
async fn an_address_moves_to_a_free_one_only() {
    let (server, laptop, desk) = pair().await;
    let path = format!("/device/{laptop}/ip");
    let count = server.audit(server.tailnet.id).await.len();
    let taken = server.get(&format!("/device/{desk}")).await["addresses"][0].clone();
    for body in [
        json!({"ipv4": "100.80.0.1"}),
        json!({"ipv4": "100.80.0.1"}),
        json!({}),
        json!({"ipv4": ""}),
    ] {
        assert_eq!(server.call("POST", &path, body).await.ok(), json!({}));
    }
    assert_eq!(
        server.events_after(count).await,
        ["NODE.UPDATE.ALLOWED_IPS"]
    );
    assert_eq!(
        server.get(&format!("/device/{laptop}")).await["addresses"][0],
        "100.80.0.1"
    );
    assert_eq!(
        map(&server, desk)["Peers"][0]["Addresses"][0],
        "100.80.0.1/32"
    );
    for bad in [
        taken,
        json!("10.0.0.1"),
        json!("100.100.100.100"),
        json!("100.115.92.5"),
        json!("fd7a::1"),
        json!("x"),
    ] {
        let message = server
            .call("POST", &path, json!({"ipv4": bad}))
            .await
            .message(400);
        assert!(message.contains("IPv4 address"), "{message}");
    }
}

#[tokio::test]
async fn a_connected_device_has_no_last_seen() {
    let (server, laptop, _) = pair().await;
    let stream = server
        .engine
        .open_stream(server.tailnet.id, laptop)
        .await
        .unwrap();
    server.engine.tick().await;
    let device = server.get(&format!("/device/{laptop}")).await;
    assert_eq!(device["connectedToControl"], true);
    assert!(device.get("lastSeen").is_none());
    let online = server
        .get("/tailnet/-/devices?connectedToControl=true")
        .await;
    assert_eq!(online["devices"].as_array().unwrap().len(), 1);
    let owner = server.tailnet.owner.stable();
    assert_eq!(
        server.get(&format!("/users/{owner}")).await["currentlyConnected"],
        true
    );
    drop(stream);
}

#[tokio::test]
async fn two_machines_with_one_state_file_show_as_multiple_connections() {
    let (server, laptop, _) = pair().await;
    let filtered = async |filter: &str| {
        let path = format!("/tailnet/-/devices?{filter}");
        let list = server.get(&path).await;
        let devices = list["devices"].as_array().unwrap().clone();
        let names: Vec<_> = devices.iter().map(|one| one["hostname"].clone()).collect();
        names
    };
    assert!(filtered("multipleConnections=true").await.is_empty());
    let links: [std::sync::Arc<bowline_engine::Link>; 2] = Default::default();
    let mut streams = Vec::new();
    for round in 0..4 {
        let link = &links[round % 2];
        let stream = server
            .engine
            .open_stream_on(server.tailnet.id, laptop, link)
            .await;
        streams.push(stream);
    }
    server.engine.tick().await;
    assert_eq!(filtered("multipleConnections=true").await, ["laptop"]);
    assert!(filtered("multipleConnections=false").await.is_empty());
    let shown = server.get(&format!("/device/{laptop}")).await;
    assert_eq!(shown["multipleConnections"], true);
}

/// A filter by a field that a device lacks is never passed, whichever field of the official document
/// it is.
#[tokio::test]
async fn no_device_passes_a_filter_by_a_field_that_it_lacks() {
    let Some(document) = crate::schema::official() else {
        return;
    };
    let (server, laptop, _) = pair().await;
    let shown = server.get(&format!("/device/{laptop}?fields=all")).await;
    let properties = &document["components"]["schemas"]["Device"]["properties"];
    let mut looked_at = 0;
    for (field, schema) in properties.as_object().unwrap() {
        let is_simple = schema["type"] != "object" && schema.get("properties").is_none();
        if !is_simple || shown.get(field).is_some() {
            continue;
        }
        looked_at += 1;
        for value in ["true", "false", "x", "0"] {
            let path = format!("/tailnet/-/devices?{field}={value}");
            assert_eq!(server.get(&path).await["devices"], json!([]), "{path}");
        }
    }
    assert!(looked_at >= 3);
}

#[tokio::test]
async fn what_a_device_says_of_its_network_is_shown_in_the_documents_types() {
    let (server, laptop, _) = pair().await;
    // As an older server stored it.
    let json: serde_json::Value = serde_json::from_str(
        r#"{"DERPLatency":{"900-v4":1e306,"900-v6":-5,"901-v4":0.02,"902-v4":"x"},"PreferredDERP":901,"UPnP":1}"#,
    )
    .unwrap();
    let report = bowline_engine::Report {
        net_info: Some(bowline_engine::NetReport {
            json: bowline_model::record::RawJson::of(&json).unwrap(),
            home_derp: 901,
            is_shortened: true,
        }),
        ..bowline_engine::Report::default()
    };
    server
        .engine
        .report(server.tailnet.id, laptop, report)
        .await;
    server.engine.tick().await;
    let shown = server.get(&format!("/device/{laptop}?fields=all")).await;
    assert_eq!(
        shown["clientConnectivity"]["latency"],
        json!({"901": {"preferred": true, "latencyMs": 20.0}})
    );
}
