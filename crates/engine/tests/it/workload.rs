//! Federated identities and the exchange of workload tokens: what works, and what is tried in vain.

use std::collections::BTreeMap;
use std::time::Duration;

use bowline_engine::credential::NewAuthKey;
use bowline_engine::credential::access_token::IssuedToken;
use bowline_engine::workload::exchange::ExchangeRefused;
use bowline_engine::workload::identity::{NewFederatedIdentity, client_id};
use bowline_engine::{Clock as _, Refusal, Settings};
use bowline_model::credential::{Credential, FederatedIdentity, Kind};
use bowline_model::principal::Principal;
use bowline_model::scope::{Scope, Scopes};
use bowline_store::{Options, Sealer};
use bowline_testkit::issuer::{Answer, DISCOVERY, Issuer, KEYS, Names, SigningKey, client};
use bowline_testkit::net::{Net, machine_key, node_key, quick, until};
use data_encoding::BASE64URL_NOPAD;
use jiff::SignedDuration;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

const SUBJECT: &str = "repo:acme/site:ref:refs/heads/main";

/// An issuer with a key, and a tailnet that can reach it.
struct Case {
    issuer: Issuer,
    key: SigningKey,
    names: Names,
    net: Net,
}

impl Case {
    async fn new() -> Self {
        let issuer = Issuer::start().await;
        let key = SigningKey::new("first");
        issuer.publish(&[&key]);
        let names = Names::default();
        let settings = Settings {
            outbound: client(&[&issuer], names.clone()),
            url: "https://bowline.example.com".to_owned(),
            sealer: Some(Sealer::new(&[7; 32]).unwrap()),
            ..quick()
        };
        let net = Net::with(settings, Options::default()).await;
        Self {
            issuer,
            key,
            names,
            net,
        }
    }

    fn identity(&self) -> NewFederatedIdentity {
        NewFederatedIdentity {
            scopes: scopes(&["dns:read", "policy_file:read"]),
            issuer: self.issuer.url().to_owned(),
            subject: "repo:acme/site:*".to_owned(),
            custom_claim_rules: BTreeMap::from([("environment".to_owned(), "prod*".to_owned())]),
            ..NewFederatedIdentity::default()
        }
    }

    async fn made(&self) -> std::sync::Arc<Credential> {
        let (engine, admin) = (&self.net.engine, &self.net.admin);
        let made = engine.create_federated_identity(admin, self.identity());
        made.await.unwrap()
    }

    /// Claims of a good token.
    fn claims(&self, identity: &Credential) -> Value {
        let now = self.net.clock.now().as_second();
        json!({
            "iss": self.issuer.url(),
            "sub": SUBJECT,
            "aud": federated(identity).audience,
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "environment": "production",
        })
    }

    async fn exchange(
        &self,
        identity: &Credential,
        token: &str,
    ) -> Result<IssuedToken, ExchangeRefused> {
        let client = client_id(self.net.tailnet, identity.id);
        self.net.engine.exchange_token(&client, token).await
    }

    async fn exchange_signed(&self, identity: &Credential, key: &SigningKey) -> bool {
        let token = key.sign(&self.claims(identity));
        self.exchange(identity, &token).await.is_ok()
    }
}

fn federated(credential: &Credential) -> &FederatedIdentity {
    match &credential.kind {
        Kind::Federated(identity) => identity,
        other => panic!("{other:?}"),
    }
}

fn scopes(texts: &[&str]) -> Scopes {
    let parsed = texts.iter().map(|text| text.parse::<Scope>().unwrap());
    parsed.collect()
}

/// A token whose parts are these, whoever signed it.
fn assembled(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |bytes: &[u8]| BASE64URL_NOPAD.encode(bytes);
    let (header, claims) = (header.to_string(), claims.to_string());
    format!(
        "{}.{}.{}",
        part(header.as_bytes()),
        part(claims.as_bytes()),
        part(signature)
    )
}

#[tokio::test]
async fn a_workload_gets_an_access_token_without_a_secret() {
    let case = Case::new().await;
    let identity = case.made().await;
    let record = federated(&identity);
    let client = client_id(case.net.tailnet, identity.id);
    assert_eq!(record.audience, format!("bowline.example.com/{client}"));
    assert_eq!(
        (identity.hash, identity.user, identity.expires),
        (None, None, None)
    );

    let token = case.key.sign(&case.claims(&identity));
    let issued = case.exchange(&identity, &token).await.unwrap();
    assert_eq!(issued.token.parent, identity.id);
    assert_eq!(issued.token.scopes, record.scopes);

    let actor = case
        .net
        .engine
        .authenticate(issued.minted.expose())
        .unwrap();
    assert!(
        matches!(actor.principal, Principal::FederatedIdentity(trusted)
        if trusted.id == identity.id && trusted.scopes == record.scopes)
    );

    // Revoked, it ends all that was made from it, at once.
    let (engine, admin) = (&case.net.engine, &case.net.admin);
    engine.revoke_credential(admin, identity.id).await.unwrap();
    assert!(engine.authenticate(issued.minted.expose()).is_none());
    let again = case.exchange(&identity, &token).await;
    assert!(matches!(again, Err(ExchangeRefused::Request)), "{again:?}");
}

#[tokio::test]
async fn an_audience_among_several_is_enough_and_moments_have_some_leeway() {
    let case = Case::new().await;
    let identity = case.made().await;
    let now = case.net.clock.now().as_second();
    let with = |member: &str, value: Value| {
        let mut claims = case.claims(&identity);
        claims[member] = value;
        case.key.sign(&claims)
    };
    let audience = federated(&identity).audience.clone();
    for token in [
        with("aud", json!(["another", audience])),
        with("exp", json!(now - 29)),
        with("nbf", json!(now + 29)),
        with("iat", json!(now + 29)),
        with("iat", json!(0.5)),
        with("nbf", Value::Null),
        case.key.sign_as(None, &case.claims(&identity)),
    ] {
        case.exchange(&identity, &token).await.unwrap();
    }
}

#[tokio::test]
async fn tokens_that_are_not_good_are_refused_without_saying_why() {
    let case = Case::new().await;
    let identity = case.made().await;
    let now = case.net.clock.now().as_second();
    let good = case.claims(&identity);
    let with = |member: &str, value: Value| {
        let mut claims = good.clone();
        claims[member] = value;
        case.key.sign(&claims)
    };
    let without = |member: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(member);
        case.key.sign(&claims)
    };
    let signed = case.key.sign(&good);
    let parts: Vec<&str> = signed.split('.').collect();
    let signature = BASE64URL_NOPAD.decode(parts[2].as_bytes()).unwrap();
    let es256 = json!({"alg": "ES256", "typ": "JWT", "kid": "first"});
    let stranger = SigningKey::new("first");

    // What everybody can read, used as a secret.
    let public_key = serde_json::to_vec(&case.key.jwk()).unwrap();
    let x = case.key.jwk()["x"].as_str().unwrap().to_owned();
    let by_secret = |secret: &[u8]| {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("first".to_owned());
        jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(secret)).unwrap()
    };
    let tampered = {
        let mut claims = good.clone();
        claims["sub"] = json!("repo:acme/site:other");
        assembled(&es256, &claims, &signature)
    };
    let own_key = {
        let mut header = es256.clone();
        header["jwk"] = stranger.jwk();
        let claims = good.clone();
        let signed = stranger.sign(&claims);
        let signature = signed.rsplit('.').next().unwrap();
        assembled(
            &header,
            &claims,
            &BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap(),
        )
    };
    let critical = {
        let mut header = es256.clone();
        header["crit"] = json!(["b64"]);
        assembled(&header, &good, &signature)
    };
    let attempts = [
        ("nothing", String::new()),
        ("no token", "a.b.c".to_owned()),
        ("two parts", format!("{}.{}", parts[0], parts[1])),
        ("four parts", format!("{signed}.x")),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("alg none", assembled(&json!({"alg": "none"}), &good, b"")),
        (
            "alg None",
            assembled(&json!({"alg": "None"}), &good, &signature),
        ),
        (
            "alg HS256 with the public key's document",
            by_secret(&public_key),
        ),
        (
            "alg HS256 with the public key's point",
            by_secret(x.as_bytes()),
        ),
        (
            "alg RS256 over a key for ES256",
            assembled(&json!({"alg": "RS256", "kid": "first"}), &good, &signature),
        ),
        ("a stranger's key under a known kid", stranger.sign(&good)),
        ("an unknown kid", case.key.sign_as(Some("second"), &good)),
        ("claims that were not signed", tampered),
        ("a key in the header", own_key),
        ("a critical member", critical),
        (
            "another issuer",
            with("iss", json!("https://issuer.example")),
        ),
        (
            "the issuer with a slash",
            with("iss", json!(format!("{}/", case.issuer.url()))),
        ),
        ("issuers", with("iss", json!([case.issuer.url()]))),
        ("no issuer", without("iss")),
        (
            "another audience",
            with("aud", json!("api.tailscale.com/x")),
        ),
        ("other audiences", with("aud", json!(["a", "b"]))),
        ("no audience", without("aud")),
        ("expired", with("exp", json!(now - 30))),
        ("no expiry", without("exp")),
        (
            "an expiry that is a text",
            with("exp", json!((now + 300).to_string())),
        ),
        ("from the future", with("iat", json!(now + 31))),
        ("not yet good", with("nbf", json!(now + 31))),
        ("another subject", with("sub", json!("repo:acme/other:ref"))),
        (
            "a longer subject",
            with("sub", json!("my-repo:acme/site:ref")),
        ),
        ("no subject", without("sub")),
        ("another claim", with("environment", json!("staging"))),
        ("no claim", without("environment")),
        ("too long", with("padding", json!("x".repeat(20_000)))),
    ];
    let before = case.net.engine.credentials(&case.net.admin, true).len();
    for (name, token) in attempts {
        let outcome = case.exchange(&identity, &token).await;
        assert!(
            matches!(&outcome, Err(ExchangeRefused::Token)),
            "{name}: {outcome:?}"
        );
    }
    assert_eq!(
        case.net.engine.credentials(&case.net.admin, true).len(),
        before
    );
    // One that is good still is.
    case.exchange(&identity, &signed).await.unwrap();
}

#[tokio::test]
async fn a_client_id_is_that_of_a_good_federated_identity() {
    let case = Case::new().await;
    let identity = case.made().await;
    let (engine, admin) = (&case.net.engine, &case.net.admin);
    let token = case.key.sign(&case.claims(&identity));
    let (_, auth_key) = engine
        .create_auth_key(admin, None, NewAuthKey::default())
        .await
        .unwrap();
    let other = engine
        .create_tailnet("bob@other.example", Some("other.example"))
        .await
        .unwrap();
    for client in [
        String::new(),
        identity.id.stable(),
        case.net.tailnet.stable(),
        client_id(case.net.tailnet, auth_key.id),
        client_id(other.tailnet, identity.id),
        format!("{}-{}", case.net.tailnet, identity.id),
    ] {
        let outcome = engine.exchange_token(&client, &token).await;
        assert!(
            matches!(&outcome, Err(ExchangeRefused::Request)),
            "{client}: {outcome:?}"
        );
    }
    assert_eq!(case.issuer.asked().len(), 0, "nobody was asked");
}

#[tokio::test]
async fn an_issuer_that_is_not_a_public_address_is_refused_where_it_is_written() {
    let case = Case::new().await;
    let (engine, admin) = (&case.net.engine, &case.net.admin);
    let identity = case.made().await;
    for issuer in [
        "",
        "issuer.example",
        "http://issuer.example",
        "HTTPS://issuer.example",
        "https://",
        "https:///path",
        "https://issuer.example?a=b",
        "https://issuer.example#a",
        "https://user@issuer.example",
        "https://issuer.example:0",
        "https://issuer example",
        "https://10.0.0.1",
        "https://169.254.169.254/latest/meta-data",
        "https://100.64.0.1",
        "https://[::1]",
        "https://[::ffff:127.0.0.1]",
        "https://[fd7a:115c:a1e0::1]",
    ] {
        let new = || NewFederatedIdentity {
            issuer: issuer.to_owned(),
            ..case.identity()
        };
        let made = engine.create_federated_identity(admin, new()).await;
        assert!(
            matches!(made, Err(Refusal::Invalid(_))),
            "{issuer}: {made:?}"
        );
        let changed = engine
            .change_federated_identity(admin, identity.id, new())
            .await;
        assert!(
            matches!(changed, Err(Refusal::Invalid(_))),
            "{issuer}: {changed:?}"
        );
    }
}

#[tokio::test]
async fn no_request_goes_where_a_name_or_a_document_leads_inside() {
    let case = Case::new().await;
    let identity = case.made().await;
    let pause = || case.net.clock.pass(SignedDuration::from_secs(31));

    // The name has another address now (rebinding).
    case.names.mean("127.0.0.2");
    assert!(!case.exchange_signed(&identity, &case.key).await);
    case.names.mean("10.0.0.1");
    pause();
    assert!(!case.exchange_signed(&identity, &case.key).await);
    assert_eq!(case.issuer.asked().len(), 0);
    case.names.mean("127.0.0.1");

    // Documents that lead elsewhere.
    let other = Issuer::start().await;
    let discovery = |keys: &str| {
        let document = json!({"issuer": case.issuer.url(), "jwks_uri": keys});
        Answer::Body(document.to_string())
    };
    for answer in [
        Answer::Redirect(format!("{}{DISCOVERY}", other.url())),
        discovery("http://issuer.example/keys"),
        discovery("https://10.0.0.1/keys"),
        discovery("https://[::1]/keys"),
        discovery("file:///etc/passwd"),
        discovery("https://user:password@issuer.example/keys"),
        Answer::Body(
            json!({"issuer": other.url(), "jwks_uri": format!("{}{KEYS}", case.issuer.url())})
                .to_string(),
        ),
        Answer::Body("[]".to_owned()),
        Answer::Body("x".repeat(100_000)),
    ] {
        pause();
        case.issuer.answer(DISCOVERY, answer.clone());
        assert!(
            !case.exchange_signed(&identity, &case.key).await,
            "{answer:?}"
        );
    }
    assert_eq!((case.issuer.fetches(), other.asked().len()), (0, 0));
    pause();
    case.issuer.answer(
        DISCOVERY,
        discovery(&format!("{}{KEYS}", case.issuer.url())),
    );
    case.issuer
        .answer(KEYS, Answer::Redirect(format!("{}{KEYS}", other.url())));
    assert!(!case.exchange_signed(&identity, &case.key).await);
    assert_eq!((case.issuer.fetches(), other.asked().len()), (1, 0));
}

#[tokio::test]
async fn a_document_of_keys_has_a_largest_size() {
    let case = Case::new().await;
    let identity = case.made().await;
    let padded = |bytes: usize| {
        let document = json!({"keys": [case.key.jwk()], "padding": "x".repeat(bytes)});
        Answer::Body(document.to_string())
    };
    case.issuer.answer(KEYS, padded(300_000));
    assert!(!case.exchange_signed(&identity, &case.key).await);
    case.net.clock.pass(SignedDuration::from_secs(31));
    case.issuer.answer(KEYS, padded(200_000));
    assert!(case.exchange_signed(&identity, &case.key).await);
}

#[tokio::test]
async fn keys_are_fetched_once_for_all_who_wait_and_again_when_they_are_old() {
    let case = Case::new().await;
    let identity = case.made().await;
    let token = case.key.sign(&case.claims(&identity));
    let all = (0..20).map(|_| case.exchange(&identity, &token));
    for outcome in futures_util::future::join_all(all).await {
        outcome.unwrap();
    }
    assert_eq!(case.issuer.fetches(), 1);

    case.net.clock.pass(SignedDuration::from_mins(59));
    assert!(case.exchange_signed(&identity, &case.key).await);
    assert_eq!(case.issuer.fetches(), 1);

    // What the issuer does not list any more is not believed any more.
    let second = SigningKey::new("second");
    case.issuer.publish(&[&second]);
    case.net.clock.pass(SignedDuration::from_mins(1));
    assert!(case.exchange_signed(&identity, &second).await);
    assert_eq!(case.issuer.fetches(), 2);
    assert!(!case.exchange_signed(&identity, &case.key).await);
    assert_eq!(case.issuer.fetches(), 3, "it might have come meanwhile");
    assert!(!case.exchange_signed(&identity, &case.key).await);
    assert_eq!(case.issuer.fetches(), 3);
}

#[tokio::test]
async fn a_key_that_is_not_known_is_looked_for_at_once_and_not_too_often() {
    let case = Case::new().await;
    let identity = case.made().await;
    assert!(case.exchange_signed(&identity, &case.key).await);

    // A moment after its keys were fetched.
    let second = SigningKey::new("second");
    case.issuer.publish(&[&case.key, &second]);
    assert!(case.exchange_signed(&identity, &second).await);
    assert_eq!(case.issuer.fetches(), 2);

    // Whoever makes up names of keys makes no requests.
    for number in 0..20 {
        let made_up = SigningKey::new(&format!("made up {number}"));
        assert!(!case.exchange_signed(&identity, &made_up).await);
    }
    assert_eq!(case.issuer.fetches(), 2);
    assert!(case.exchange_signed(&identity, &case.key).await);
}

#[tokio::test]
async fn keys_are_good_for_a_day_where_the_issuer_does_not_answer() {
    let case = Case::new().await;
    let identity = case.made().await;
    assert!(case.exchange_signed(&identity, &case.key).await);
    case.issuer
        .answer(DISCOVERY, Answer::Body("gone".to_owned()));
    case.net.clock.pass(SignedDuration::from_hours(23));
    assert!(case.exchange_signed(&identity, &case.key).await);
    case.net.clock.pass(SignedDuration::from_hours(1));
    assert!(!case.exchange_signed(&identity, &case.key).await);
}

#[tokio::test]
async fn an_issuer_that_hangs_keeps_nobody_else_waiting() {
    let (hanging, quick_one) = (Issuer::start().await, Issuer::start().await);
    let key = SigningKey::new("first");
    quick_one.publish(&[&key]);
    hanging.answer(DISCOVERY, Answer::Nothing);
    let settings = Settings {
        outbound: client(&[&hanging, &quick_one], Names::default()),
        ..quick()
    };
    let net = Net::with(settings, Options::default()).await;
    let made = |issuer: &Issuer| {
        let new = NewFederatedIdentity {
            scopes: scopes(&["dns:read"]),
            issuer: issuer.url().to_owned(),
            subject: SUBJECT.to_owned(),
            ..NewFederatedIdentity::default()
        };
        net.engine.create_federated_identity(&net.admin, new)
    };
    let (stuck, good) = (
        made(&hanging).await.unwrap(),
        made(&quick_one).await.unwrap(),
    );
    let token = |identity: &Credential| {
        let FederatedIdentity {
            issuer, audience, ..
        } = federated(identity);
        let expires = net.clock.now().as_second() + 300;
        key.sign(&json!({"iss": issuer, "sub": SUBJECT, "aud": audience, "exp": expires}))
    };
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let (engine, client) = (net.engine.clone(), client_id(net.tailnet, stuck.id));
            let token = token(&stuck);
            tokio::spawn(async move { engine.exchange_token(&client, &token).await })
        })
        .collect();
    until("the issuer was asked", || {
        (hanging.open() == 1).then_some(())
    })
    .await;

    let client = client_id(net.tailnet, good.id);
    let token = token(&good);
    let exchanged = net.engine.exchange_token(&client, &token);
    let exchanged = tokio::time::timeout(Duration::from_secs(3), exchanged).await;
    exchanged.expect("in time").unwrap();
    // All who wait for it were refused by the one request, and not one after the other.
    for outcome in waiting {
        assert!(matches!(
            outcome.await.unwrap(),
            Err(ExchangeRefused::Token)
        ));
    }
    assert_eq!(hanging.asked().len(), 1);
}

#[tokio::test]
async fn an_identity_is_changed_as_a_whole_and_keeps_its_audience() {
    let case = Case::new().await;
    let (engine, admin) = (&case.net.engine, &case.net.admin);
    let identity = case.made().await;
    let audience = federated(&identity).audience.clone();
    let new = NewFederatedIdentity {
        scopes: scopes(&["dns:read"]),
        subject: "repo:acme/other:*".to_owned(),
        custom_claim_rules: BTreeMap::new(),
        description: "other".to_owned(),
        ..case.identity()
    };
    let changed = engine.change_federated_identity(admin, identity.id, new.clone());
    let changed = changed.await.unwrap();
    let record = federated(&changed);
    assert_eq!(record.audience, audience);
    assert_eq!(record.subject, "repo:acme/other:*");
    assert!(record.custom_claim_rules.is_empty() && changed.updated.is_some());
    assert!(
        !case.exchange_signed(&changed, &case.key).await,
        "the subject is another one"
    );

    // The same again changes nothing, and another audience is taken over.
    case.net.clock.pass(SignedDuration::from_secs(10));
    let again = engine.change_federated_identity(admin, identity.id, new.clone());
    assert_eq!(again.await.unwrap().updated, changed.updated);
    let own = NewFederatedIdentity {
        audience: "sts.example".to_owned(),
        subject: SUBJECT.to_owned(),
        ..new
    };
    let changed = engine.change_federated_identity(admin, identity.id, own);
    let changed = changed.await.unwrap();
    assert_eq!(federated(&changed).audience, "sts.example");
    assert!(case.exchange_signed(&changed, &case.key).await);
}

#[tokio::test]
async fn an_identity_needs_what_an_oauth_client_needs_and_rules_that_mean_something() {
    let case = Case::new().await;
    let (engine, admin) = (&case.net.engine, &case.net.admin);
    let rule = |path: &str, pattern: &str| NewFederatedIdentity {
        custom_claim_rules: BTreeMap::from([(path.to_owned(), pattern.to_owned())]),
        ..case.identity()
    };
    let many = (0..21).map(|number| (format!("claim{number}"), "x".to_owned()));
    for new in [
        NewFederatedIdentity {
            scopes: Scopes::default(),
            ..case.identity()
        },
        NewFederatedIdentity {
            scopes: scopes(&["auth_keys"]),
            ..case.identity()
        },
        NewFederatedIdentity {
            subject: String::new(),
            ..case.identity()
        },
        NewFederatedIdentity {
            subject: "x".repeat(501),
            ..case.identity()
        },
        NewFederatedIdentity {
            audience: "a\nb".to_owned(),
            ..case.identity()
        },
        NewFederatedIdentity {
            tags: vec!["tag:unknown".to_owned()],
            ..case.identity()
        },
        NewFederatedIdentity {
            description: "a/b".to_owned(),
            ..case.identity()
        },
        rule("sub", "x"),
        rule("aud", "x"),
        rule("", "x"),
        rule("a..b", "x"),
        rule("a", ""),
        NewFederatedIdentity {
            custom_claim_rules: many.collect(),
            ..case.identity()
        },
    ] {
        let made = engine.create_federated_identity(admin, new.clone()).await;
        assert!(
            matches!(made, Err(Refusal::Invalid(_))),
            "{new:?}: {made:?}"
        );
    }
}

/// The ids of the keys that the server lists.
async fn listed(net: &Net) -> Vec<String> {
    let keys = net.engine.signing_keys().await.unwrap();
    let keys = keys["keys"].as_array().unwrap().clone();
    let ids = keys
        .iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned());
    ids.collect()
}

#[tokio::test]
async fn a_device_exchanges_the_token_that_this_server_signed() {
    let issuer = Issuer::start().await;
    let settings = Settings {
        outbound: issuer.client(),
        url: issuer.url().to_owned(),
        sealer: Some(Sealer::new(&[7; 32]).unwrap()),
        ..quick()
    };
    let net = Net::with(settings, Options::default()).await;
    let device = net.join(1).await;
    let entry = net
        .engine
        .snapshot(net.tailnet)
        .unwrap()
        .device(device)
        .unwrap()
        .clone();
    let new = NewFederatedIdentity {
        scopes: scopes(&["dns:read"]),
        issuer: issuer.url().to_owned(),
        subject: format!("{}.*", entry.device.name),
        custom_claim_rules: BTreeMap::from([("domain".to_owned(), "example.com".to_owned())]),
        ..NewFederatedIdentity::default()
    };
    let identity = net
        .engine
        .create_federated_identity(&net.admin, new)
        .await
        .unwrap();
    let keys = net.engine.signing_keys().await.unwrap();
    issuer.answer(KEYS, Answer::Body(keys.to_string()));

    let (machine, node) = (machine_key(1), node_key(1));
    let audience = federated(&identity).audience.clone();
    let signed = net.engine.device_token(machine, &node, &audience);
    let signed = signed.await.unwrap();
    let client = client_id(net.tailnet, identity.id);
    net.engine.exchange_token(&client, &signed).await.unwrap();
    // For another audience it is good for nothing here.
    let other = net.engine.device_token(machine, &node, "sts.example");
    let other = other.await.unwrap();
    let refused = net.engine.exchange_token(&client, &other).await;
    assert!(
        matches!(refused, Err(ExchangeRefused::Token)),
        "{refused:?}"
    );
}

#[tokio::test]
async fn signing_keys_outlive_a_restart_and_are_listed_before_they_sign() {
    let settings = Settings {
        sealer: Some(Sealer::new(&[7; 32]).unwrap()),
        // The time that passes below is not a fault of the clock.
        clock_jump: Duration::ZERO,
        ..quick()
    };
    let net = Net::with(settings, Options::default()).await;
    net.join(1).await;
    let signer = async |net: &Net| {
        let node = node_key(1);
        let token = net
            .engine
            .device_token(machine_key(1), &node, "sts.example");
        let token = token.await.unwrap();
        jsonwebtoken::decode_header(token).unwrap().kid.unwrap()
    };
    let first = listed(&net).await;
    assert_eq!(first.len(), 2, "the present one and the next");
    assert_eq!(signer(&net).await, first[0]);

    let net = net.restart(SignedDuration::from_secs(1)).await;
    assert_eq!(listed(&net).await, first);

    // A period later the next one signs, and the last one is listed still.
    let net = net.restart(SignedDuration::from_hours(30 * 24)).await;
    let second = listed(&net).await;
    assert_eq!((second.len(), &second[..2]), (3, &first[..]));
    assert_eq!(signer(&net).await, first[1]);

    // Another one, and it is gone.
    let net = net.restart(SignedDuration::from_hours(30 * 24)).await;
    let third = listed(&net).await;
    assert_eq!(&third[..2], &second[1..]);
    assert!(!third.contains(&first[0]));
    assert_eq!(signer(&net).await, second[2]);
}
