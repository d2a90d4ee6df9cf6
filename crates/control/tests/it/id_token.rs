//! Tokens that say which device somebody is.

use std::collections::BTreeSet;

use bowline_engine::Clock as _;
use bowline_testkit::client::{Answer, Client};
use http::{Method, StatusCode};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Value, json};

use crate::server::Server;

async fn ask(client: &Client, node_key: &str, audience: &Value) -> Answer {
    let connection = client.connect().await.unwrap();
    let body = json!({"CapVersion": 113, "NodeKey": node_key, "Audience": audience});
    let body = body.to_string();
    let answer = connection.request(Method::POST, "/machine/id-token", body);
    answer.await.unwrap()
}

/// The claims of a token that one of the listed keys signed.
async fn verified(server: &Server, token: &str) -> Value {
    let keys = server.engine.signing_keys().await.unwrap();
    let keys: JwkSet = serde_json::from_value(keys).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    let key = keys.find(&header.kid.unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::RS256);
    // The clock of the test is not the machine's.
    validation.validate_exp = false;
    validation.set_audience(&["sts.example"]);
    validation.set_issuer(&["http://bowline.example.com"]);
    let key = DecodingKey::from_jwk(key).unwrap();
    jsonwebtoken::decode::<Value>(token, &key, &validation)
        .unwrap()
        .claims
}

#[tokio::test]
async fn a_device_gets_a_token_that_says_which_one_it_is() {
    let server = Server::start().await;
    let (client, device) = server.joined(1).await;
    let key = client.identity().node_key_text();
    let answer = ask(&client, &key, &json!("sts.example")).await;
    let answer = answer.json().unwrap();
    let claims = verified(&server, answer["id_token"].as_str().unwrap()).await;

    let snapshot = server.engine.snapshot(server.admin.tailnet).unwrap();
    let record = &snapshot.device(device).unwrap().device;
    let name = format!("{}.{}", record.name, snapshot.tailnet().dns_name);
    assert_eq!(claims["sub"], name.as_str());
    assert_eq!(claims["node"], name.as_str());
    assert_eq!(claims["key"], key.as_str());
    assert_eq!(claims["nid"], device.get());
    assert_eq!(claims["domain"], "example.com");
    assert_eq!(claims["user"], "example.com:ann@example.com");
    assert_eq!(claims["uid"], record.user.unwrap().get());
    assert_eq!(claims["addresses"], json!(record.addresses()));
    assert!(claims.get("tags").is_none());
    let seconds = |name: &str| claims[name].as_i64().unwrap();
    assert_eq!(seconds("iat"), server.clock().now().as_second());
    assert_eq!(
        (seconds("nbf"), seconds("exp")),
        (seconds("iat"), seconds("iat") + 300)
    );

    // Another one has another id.
    let again = ask(&client, &key, &json!("sts.example")).await;
    let again = again.json().unwrap();
    let again = verified(&server, again["id_token"].as_str().unwrap()).await;
    assert_ne!(again["jti"], claims["jti"]);

    // Tagged, it has no user.
    server
        .set_policy(r#"{"tagOwners": {"tag:ci": ["ann@example.com"]}}"#)
        .await;
    let tags = vec!["tag:ci".to_owned()];
    let tagged = server.engine.set_device_tags(&server.admin, device, tags);
    tagged.await.unwrap();
    let answer = ask(&client, &key, &json!("sts.example")).await;
    let answer = answer.json().unwrap();
    let claims = verified(&server, answer["id_token"].as_str().unwrap()).await;
    assert_eq!(claims["tags"], json!(["example.com:tag:ci"]));
    assert!(claims.get("user").is_none() && claims.get("uid").is_none());
}

#[tokio::test]
async fn nobody_gets_the_token_of_another_device_or_of_one_that_is_out() {
    let server = Server::start().await;
    let (client, device) = server.joined(1).await;
    let (other, _) = server.joined(2).await;
    let key = client.identity().node_key_text();
    let audience = json!("sts.example");
    let status = async |client: &Client, key: &str, audience: &Value| {
        ask(client, key, audience).await.status
    };
    assert_eq!(
        status(&other, &key, &audience).await,
        StatusCode::UNAUTHORIZED
    );
    let stranger = server.client(3);
    let unknown = stranger.identity().node_key_text();
    assert_eq!(
        status(&stranger, &unknown, &audience).await,
        StatusCode::NOT_FOUND
    );
    assert_eq!(
        status(&stranger, &key, &audience).await,
        StatusCode::UNAUTHORIZED
    );
    for bad in [
        json!(""),
        json!(7),
        json!("a\nb"),
        json!("x".repeat(501)),
        Value::Null,
    ] {
        assert_eq!(
            status(&client, &key, &bad).await,
            StatusCode::BAD_REQUEST,
            "{bad}"
        );
    }
    assert_eq!(
        status(&client, "nodekey:x", &audience).await,
        StatusCode::BAD_REQUEST
    );

    let engine = &server.engine;
    engine
        .authorize_device(&server.admin, device, false)
        .await
        .unwrap();
    assert_eq!(
        status(&client, &key, &audience).await,
        StatusCode::FORBIDDEN
    );
    engine
        .authorize_device(&server.admin, device, true)
        .await
        .unwrap();
    assert_eq!(status(&client, &key, &audience).await, StatusCode::OK);
    engine.expire_device(&server.admin, device).await.unwrap();
    assert_eq!(
        status(&client, &key, &audience).await,
        StatusCode::FORBIDDEN
    );
}

#[tokio::test]
async fn tokens_have_the_server_for_their_issuer_and_known_claims_alone() {
    let server = Server::start().await;
    let (client, _) = server.joined(1).await;
    let key = client.identity().node_key_text();
    let answer = ask(&client, &key, &json!("sts.example")).await;
    let answer = answer.json().unwrap();
    let claims = verified(&server, answer["id_token"].as_str().unwrap()).await;
    let names: BTreeSet<&str> = claims
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let expected = [
        "iss",
        "sub",
        "aud",
        "exp",
        "iat",
        "nbf",
        "jti",
        "key",
        "addresses",
        "nid",
        "node",
        "domain",
        "user",
        "uid",
    ];
    assert_eq!(names, expected.into_iter().collect());
}
