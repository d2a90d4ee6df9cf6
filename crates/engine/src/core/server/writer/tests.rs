//! Closures that refuse or panic, and a writer that dies.

use std::sync::Arc;

use bowline_model::audit::ActorRef;
use bowline_model::event::{Event, TailnetRef};
use bowline_model::id::{DeviceId, TailnetId, WaitingSessionId};
use bowline_model::waiting::{SshSession, WaitingSession};
use bowline_store::{Batch, Delete, Kind, Options, Owner, Store};
use futures_util::future::join_all;

use crate::core::server::draft::ServerDraft;
use crate::core::server::room::Limits;
use crate::core::server::state::ServerState;
use crate::{Engine, Refusal, Settings, StoreFailure, SystemClock, SystemRandom};

async fn engine() -> (Engine, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bowline.db");
    let url = path.as_path().into();
    let store = Store::open(&url, Options::default()).await.unwrap();
    let (clock, random) = (Arc::new(SystemClock), Arc::new(SystemRandom));
    let engine = Engine::open(store, Settings::default(), clock, random);
    (engine.await.unwrap(), directory)
}

/// The device of a session that the writer dies of, once, when it was stored.
const POISON: u64 = 666;

pub(super) fn panic_on_purpose(state: &ServerState, touched: &[(Kind, u64)]) {
    let is_poison = |number: u64| {
        let body = state.sessions.body(number);
        body.is_some_and(|body| body.record.session.target.get() == POISON)
    };
    assert!(
        !touched.iter().any(|(_, number)| is_poison(*number)),
        "on purpose"
    );
}

/// Lets a session in, to the device of this number.
fn enter(draft: &mut ServerDraft<'_>, number: u64) {
    let device = |number| DeviceId::new(number).unwrap();
    let now = draft.now();
    let waiting = WaitingSession {
        id: WaitingSessionId::new(draft.new_id()).unwrap(),
        session: SshSession {
            tailnet: TailnetId::MIN,
            source: device(1),
            target: device(number),
            user: "root".to_owned(),
        },
        since: now,
        expires: now + jiff::SignedDuration::from_hours(1),
        decided: None,
    };
    let limits = Limits {
        records: 1000,
        share: |_| usize::MAX,
        asker: usize::MAX,
    };
    draft.enter(waiting, &limits);
}

fn targets(engine: &Engine) -> Vec<u64> {
    let state = engine.0.server.state();
    let waiting = state.sessions.all(engine.now());
    waiting.map(|one| one.session.target.get()).collect()
}

#[tokio::test]
async fn a_closure_that_refuses_or_panics_leaves_no_trace_and_others_commit() {
    let (engine, _directory) = engine().await;
    let outcomes = join_all((1..=40_u64).map(|number| {
        engine.write_server(ActorRef::System, move |draft| {
            enter(draft, number);
            draft.audit(&Event::KeyDuration {
                tailnet: TailnetRef {
                    id: TailnetId::MIN,
                    name: "x".to_owned(),
                },
                old: 0,
                new: u32::try_from(number).unwrap(),
            });
            match number % 4 {
                2 => Err(Refusal::NotPermitted),
                3 => panic!("on purpose"),
                _ => Ok(()),
            }
        })
    }))
    .await;
    for (outcome, number) in outcomes.iter().zip(1..) {
        let expected = match number % 4 {
            2 => matches!(outcome, Err(Refusal::NotPermitted)),
            3 => matches!(outcome, Err(Refusal::Store(StoreFailure::Defect(_)))),
            _ => outcome.is_ok(),
        };
        assert!(expected, "{number}: {outcome:?}");
    }
    let good: Vec<u64> = (1..=40).filter(|number| number % 4 < 2).collect();
    assert_eq!(targets(&engine), good);
    let loaded = engine.store().load(Owner::Server).await.unwrap();
    assert_eq!(loaded.rows.len(), 20);
    assert!(loaded.seq <= 2, "together, but for the first");
    let (from, to) = (jiff::Timestamp::MIN, jiff::Timestamp::MAX);
    let events = engine.store().audit(Owner::Server, from, to, 99).await;
    assert_eq!(events.unwrap().len(), 20);
    engine.close().await;
}

#[tokio::test]
async fn a_change_that_another_process_preceded_runs_again_on_what_that_one_left() {
    let (engine, _directory) = engine().await;
    let write = async |number| {
        let written = engine.write_server(ActorRef::System, move |draft| {
            enter(draft, number);
            Ok::<_, StoreFailure>(())
        });
        written.await.unwrap();
    };
    write(1).await;
    let followed = engine.0.server.state();
    let first = followed.sessions.numbers().next().unwrap();
    let mut follower = engine
        .0
        .server
        .follow(Kind::SshCheck, first, false)
        .unwrap();
    // Far more than the log of the server keeps: everything is read.
    for (base, number) in [(1, 2), (152, 3)] {
        let mut other = Batch::new(Owner::Server, base, [9; 16], engine.now());
        if number == 2 {
            let (kind, id) = (Kind::SshCheck, first);
            other.deletes.push(Delete { kind, id });
        }
        let mut seq = engine.store().commit(other).await.unwrap();
        for _ in 0..if number == 3 { 150 } else { 0 } {
            let empty = Batch::new(Owner::Server, seq, [8; 16], engine.now());
            seq = engine.store().commit(empty).await.unwrap();
        }
        write(number).await;
        if number == 2 {
            assert!(follower.changed().await.is_err(), "what waits is gone");
            // To the number that the second round begins with.
            for base in 3..152 {
                let empty = Batch::new(Owner::Server, base, [7; 16], engine.now());
                engine.store().commit(empty).await.unwrap();
            }
        }
    }
    assert_eq!(targets(&engine), [2, 3]);
    engine.close().await;
}

#[tokio::test]
async fn a_flood_of_changes_is_a_few_commits() {
    let (engine, _directory) = engine().await;
    let began = tokio::time::Instant::now();
    let write = |number| {
        engine.write_server(ActorRef::System, move |draft| {
            enter(draft, number);
            Ok::<_, StoreFailure>(())
        })
    };
    for _ in 0..20 {
        join_all((1..=20).map(write)).await;
    }
    let seq = engine.store().seq(Owner::Server).await.unwrap();
    let most = began.elapsed().as_millis() / super::PACE.as_millis() + 2;
    assert!(u128::from(seq) <= most, "{seq} commits, at most {most}");
    assert_eq!(targets(&engine).len(), 400);
    engine.close().await;
}

#[tokio::test]
async fn a_writer_that_dies_is_started_again_with_what_is_stored() {
    let (engine, _directory) = engine().await;
    let write = |number| {
        engine.write_server(ActorRef::System, move |draft| {
            enter(draft, number);
            Ok::<_, StoreFailure>(())
        })
    };
    write(1).await.unwrap();
    let lost = write(POISON).await;
    assert!(matches!(lost, Err(StoreFailure::WriterLost)), "{lost:?}");
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    // Refused for a moment, and said so; then it goes on, with what was stored before it died.
    let mut was_said = false;
    while let Err(refused) = write(2).await {
        assert!(matches!(refused, StoreFailure::WriterLost), "{refused:?}");
        was_said |= engine.is_server_out_of_order();
        assert!(tokio::time::Instant::now() < deadline, "in vain");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(was_said && !engine.is_server_out_of_order());
    assert_eq!(targets(&engine), [1, POISON, 2]);
    engine.close().await;
}
