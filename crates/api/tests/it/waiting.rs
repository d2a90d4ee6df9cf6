//! Devices and SSH sessions that wait for somebody to confirm them.

use bowline_engine::{Registration, SshAnswer, SshSession};
use bowline_model::device::HostFacts;
use bowline_model::id::DeviceId;
use bowline_model::key::{MachineKey, NodeKey};
use bowline_model::record::RawJson;
use serde_json::{Value, json};

use crate::server::Server;

impl Server {
    /// A device that waits; its code.
    pub(crate) async fn login(&self, hostname: &str) -> String {
        let mut key = [9; 32];
        key[..8].copy_from_slice(&self.next_number().to_le_bytes());
        let request = Registration {
            machine_key: MachineKey::from_bytes(key).unwrap(),
            node_key: NodeKey::from_bytes(key).unwrap(),
            old_node_key: None,
            lock_key: String::new(),
            auth_key: None,
            expiry: None,
            ephemeral: false,
            capability_version: 130,
            hostinfo: RawJson::empty_object(),
            facts: HostFacts {
                hostname: hostname.to_owned(),
                os: "linux".to_owned(),
                client_version: "1.80.3-tabc".to_owned(),
                request_tags: vec!["tag:ci".to_owned()],
                ..HostFacts::default()
            },
        };
        self.engine
            .begin_login(request, [127, 0, 0, 1].into())
            .await
            .unwrap()
    }

    /// A session from a device of the tailnet's owner to another of theirs, which the default
    /// policy wants confirmed; its code. Under a policy that does not: no code of any.
    pub(crate) async fn ssh_session(&self, source: DeviceId) -> String {
        let session = SshSession {
            tailnet: self.tailnet.id,
            source,
            target: self.device(&self.tailnet, "target").await,
            user: "root".to_owned(),
        };
        match self.engine.ssh_answer(session, None).await {
            Some(SshAnswer::Ask(code)) => code,
            _ => "0".to_owned(),
        }
    }
}

#[tokio::test]
async fn a_login_is_listed_and_confirmed_for_a_user() {
    let server = Server::start().await;
    let (bob, _) = server.user("bob@example.com", "member").await;
    let code = server.login("laptop").await;
    let list = server
        .operate("GET", "/tailnet/example.com/logins", Value::Null)
        .await
        .ok();
    let login = &list["logins"][0];
    let shown = json!({
        "code": code, "created": "2026-03-01T12:00:00Z", "expires": "2026-03-01T13:00:00Z",
        "hostname": "laptop", "os": "linux", "clientVersion": "1.80.3-tabc",
        "machineKey": login["machineKey"], "nodeKey": login["nodeKey"],
        "tags": ["tag:ci"], "isEphemeral": false, "source": "127.0.0.1",
    });
    assert_eq!(*login, shown);
    // There are two tailnets: whose device it is nobody knows.
    let own = server.get("/tailnet/-/logins").await;
    assert_eq!(own, json!({"logins": []}));
    let path = format!("/tailnet/-/logins/{code}");
    let refused = server.call("POST", &path, json!({"user": bob})).await;
    assert_eq!(
        refused.message(400),
        "requested tags [tag:ci] are invalid or not permitted"
    );
    let refused = server
        .call("POST", &path, json!({"user": "nobody@example.com"}))
        .await;
    assert!(refused.message(400).contains("there is no user"));
    let body = json!({"user": "bob@example.com", "tags": []});
    let device = server.call("POST", &path, body.clone()).await.ok();
    assert_eq!(
        (&device["user"], &device["hostname"]),
        (&"bob@example.com".into(), &"laptop".into())
    );
    let id = device["nodeId"].as_str().unwrap();
    assert_eq!(server.get(&format!("/device/{id}")).await, device);
    server.call("POST", &path, body).await.message(404);
    server.call("DELETE", &path, Value::Null).await.message(404);
}

#[tokio::test]
async fn a_login_is_refused_once_and_forgotten_after_an_hour() {
    let server = Server::start().await;
    let path = format!("/tailnet/-/logins/{}", server.login("laptop").await);
    let answer = server.call("DELETE", &path, Value::Null).await.ok();
    assert_eq!(answer, json!({}));
    server.call("DELETE", &path, Value::Null).await.message(404);
    server.call("POST", &path, json!({})).await.message(404);
    let path = format!("/tailnet/-/logins/{}", server.login("late").await);
    server.advance(3600).await;
    server.call("POST", &path, json!({})).await.message(404);
}

#[tokio::test]
async fn a_code_is_good_for_the_tailnet_of_who_has_it() {
    let server = Server::start().await;
    let path = format!("/tailnet/-/logins/{}", server.login("laptop").await);
    let body = json!({"tags": [], "user": "olga@other.org"});
    let reply = server
        .call_as(&server.other.token, "POST", &path, body)
        .await;
    let id = reply.ok()["nodeId"].as_str().unwrap().to_owned();
    server
        .call("GET", &format!("/device/{id}"), Value::Null)
        .await
        .message(404);
}

#[tokio::test]
async fn an_ssh_session_is_listed_and_decided_in_its_tailnet_only() {
    let server = Server::start().await;
    let source = server.device(&server.tailnet, "source").await;
    let code = server.ssh_session(source).await;
    let list = server.get("/tailnet/-/ssh-checks").await;
    let check = &list["sshChecks"][0];
    assert_eq!(
        (&check["code"], &check["sshUser"]),
        (&code.clone().into(), &"root".into())
    );
    assert_eq!(check["source"]["nodeId"], source.stable());
    assert_eq!(check["destination"]["user"], "ann@example.com");
    let path = format!("/tailnet/-/ssh-checks/{code}");
    for verb in ["POST", "DELETE"] {
        let foreign = server
            .call_as(&server.other.token, verb, &path, Value::Null)
            .await;
        assert_eq!(foreign.message(404), "not found");
    }
    let foreign = server
        .call_as(
            &server.other.token,
            "GET",
            "/tailnet/-/ssh-checks",
            Value::Null,
        )
        .await;
    assert_eq!(foreign.ok(), json!({"sshChecks": []}));
    let answer = server.call("POST", &path, Value::Null).await.ok();
    assert_eq!(answer, json!({}));
    server.call("POST", &path, Value::Null).await.message(404);
    assert_eq!(
        server.get("/tailnet/-/ssh-checks").await,
        json!({"sshChecks": []})
    );
}

#[tokio::test]
async fn an_ssh_session_is_not_confirmed_by_who_may_only_change_devices() {
    let server = Server::start().await;
    let source = server.device(&server.tailnet, "source").await;
    let path = format!("/tailnet/-/ssh-checks/{}", server.ssh_session(source).await);
    let (_, ida) = server.user("ida@example.com", "it-admin").await;
    let (_, adam) = server.user("adam@example.com", "admin").await;
    let (_, aud) = server.user("aud@example.com", "auditor").await;
    for token in [&ida, &adam, &aud] {
        server
            .call_as(token, "POST", &path, Value::Null)
            .await
            .message(403);
    }
    server
        .call_as(&aud, "DELETE", &path, Value::Null)
        .await
        .message(403);
    // The session's own user, with every role that may use the API.
    let (net, token) = server.user("net@example.com", "network-admin").await;
    let body = json!({"capabilities": {"devices": {"create": {"reusable": true}}}});
    let key = server
        .call_as(&token, "POST", "/tailnet/-/keys", body)
        .await
        .ok();
    assert_eq!(key["userId"], json!(net));
    let own = server.register(&key, "net-laptop").await.unwrap();
    let target = server.register(&key, "net-desk").await.unwrap();
    let session = SshSession {
        tailnet: server.tailnet.id,
        source: own,
        target,
        user: "root".to_owned(),
    };
    let Some(SshAnswer::Ask(code)) = server.engine.ssh_answer(session, None).await else {
        panic!("it asks");
    };
    let path = format!("/tailnet/-/ssh-checks/{code}");
    server
        .call_as(&token, "POST", &path, Value::Null)
        .await
        .ok();
    // Ida may still refuse the other one.
    let path = format!("/tailnet/-/ssh-checks/{}", server.ssh_session(source).await);
    server
        .call_as(&ida, "DELETE", &path, Value::Null)
        .await
        .ok();
}
