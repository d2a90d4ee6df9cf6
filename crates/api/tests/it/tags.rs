//! Tags of devices and auth keys.

use bowline_model::id::DeviceId;
use serde_json::{Value, json};

use crate::server::Server;

const POLICY: &str = r#"{
	"groups": {"group:ops": ["ida@example.com"]},
	"tagOwners": {
		"tag:web": ["group:ops"],
		"tag:db": ["tag:web"],
		"tag:ci": [],
	},
	"acls": [
		{"action": "accept", "src": ["autogroup:member"], "dst": ["tag:web:443"]},
	],
	"autoApprovers": {"routes": {"10.0.0.0/8": ["tag:web"]}},
}
"#;

async fn start() -> (Server, DeviceId, DeviceId) {
    let server = Server::start().await;
    server.set_policy(POLICY).await;
    let laptop = server.device(&server.tailnet, "laptop").await;
    let desk = server.device(&server.tailnet, "desk").await;
    (server, laptop, desk)
}

async fn set(server: &Server, token: &str, device: DeviceId, tags: Value) -> crate::server::Reply {
    let path = format!("/device/{device}/tags");
    server
        .call_as(token, "POST", &path, json!({"tags": tags}))
        .await
}

#[tokio::test]
async fn tags_take_a_device_from_its_user_and_give_it_back() {
    let (server, laptop, desk) = start().await;
    let owner = server.tailnet.token.clone();
    let path = format!("/device/{laptop}");
    let before = server.get(&path).await;
    let peers = |device| server.map(device)["Peers"].as_array().map_or(0, Vec::len);
    assert_eq!((peers(laptop), peers(desk)), (0, 0));
    let count = server.audit(server.tailnet.id).await.len();
    for tags in [
        json!(["tag:web", "tag:ci"]),
        json!(["tag:ci", "TAG:Web", "tag:ci"]),
    ] {
        assert_eq!(set(&server, &owner, laptop, tags).await.ok(), json!({}));
        let device = server.get(&path).await;
        assert_eq!(device["tags"], json!(["tag:ci", "tag:web"]));
        // When its key expires, and who registered it, stays.
        for same in ["keyExpiryDisabled", "expires", "user", "isExternal"] {
            assert_eq!(device[same], before[same], "{same}");
        }
    }
    assert_eq!(
        server.events_after(count).await,
        ["NODE.UPDATE.ACL_TAGS", "NODE.UPDATE.AUTO_APPROVED_ROUTES"]
    );
    let event = server.audit(server.tailnet.id).await.remove(count);
    assert_eq!(
        (event.old, event.new),
        (json!([]), json!(["tag:ci", "tag:web"]))
    );

    // To others it is tagged at once, and theirs to reach.
    assert_eq!((peers(laptop), peers(desk)), (1, 1));
    let map = server.map(desk);
    assert_eq!(map["Peers"][0]["Tags"], json!(["tag:ci", "tag:web"]));
    assert_eq!(
        server.map(laptop)["Node"]["Tags"],
        json!(["tag:ci", "tag:web"])
    );
    let listed = async |query: &str| {
        let list = server.get(&format!("/tailnet/-/devices?{query}")).await;
        let devices = list["devices"].as_array().unwrap().clone();
        devices
            .iter()
            .map(|device| device["hostname"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed("tags=tag:web&tags=tag:ci").await, ["laptop"]);
    assert_eq!(listed("tags=tag:web&tags=tag:db").await, [""; 0]);
    let routes = server.get(&format!("{path}/routes")).await;
    assert_eq!(routes["enabledRoutes"], json!(["10.0.1.0/24"]));

    let count = server.audit(server.tailnet.id).await.len();
    for none in [json!([]), Value::Null] {
        assert_eq!(set(&server, &owner, laptop, none).await.ok(), json!({}));
        let device = server.get(&path).await;
        assert_eq!(
            (&device["user"], device.get("tags")),
            (&json!("ann@example.com"), None)
        );
        assert_eq!(device["expires"], before["expires"]);
    }
    assert_eq!(server.events_after(count).await, ["NODE.UPDATE.ACL_TAGS"]);
    assert_eq!((peers(laptop), peers(desk)), (0, 0));
}

#[tokio::test]
async fn tags_that_may_not_be_assigned_are_named() {
    let (server, laptop, _) = start().await;
    let (_, ida) = server.user("ida@example.com", "it-admin").await;
    let (_, ned) = server.user("ned@example.com", "network-admin").await;
    let (_, aud) = server.user("aud@example.com", "auditor").await;
    let owner = server.tailnet.token.clone();
    let path = format!("/device/{laptop}");
    let count = server.audit(server.tailnet.id).await.len();
    for (token, tags, bad) in [
        (
            &owner,
            json!(["tag:madeup", "tag:web", "tag:wrongexample"]),
            "tag:madeup tag:wrongexample",
        ),
        (
            &owner,
            json!(["web", "tag:", "tag:1a", "", "web"]),
            "web tag: tag:1a ",
        ),
        (&ned, json!(["tag:madeup"]), "tag:madeup"),
        // An owner of a tag has what it owns, and nothing else.
        (&ida, json!(["tag:web", "tag:ci"]), "tag:ci"),
    ] {
        assert_eq!(
            set(&server, token, laptop, tags).await.message(400),
            format!("requested tags [{bad}] are invalid or not permitted")
        );
    }
    let refused = set(&server, &aud, laptop, json!(["tag:web"])).await;
    assert_eq!(
        refused.message(403),
        "calling actor does not have enough permissions to perform this function"
    );
    // Only the auditor lacked the permission to ask.
    assert_eq!(server.events_after(count).await, ["FAILED_REQUEST.UPDATE"]);
    assert!(server.get(&path).await.get("tags").is_none());

    for (token, tags) in [
        (&ida, json!(["tag:db", "tag:web"])),
        (&ned, json!(["tag:ci"])),
        (&owner, json!(["tag:ci", "tag:db"])),
    ] {
        assert_eq!(
            set(&server, token, laptop, tags.clone()).await.ok(),
            json!({})
        );
        assert_eq!(server.get(&path).await["tags"], tags);
    }
    // The operator may do everything, but a name that nobody declared is not a tag.
    let operate = async |tags: Value| {
        let path = format!("/device/{laptop}/tags");
        server.operate("POST", &path, json!({"tags": tags})).await
    };
    operate(json!(["tag:web"])).await.ok();
    assert_eq!(
        operate(json!(["tag:x"])).await.message(400),
        "requested tags [tag:x] are invalid or not permitted"
    );
    // A device keeps a tag that is declared no more; it cannot be given again.
    server.set_policy("{}").await;
    assert_eq!(server.get(&path).await["tags"], json!(["tag:web"]));
    set(&server, &owner, laptop, json!(["tag:web"]))
        .await
        .message(400);
}

#[tokio::test]
async fn an_auth_key_has_tags_that_its_maker_may_assign() {
    let (server, _, _) = start().await;
    let (_, ida) = server.user("ida@example.com", "it-admin").await;
    let (_, ned) = server.user("ned@example.com", "network-admin").await;
    let make = async |token: &str, tags: Value| {
        let create = json!({"reusable": true, "tags": tags});
        let body = json!({"capabilities": {"devices": {"create": create}}});
        server.call_as(token, "POST", "/tailnet/-/keys", body).await
    };
    for (token, tags, shown) in [
        (
            &server.tailnet.token,
            json!(["tag:web", "tag:ci", "TAG:CI"]),
            json!(["tag:ci", "tag:web"]),
        ),
        (
            &ida,
            json!(["tag:web", "tag:db"]),
            json!(["tag:db", "tag:web"]),
        ),
        (&ned, json!(["tag:ci"]), json!(["tag:ci"])),
    ] {
        let key = make(token, tags).await.ok();
        assert_eq!(key["capabilities"]["devices"]["create"]["tags"], shown);
        let path = format!("/tailnet/-/keys/{}", key["id"].as_str().unwrap());
        let stored = server.get(&path).await;
        assert_eq!(stored["capabilities"], key["capabilities"]);
        // Tags of what it makes; the key has none of its own.
        assert!(stored.get("tags").is_none());
    }
    let event = server.audit(server.tailnet.id).await.pop().unwrap();
    assert_eq!(event.new["authTags"], json!(["tag:ci"]));
    for (token, tags, bad) in [
        (
            &server.tailnet.token,
            json!(["tag:web", "tag:no", "x"]),
            "tag:no x",
        ),
        (&ida, json!(["tag:ci", "tag:web"]), "tag:ci"),
    ] {
        assert_eq!(
            make(token, tags).await.message(400),
            format!("requested tags [{bad}] are invalid or not permitted")
        );
    }
}

#[tokio::test]
async fn a_device_of_a_tagged_key_is_its_tags_own_and_never_expires() {
    let (server, _, desk) = start().await;
    let key = server
        .auth_key(
            &server.tailnet,
            json!({"preauthorized": true, "tags": ["tag:web"]}),
        )
        .await;
    let device = server.register(&key, "server").await.unwrap();
    let path = format!("/device/{device}");
    let shown = server.get(&path).await;
    assert_eq!(shown["tags"], json!(["tag:web"]));
    assert_eq!(shown["keyExpiryDisabled"], true);
    let seen = server.map(desk)["Peers"].clone();
    assert_eq!(seen.as_array().unwrap().len(), 1);
    assert_eq!(seen[0]["Tags"], json!(["tag:web"]));
    // Without tags it is its key's maker's, who registered it. That its key never expires stays
    // until the next login, and shows.
    let owner = server.tailnet.token.clone();
    set(&server, &owner, device, json!([])).await.ok();
    let shown = server.get(&path).await;
    assert_eq!(shown["user"], "ann@example.com");
    assert_eq!(
        (shown.get("tags"), &shown["keyExpiryDisabled"]),
        (None, &json!(true))
    );
}
