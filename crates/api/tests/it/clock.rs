//! The server's clock.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::server::Server;

#[tokio::test]
async fn a_jump_ends_nothing_before_the_operator_confirms_it() {
    let server = Server::start().await;
    server.device(&server.tailnet, "laptop").await;
    let clock = async || server.operate("GET", "/clock", Value::Null).await.ok();
    assert_eq!(
        clock().await,
        json!({
            "time": "2026-03-01T12:00:00Z", "wallClock": "2026-03-01T12:00:00Z",
            "isHeld": false, "jumps": 0, "wouldExpire": {"devices": 0, "keys": 0},
        })
    );
    server
        .set_clock_away(SignedDuration::from_hours(24 * 200))
        .await;
    assert_eq!(
        clock().await,
        json!({
            "time": "2026-03-01T12:00:00Z", "wallClock": "2026-09-17T12:00:00Z",
            "isHeld": true, "jumps": 1, "wouldExpire": {"devices": 1, "keys": 2},
        })
    );
    let keys = "/tailnet/-/keys?all=true";
    for key in server.get(keys).await["keys"].as_array().unwrap() {
        assert_ne!(key["invalid"], true);
    }
    for body in [json!({}), json!({"wallClock": "2026-03-01T12:00:00Z"})] {
        let refused = server.operate("POST", "/clock/confirm", body).await;
        refused.message(400);
    }
    server.get(keys).await;
    let body = json!({"wallClock": "2026-09-17T12:00:00Z"});
    let confirmed = server.operate("POST", "/clock/confirm", body).await.ok();
    assert_eq!(confirmed["isHeld"], false);
    assert_eq!(confirmed["time"], "2026-09-17T12:00:00Z");
    let refused = server.call("GET", keys, Value::Null).await;
    assert_eq!(refused.status, 401);
    for tailnet in [server.tailnet.id, server.other.id] {
        let audit = server.audit(tailnet).await;
        let confirmed = audit.iter().filter(|event| event.action == "CONFIRM");
        assert_eq!(confirmed.count(), 1);
    }
}
