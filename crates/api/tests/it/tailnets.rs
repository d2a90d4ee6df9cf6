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

#[tokio::test]
async fn a_setting_of_the_wrong_form_is_the_callers_fault_whether_or_not_it_is_served() {
    let server = Server::start().await;
    let patch = async |body: Value| server.call("PATCH", "/tailnet/-/settings", body).await;
    let present = server.get("/tailnet/-/settings").await;
    let Some(official) = crate::schema::official() else {
        return;
    };
    let schema = &official["components"]["schemas"]["TailnetSettings"];
    let properties = schema["properties"].as_object().unwrap();
    for (name, schema) in properties {
        let mut wrong = vec![json!([]), json!({})];
        match schema["type"].as_str().unwrap_or("boolean") {
            "boolean" => wrong.extend([json!("no"), json!(1), json!("true")]),
            "string" => wrong.extend([json!(1), json!(true), json!("zz")]),
            "integer" => wrong.extend([json!("30"), json!(true), json!(0), json!(1.5)]),
            other => panic!("{other}"),
        }
        for value in wrong {
            let reply = patch(json!({(name): value})).await;
            let message = reply.message(400);
            assert!(!message.is_empty(), "{name} {value}");
        }
        patch(json!({(name): null})).await.ok();
        patch(json!({(name): present[name]})).await.ok();
    }
    for (name, value) in [
        ("httpsEnabled", json!(true)),
        ("aclsExternalLink", json!("https://example.com/policy")),
        ("usersRoleAllowedToJoinExternalTailnets", json!("admin")),
    ] {
        let message = patch(json!({(name): value, "devicesKeyDurationDays": 7}))
            .await
            .message(501);
        assert_eq!(message, format!("{name} cannot be changed yet"));
    }
    assert_eq!(server.get("/tailnet/-/settings").await, present);
}

#[tokio::test]
async fn a_tailnet_without_a_name_is_named_after_its_owner() {
    let server = Server::start().await;
    for (owner, name) in [
        ("ann+lab@example.com", "ann-lab@example.com"),
        ("o'brien@example.com", "o-brien@example.com"),
    ] {
        let made = server
            .operate("POST", "/tailnets", json!({"owner": owner}))
            .await
            .ok();
        assert_eq!(made["owner"], owner);
        let list = server.operate("GET", "/tailnets", Value::Null).await.ok();
        let names: Vec<_> = list["tailnets"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| &it["name"])
            .collect();
        assert!(names.contains(&&json!(name)), "{names:?}");
        // The name made so is taken now: the owner has to choose another.
        let again = server
            .operate("POST", "/tailnets", json!({"owner": owner}))
            .await;
        assert!(again.message(400).contains("choose another name"));
    }
    let long = format!("{}@example.com", "a".repeat(120));
    let refused = server
        .operate("POST", "/tailnets", json!({"owner": long}))
        .await;
    assert!(refused.message(400).contains("a name of its own"));
}
