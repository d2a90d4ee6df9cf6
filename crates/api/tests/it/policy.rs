//! The policy file.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::server::Server;

const ACL: &str = "/tailnet/-/acl";

#[tokio::test]
async fn the_default_policy_is_read_in_every_form_with_one_etag() {
    let server = Server::start().await;
    let plain = server.call("GET", ACL, Value::Null).await;
    assert_eq!(plain.headers["content-type"], "application/hujson");
    let etag = plain.headers["etag"].to_str().unwrap().to_owned();
    assert!(etag.len() == 66 && etag.starts_with('"') && etag.ends_with('"'));
    assert!(
        etag[1..65]
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    );
    for query in ["?details=1", "?details=true"] {
        let details = server
            .call("GET", &format!("{ACL}{query}"), Value::Null)
            .await;
        assert_eq!(details.headers["etag"], etag);
        let details = details.ok();
        assert_eq!(
            (&details["warnings"], &details["errors"]),
            (&json!([]), &Value::Null)
        );
        let text = BASE64_STANDARD
            .decode(details["acl"].as_str().unwrap())
            .unwrap();
        assert_eq!(text, plain.body);
    }
    assert_eq!(
        server
            .call("GET", &format!("{ACL}?details=no"), Value::Null)
            .await
            .body,
        plain.body
    );
}

#[tokio::test]
async fn the_form_of_the_policy_is_the_one_that_is_accepted() {
    let server = Server::start().await;
    let plain = server.call("GET", ACL, Value::Null).await;
    for accept in ["*/*", "application/hujson", "text/html"] {
        assert_eq!(
            server.get_as(ACL, accept).await.body,
            plain.body,
            "{accept}"
        );
    }
    let json = server.get_as(ACL, "application/json").await;
    assert_eq!(json.headers["content-type"], "application/json");
    assert_eq!(json.headers["etag"], plain.headers["etag"]);
    assert!(json.ok().is_object());
    // An old client asks for both.
    let path = format!("{ACL}?details=1");
    assert!(server.get_as(&path, "application/hujson").await.ok()["acl"].is_string());
}

#[tokio::test]
async fn the_policy_cannot_be_changed_yet() {
    let server = Server::start().await;
    for path in [ACL, "/tailnet/-/acl/preview", "/tailnet/-/acl/validate"] {
        for body in [Value::Null, json!({}), json!({"acls": []})] {
            assert!(
                server
                    .call("POST", path, body)
                    .await
                    .message(501)
                    .contains("cannot be changed yet")
            );
        }
    }
}
