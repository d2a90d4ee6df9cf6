//! Records of the server: what waits survives a restart, a crash and a hand-over.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bowline_engine::{
    Followed, LoginState, Refusal, Registered, RegistrationRefused, Settings, SshAnswer,
};
use bowline_store::{Kind, Options, Owner};
use jiff::{SignedDuration, Timestamp};

use crate::net::{Net, quick, request};
use crate::ssh_check::Pair;

/// Where logins come from.
const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

async fn begin(net: &Net, number: u64) -> String {
    let begun = net.engine.begin_login(request(number, ""), SOURCE);
    begun.await.unwrap()
}

async fn rows(net: &Net, kind: Kind) -> Vec<String> {
    let loaded = net.engine.store().load(Owner::Server).await.unwrap();
    let rows = loaded.rows.into_iter().filter(|row| row.kind == kind);
    rows.map(|row| row.body.into()).collect()
}

#[tokio::test]
async fn a_login_waits_on_through_a_restart_and_lets_its_device_in() {
    let net = Net::new().await;
    let code = begin(&net, 1).await;
    let refused = begin(&net, 2).await;
    let net = net.restart(SignedDuration::from_mins(1)).await;
    let login = net.engine.login(&code).unwrap();
    assert_eq!(login.source, SOURCE);
    assert_eq!(*login.request, request(1, ""));
    assert_eq!(
        login.expires.duration_since(login.since),
        SignedDuration::from_hours(1)
    );
    assert_eq!(begin(&net, 1).await, code, "the same asked again");
    assert!(net.engine.knows_machine(request(1, "").machine_key));
    assert_eq!(net.engine.logins_waiting(), 2);
    let (engine, followed) = (net.engine.clone(), code.clone());
    let waits =
        tokio::spawn(async move { engine.follow_login(&followed, request(1, ""), SOURCE).await });
    tokio::task::yield_now().await;
    let confirmed = net
        .engine
        .confirm_login(&net.admin, &code, Some("ann@example.com"), None);
    let device = confirmed.await.unwrap();
    let tailnet = net.tailnet;
    assert_eq!(
        waits.await.unwrap().unwrap(),
        Followed::In { tailnet, device }
    );
    net.engine.refuse_login(&net.admin, &refused).await.unwrap();
    // What was decided is known after another one, for who lost the answer.
    let net = net.restart(SignedDuration::from_mins(1)).await;
    let confirmed = LoginState::Confirmed { tailnet, device };
    assert_eq!(net.engine.login(&code).unwrap().state, confirmed);
    let told = net
        .engine
        .follow_login(&refused, request(2, ""), SOURCE)
        .await;
    assert_eq!(told.unwrap(), Followed::Refused);
    assert_eq!(net.engine.logins_waiting(), 0);
    assert!(!net.engine.knows_machine(request(2, "").machine_key));
}

#[tokio::test]
async fn what_has_expired_is_not_found_and_its_rows_go() {
    let net = Net::new().await;
    let code = begin(&net, 1).await;
    net.move_clock(SignedDuration::from_mins(30));
    let later = begin(&net, 2).await;
    net.move_clock(SignedDuration::from_mins(30));
    assert!(net.engine.login(&code).is_none(), "though its row is there");
    assert_eq!(rows(&net, Kind::WaitingLogin).await.len(), 2);
    net.pass(SignedDuration::ZERO).await;
    assert_eq!(rows(&net, Kind::WaitingLogin).await.len(), 1);
    // Also what expired while nobody was there to see it.
    let net = net.restart(SignedDuration::from_hours(1)).await;
    assert!(net.engine.login(&later).is_none());
    net.pass(SignedDuration::ZERO).await;
    assert!(rows(&net, Kind::WaitingLogin).await.is_empty());
}

#[tokio::test]
async fn limits_count_what_waited_before_a_restart() {
    let net = Net::new().await;
    let one = |number| net.engine.begin_login(request(number, ""), SOURCE);
    let mut codes = Vec::new();
    for some in [1..65, 65..129] {
        codes.extend(futures_util::future::join_all(some.map(one)).await);
    }
    let codes: Vec<String> = codes.into_iter().map(Result::unwrap).collect();
    let net = net.restart(SignedDuration::ZERO).await;
    assert!(net.engine.login(&codes[0]).is_some());
    begin(&net, 129).await;
    assert!(
        net.engine.login(&codes[0]).is_none(),
        "the oldest of the source"
    );
    assert!(net.engine.login(&codes[1]).is_some());
    assert_eq!(rows(&net, Kind::WaitingLogin).await.len(), 128);
}

#[tokio::test]
async fn the_database_does_not_say_a_code() {
    let net = Net::new().await;
    let code = begin(&net, 1).await;
    let files = ["bowline.db", "bowline.db-wal"].map(|name| net.directory.path().join(name));
    let bytes = files.map(|file| std::fs::read(file).unwrap()).concat();
    let has = |text: &str| {
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(
        has(&request(1, "").node_key.to_string()),
        "the request is there"
    );
    assert!(!has(&code));
}

#[tokio::test]
async fn a_session_waits_on_through_a_restart_and_its_confirmation_holds_after_another() {
    let mut pair = Pair::new("1h").await;
    let code = pair.code().await;
    pair.net = pair.net.restart(SignedDuration::from_mins(1)).await;
    assert_eq!(pair.code().await, code, "the same session, asked again");
    let waits = pair.wait(&code);
    tokio::task::yield_now().await;
    pair.decide(&code, true).await.unwrap();
    assert_eq!(waits.await.unwrap(), Some(SshAnswer::Accept));
    pair.net = pair.net.restart(SignedDuration::from_mins(1)).await;
    assert_eq!(pair.ask().await, SshAnswer::Accept);
    assert_eq!(
        pair.net.engine.ssh_check(&code).unwrap().decided,
        Some(true)
    );
    pair.net.pass(SignedDuration::from_hours(1)).await;
    assert_ne!(pair.code().await, code, "the period is over");
    pair.net.pass(SignedDuration::from_hours(7 * 24)).await;
    assert!(rows(&pair.net, Kind::SshConfirmation).await.is_empty());
    assert!(rows(&pair.net, Kind::SshCheck).await.is_empty());
}

/// The server is stopped between the tailnet's change, by which the device is in, and the server's,
/// which notes what became of the login.
#[tokio::test]
async fn a_device_that_is_in_waits_for_nothing_though_nobody_noted_it() {
    let net = Net::new().await;
    let code = begin(&net, 1).await;
    let key = net.one_off().await;
    let device = net.register(request(1, &key)).await;
    let net = net.restart(SignedDuration::ZERO).await;
    let tailnet = net.tailnet;
    let confirmed = LoginState::Confirmed { tailnet, device };
    assert_eq!(net.engine.login(&code).unwrap().state, confirmed);
    assert!(net.engine.logins(&net.admin).unwrap().is_empty());
    let told = net.engine.follow_login(&code, request(1, ""), SOURCE).await;
    assert_eq!(told.unwrap(), Followed::In { tailnet, device });
}

#[tokio::test]
async fn a_tailnet_and_the_servers_audit_event_are_made_in_one_change() {
    let net = Net::new().await;
    let before = net.engine.store().seq(Owner::Server).await.unwrap();
    let names = ["eve@example.org", "eve@example.org", "bob@example.net"];
    let made =
        futures_util::future::join_all(names.map(|owner| net.engine.create_tailnet(owner, None)))
            .await;
    let [first, again, other] = <[_; 3]>::try_from(made).unwrap();
    let taken = again.unwrap_err();
    assert!(
        matches!(&taken, Refusal::Invalid(text) if text.contains("exists already")),
        "{taken:?}"
    );
    // They waited together: one transaction, which has both of them and the events of the server.
    let after = net.engine.store().seq(Owner::Server).await.unwrap();
    assert!(after <= before + 2, "{before} {after}");
    let events = net
        .engine
        .store()
        .audit(Owner::Server, Timestamp::MIN, Timestamp::MAX, 99)
        .await
        .unwrap();
    let created = |name: &str| events.iter().filter(|row| row.body.contains(name)).count();
    for made in [first, other] {
        let made = made.unwrap();
        let name = net
            .engine
            .snapshot(made.tailnet)
            .unwrap()
            .tailnet()
            .name
            .clone();
        assert_eq!(created(&name), 1);
        assert!(net.engine.authenticate(made.token.expose()).is_some());
    }
    let net = net.restart(SignedDuration::ZERO).await;
    assert_eq!(net.engine.tailnets().len(), 3);
}

#[tokio::test]
async fn while_nothing_can_be_stored_no_login_begins_and_what_waits_is_found() {
    let settings = Settings {
        commit_timeout: Duration::from_millis(300),
        ..quick()
    };
    let net = Net::with(settings, Options::default()).await;
    let code = begin(&net, 1).await;
    // Somebody else has locked the database, for longer than a change waits.
    let path = net.directory.path().join("bowline.db");
    let other = rusqlite::Connection::open(path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = net.engine.begin_login(request(2, ""), SOURCE).await;
    assert!(
        matches!(begun, Err(RegistrationRefused::Store(_))),
        "{begun:?}"
    );
    let made = net.engine.create_tailnet("eve@example.org", None).await;
    assert!(matches!(made, Err(Refusal::Store(_))), "{made:?}");
    assert_eq!(net.engine.logins_waiting(), 1);
    // What is asked for again needs no write.
    assert_eq!(begin(&net, 1).await, code);
    other.execute_batch("ROLLBACK").unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while net
        .engine
        .begin_login(request(2, ""), SOURCE)
        .await
        .is_err()
    {
        assert!(tokio::time::Instant::now() < deadline, "in vain");
    }
    assert_eq!(net.engine.logins_waiting(), 2);
}

#[tokio::test]
async fn registration_of_a_device_that_waits_asks_for_its_login_after_a_restart() {
    let net = Net::with(quick(), Options::default()).await;
    let code = begin(&net, 1).await;
    let net = net.restart(SignedDuration::ZERO).await;
    let outcome = net.try_register(request(1, "")).await.unwrap();
    assert_eq!(outcome, Registered::NeedsLogin);
    let unknown = net.engine.follow_login("", request(1, ""), SOURCE).await;
    assert_eq!(unknown.unwrap(), Followed::Begun(code));
}
