//! Tailnets and their settings.

use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn the_operator_makes_and_lists_tailnets() {
    let server = Server::start().await;
    let body = json!({"owner": "eve@new.net", "name": "new.net"});
    let made = server.operate("POST", "/tailnets", body.clone()).await.ok();
    let token = made["token"].as_str().unwrap();
    let users = server
        .call_as(token, "GET", "/tailnet/new.net/users", Value::Null)
        .await
        .ok();
    assert_eq!(users["users"][0]["loginName"], "eve@new.net");
    assert_eq!(users["users"][0]["id"], made["userId"]);
    let list = server.operate("GET", "/tailnets", Value::Null).await.ok();
    let names: Vec<_> = list["tailnets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tailnet| tailnet["name"].clone())
        .collect();
    assert_eq!(names, ["example.com", "other.org", "new.net"]);
    assert!(!list.to_string().contains("tskey"));
    assert!(
        server
            .operate("POST", "/tailnets", body)
            .await
            .message(400)
            .contains("exists already")
    );
    for bad in [
        json!({}),
        json!({"owner": "x"}),
        json!({"owner": "a@b.c", "name": "-"}),
        json!({"owner": "a@b.c", "name": "NEW.net"}),
    ] {
        server.operate("POST", "/tailnets", bad).await.message(400);
    }
}

#[tokio::test]
async fn the_operator_names_the_tailnet_where_the_path_does_not() {
    let server = Server::start().await;
    let device = server.device(&server.other, "laptop").await;
    assert_eq!(
        server
            .operate("GET", &format!("/device/{device}"), Value::Null)
            .await
            .ok()["hostname"],
        "laptop"
    );
    let list = server
        .operate("GET", "/tailnet/other.org/devices", Value::Null)
        .await
        .ok();
    assert_eq!(list["devices"].as_array().unwrap().len(), 1);
    assert!(
        server
            .operate("GET", "/tailnet/-/devices", Value::Null)
            .await
            .message(400)
            .contains("several tailnets")
    );
    assert!(
        server
            .operate("GET", "/tailnet/none/devices", Value::Null)
            .await
            .message(404)
            .contains("none")
    );
    for id in ["x", "n9CNTRL"] {
        server
            .operate("GET", &format!("/device/{id}"), Value::Null)
            .await
            .message(404);
    }
}

#[tokio::test]
async fn settings_change_one_by_one_and_are_obeyed() {
    let server = Server::start().await;
    let path = "/tailnet/-/settings";
    let before = server.get(path).await;
    assert_eq!(
        (
            &before["devicesApprovalOn"],
            &before["devicesKeyDurationDays"]
        ),
        (&json!(false), &json!(180))
    );
    let count = server.audit(server.tailnet.id).await.len();
    let body = json!({"devicesApprovalOn": true, "devicesKeyDurationDays": 7, "aclsExternalLink": null, "usersApprovalOn": false});
    for _ in 0..2 {
        let after = server.call("PATCH", path, body.clone()).await.ok();
        assert_eq!(
            (
                &after["devicesApprovalOn"],
                &after["devicesKeyDurationDays"]
            ),
            (&json!(true), &json!(7))
        );
    }
    assert_eq!(
        server.events_after(count).await,
        [
            "TAILNET.ENABLE.MACHINE_APPROVAL_NEEDED",
            "TAILNET.UPDATE.MAX_KEY_DURATION"
        ]
    );
    let key = server.auth_key(&server.tailnet, json!({})).await;
    let device = server.register(&key, "laptop").await.unwrap();
    let device = server.get(&format!("/device/{device}")).await;
    assert_eq!(
        (&device["authorized"], &device["expires"]),
        (&json!(false), &json!("2026-03-08T12:00:00Z"))
    );
    for days in [0, 181] {
        server
            .call("PATCH", path, json!({"devicesKeyDurationDays": days}))
            .await
            .message(400);
    }
    assert!(
        server
            .call("PATCH", path, json!({"httpsEnabled": true}))
            .await
            .message(501)
            .contains("httpsEnabled")
    );
}
