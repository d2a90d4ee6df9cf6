//! SSH sessions that the policy allows, denies, or wants confirmed.

use bowline_engine::credential::NewAuthKey;
use bowline_engine::{SshAnswer, SshSession};
use bowline_model::id::DeviceId;
use bowline_model::user::Role;
use jiff::SignedDuration;

use crate::net::{Net, machine_key, operator, present, request};

/// Ann's laptop may be reached by Bob's, after a confirmation.
fn policy(period: &str) -> String {
    format!(
        r#"{{
            "acls": [{{"action": "accept", "src": ["*"], "dst": ["*:*"]}}],
            "ssh": [
                {{"action": "accept", "src": ["bob@example.com"], "dst": ["tag:free"], "users": ["root"]}},
                {{"action": "check", "src": ["bob@example.com"], "dst": ["tag:box"], "users": ["root"], "checkPeriod": "{period}"}},
            ],
            "tagOwners": {{"tag:box": [], "tag:free": []}},
        }}"#
    )
}

pub(crate) struct Pair {
    pub(crate) net: Net,
    source: DeviceId,
    target: DeviceId,
    free: DeviceId,
}

impl Pair {
    pub(crate) async fn new(period: &str) -> Self {
        let net = Net::new().await;
        let bob = net
            .engine
            .create_user(&net.admin, "bob@example.com", None, Role::Member)
            .await
            .unwrap();
        net.set_policy(&policy(period)).await;
        let (key, _) = net.key_of(Some(bob.id), NewAuthKey::default()).await;
        let source = net.register(request(1, &key)).await;
        let tagged = async |number: u64, tag: &str| {
            let key = net.one_off().await;
            let mut asks = request(number, &key);
            asks.facts.request_tags = vec![tag.to_owned()];
            net.register(asks).await
        };
        let (target, free) = (tagged(2, "tag:box").await, tagged(3, "tag:free").await);
        Self {
            net,
            source,
            target,
            free,
        }
    }

    fn session(&self, target: DeviceId, user: &str) -> SshSession {
        SshSession {
            tailnet: self.net.tailnet,
            source: self.source,
            target,
            user: user.to_owned(),
        }
    }

    pub(crate) async fn ask(&self) -> SshAnswer {
        self.ask_as("root").await
    }

    async fn ask_as(&self, user: &str) -> SshAnswer {
        let session = self.session(self.target, user);
        self.net.engine.ssh_answer(session, None).await.unwrap()
    }

    pub(crate) async fn code(&self) -> String {
        match self.ask().await {
            SshAnswer::Ask(code) => code,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn wait(&self, code: &str) -> tokio::task::JoinHandle<Option<SshAnswer>> {
        let (engine, session) = (self.net.engine.clone(), self.session(self.target, "root"));
        let code = code.to_owned();
        tokio::spawn(async move { engine.ssh_answer(session, Some(&code)).await })
    }

    pub(crate) async fn decide(
        &self,
        code: &str,
        accept: bool,
    ) -> Result<(), bowline_engine::Refusal> {
        self.net
            .engine
            // Ann let Bob's laptop in, so it is not for her to confirm.
            .decide_ssh_check(&operator(self.net.tailnet), code, accept)
            .await
    }
}

fn reason(answer: Option<SshAnswer>) -> &'static str {
    match answer {
        Some(SshAnswer::Reject(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_policy_accepts_and_denies_by_itself() {
    let pair = Pair::new("1h").await;
    let answer = async |session| pair.net.engine.ssh_answer(session, None).await;
    let accepted = answer(pair.session(pair.free, "root")).await;
    assert_eq!(accepted, Some(SshAnswer::Accept));
    for session in [
        pair.session(pair.free, "ann"),
        SshSession {
            source: pair.target,
            ..pair.session(pair.free, "root")
        },
        SshSession {
            source: DeviceId::new(1).unwrap(),
            ..pair.session(pair.free, "root")
        },
    ] {
        assert!(reason(answer(session).await).contains("policy"));
    }
    let engine = &pair.net.engine;
    engine
        .expire_device(&pair.net.admin, pair.source)
        .await
        .unwrap();
    let answer = answer(pair.session(pair.free, "root")).await;
    assert!(reason(answer).contains("policy"));
}

#[tokio::test]
async fn a_confirmed_session_begins_and_is_remembered_for_the_period() {
    let pair = Pair::new("1h").await;
    let code = pair.code().await;
    assert_eq!(pair.code().await, code, "the same session, asked again");
    let checks = pair.net.engine.ssh_checks(&pair.net.admin).unwrap();
    assert_eq!(checks.len(), 1);
    assert_eq!(checks[0].session, pair.session(pair.target, "root"));
    let waits = pair.wait(&code);
    pair.decide(&code, true).await.unwrap();
    assert_eq!(waits.await.unwrap(), Some(SshAnswer::Accept));
    let events = pair.net.audit().await;
    let last = events.last().unwrap();
    assert_eq!((&*last.0, &*last.1), ("APPROVE", "SSH_SESSION"));
    assert!(pair.decide(&code, true).await.is_err(), "once");
    assert_eq!(pair.ask().await, SshAnswer::Accept);
    pair.net.pass(SignedDuration::from_mins(59)).await;
    assert_eq!(pair.ask().await, SshAnswer::Accept);
    pair.net.pass(SignedDuration::from_mins(1)).await;
    assert_ne!(pair.code().await, code);
}

#[tokio::test]
async fn a_confirmation_is_no_longer_good_for_another_owner_of_the_source() {
    let pair = Pair::new("1h").await;
    let code = pair.code().await;
    pair.decide(&code, true).await.unwrap();
    assert_eq!(pair.ask().await, SshAnswer::Accept);
    let tags = vec!["tag:free".to_owned()];
    let engine = &pair.net.engine;
    engine
        .set_device_tags(&pair.net.admin, pair.source, tags)
        .await
        .unwrap();
    let wider = policy("1h").replace(
        r#""src": ["bob@example.com"]"#,
        r#""src": ["bob@example.com", "tag:free"]"#,
    );
    pair.net.set_policy(&wider).await;
    assert!(matches!(pair.ask().await, SshAnswer::Ask(_)));
}

#[tokio::test]
async fn a_confirmation_is_no_longer_good_for_another_owner_of_the_target() {
    let pair = Pair::new("1h").await;
    let wider = policy("1h").replace(
        r#""dst": ["tag:box"]"#,
        r#""dst": ["tag:box", "tag:other"]"#,
    );
    let wider = wider.replace(r#""tag:box": [],"#, r#""tag:box": [], "tag:other": [],"#);
    pair.net.set_policy(&wider).await;
    let code = pair.code().await;
    pair.decide(&code, true).await.unwrap();
    assert_eq!(pair.ask().await, SshAnswer::Accept);
    let retag = async |tag: &str| {
        let engine = &pair.net.engine;
        engine
            .set_device_tags(&pair.net.admin, pair.target, vec![tag.to_owned()])
            .await
            .unwrap();
    };
    retag("tag:other").await;
    assert!(matches!(pair.ask().await, SshAnswer::Ask(_)));
    retag("tag:box").await;
    assert_eq!(pair.ask().await, SshAnswer::Accept, "as it was confirmed");
}

#[tokio::test]
async fn a_confirmation_is_for_the_local_user_that_was_asked_for() {
    let pair = Pair::new("1h").await;
    let wider = policy("1h").replace(
        r#""users": ["root"], "checkPeriod""#,
        r#""users": ["root", "ann"], "checkPeriod""#,
    );
    pair.net.set_policy(&wider).await;
    let SshAnswer::Ask(code) = pair.ask_as("ann").await else {
        panic!("asks");
    };
    pair.decide(&code, true).await.unwrap();
    assert_eq!(pair.ask_as("ann").await, SshAnswer::Accept);
    assert!(matches!(pair.ask_as("root").await, SshAnswer::Ask(_)));
}

#[tokio::test]
async fn a_refused_or_forgotten_session_does_not_begin() {
    let pair = Pair::new("1h").await;
    let code = pair.code().await;
    let waits = pair.wait(&code);
    pair.decide(&code, false).await.unwrap();
    assert_eq!(reason(waits.await.unwrap()), "the session was refused");
    let code = pair.code().await;
    let waits = pair.wait(&code);
    tokio::task::yield_now().await;
    pair.net.pass(SignedDuration::from_mins(20)).await;
    assert_eq!(
        reason(waits.await.unwrap()),
        "nobody confirmed the session in time"
    );
    // A code that nobody knows, or of another session, is as none.
    for code in ["nothing", &pair.code().await] {
        let other = SshSession {
            target: pair.free,
            ..pair.session(pair.free, "root")
        };
        pair.net
            .set_policy(
                &policy("1h").replace("accept\", \"src\": [\"bob", "check\", \"src\": [\"bob"),
            )
            .await;
        let answer = pair.net.engine.ssh_answer(other, Some(code)).await;
        assert!(matches!(answer, Some(SshAnswer::Ask(_))), "{answer:?}");
    }
}

#[tokio::test]
async fn a_policy_that_changed_meanwhile_has_the_last_word() {
    let pair = Pair::new("1h").await;
    let code = pair.code().await;
    let waits = pair.wait(&code);
    tokio::task::yield_now().await;
    let without = policy("1h").replace(
        r#""users": ["root"], "checkPeriod""#,
        r#""users": ["ann"], "checkPeriod""#,
    );
    pair.net.set_policy(&without).await;
    pair.decide(&code, true).await.unwrap();
    assert!(reason(waits.await.unwrap()).contains("policy"));
}

#[tokio::test]
async fn where_each_session_is_to_be_confirmed_none_is_remembered() {
    let pair = Pair::new("always").await;
    let (one, two) = (pair.code().await, pair.code().await);
    assert_ne!(one, two);
    let (first, second) = (pair.wait(&one), pair.wait(&two));
    pair.decide(&one, true).await.unwrap();
    pair.decide(&two, false).await.unwrap();
    assert_eq!(first.await.unwrap(), Some(SshAnswer::Accept));
    assert_eq!(reason(second.await.unwrap()), "the session was refused");
    assert!(matches!(pair.ask().await, SshAnswer::Ask(_)));
}

#[tokio::test]
async fn sessions_of_another_tailnet_are_neither_seen_nor_decided() {
    let pair = Pair::new("1h").await;
    let made = pair
        .net
        .engine
        .create_tailnet("eve@example.org", None)
        .await
        .unwrap();
    let eve = present(&pair.net.engine, made.token.expose());
    let code = pair.code().await;
    assert!(pair.net.engine.ssh_checks(&eve).unwrap().is_empty());
    let refused = pair.net.engine.decide_ssh_check(&eve, &code, true).await;
    assert_eq!(refused.unwrap_err().to_string(), "not found");
    let engine = &pair.net.engine;
    assert_eq!(
        engine.tailnet_of(machine_key(2), pair.target),
        Some(pair.net.tailnet)
    );
    assert_eq!(engine.tailnet_of(machine_key(1), pair.target), None);
}

#[tokio::test]
async fn one_source_does_not_keep_others_from_asking() {
    let pair = Pair::new("1h").await;
    let any = policy("1h").replace(
        r#""users": ["root"], "checkPeriod""#,
        r#""users": ["autogroup:nonroot"], "checkPeriod""#,
    );
    pair.net
        .set_policy(&any.replace(r#""src": ["bob@"#, r#""src": ["tag:free", "bob@"#))
        .await;
    let other = SshSession {
        source: pair.free,
        ..pair.session(pair.target, "another")
    };
    let answer = pair.net.engine.ssh_answer(other.clone(), None).await;
    let Some(SshAnswer::Ask(others)) = answer else {
        panic!("{answer:?}");
    };
    let SshAnswer::Ask(first) = pair.ask_as("user0").await else {
        panic!("it asks");
    };
    let (engine, session) = (pair.net.engine.clone(), pair.session(pair.target, "user0"));
    let code = first.clone();
    let waits = tokio::spawn(async move { engine.ssh_answer(session, Some(&code)).await });
    tokio::task::yield_now().await;
    for asked in 1..100 {
        let answer = pair.ask_as(&format!("user{asked}")).await;
        assert!(matches!(answer, SshAnswer::Ask(_)), "{answer:?}");
    }
    // It has lost its own, and is told so; what another source asks waits on.
    assert!(reason(waits.await.unwrap()).contains("too many"));
    assert!(pair.net.engine.ssh_check(&first).is_none());
    assert!(pair.net.engine.ssh_check(&others).is_some());
    assert!(pair.net.engine.ssh_checks(&pair.net.admin).unwrap().len() <= 17);
    let again = pair.net.engine.ssh_answer(other, None).await;
    assert_eq!(again, Some(SshAnswer::Ask(others)));
}

#[tokio::test]
async fn a_devices_tailnet_is_known_as_long_as_it_is_there() {
    let net = Net::new().await;
    let device = net.join(1).await;
    let of = |net: &Net| net.engine.tailnet_of(machine_key(1), device);
    assert_eq!(of(&net), Some(net.tailnet));
    let net = net.restart(SignedDuration::ZERO).await;
    assert_eq!(of(&net), Some(net.tailnet));
    net.engine.delete_device(&net.admin, device).await.unwrap();
    assert_eq!(of(&net), None);
}
