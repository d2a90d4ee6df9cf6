//! Jobs by a clock that is moved.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_model::requirement::Requirement;
use bowline_store::{Claim, JobRow, Options, Owner, Sealer, Store, Waiting};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::core::draft::{Draft, Emitted};
use crate::core::engine::{Engine, Running, Subjects, Work};
use crate::core::failure::StoreFailure;
use crate::core::job_log::{JobFailed, JobReport};
use crate::{Actor, Clock, Refusal, Settings, SystemRandom};

struct TestClock(Mutex<Timestamp>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        let since = self.now().duration_since(Timestamp::UNIX_EPOCH);
        since.unsigned_abs()
    }
}

impl TestClock {
    fn pass(&self, time: SignedDuration) {
        *self.0.lock().unwrap() += time;
    }
}

/// What was done, in order.
#[derive(Default)]
struct Done(Mutex<Vec<String>>);

fn done(engine: &Engine) -> Vec<String> {
    let done = engine.0.memory.get(Done::default);
    let done = done.0.lock().unwrap();
    done.clone()
}

fn note(engine: Engine, claim: Claim) -> Running {
    Box::pin(async move {
        let body: serde_json::Value = serde_json::from_str(&claim.job.body).unwrap();
        let text = format!("{} {}", claim.job.topic, body["n"]);
        engine
            .0
            .memory
            .get(Done::default)
            .0
            .lock()
            .unwrap()
            .push(text);
        let fails = body["fails"].as_u64().unwrap_or(0);
        if u64::from(claim.attempts) <= fails {
            return Err(JobFailed::Change(StoreFailure::Stopping));
        }
        assert!(body["panics"].is_null(), "on purpose");
        if body["hangs"].is_boolean() {
            std::future::pending::<()>().await;
        }
        Ok(())
    })
}

static SUBJECTS: Subjects = Subjects {
    due: &[],
    begins: &[],
    tasks: &[],
    follows: &[],
    jobs: &[
        Work {
            topic: "note",
            places: 8,
            lease: Duration::from_mins(1),
            every: None,
            run: note,
        },
        Work {
            topic: "hang",
            places: 8,
            lease: Duration::from_millis(150),
            every: None,
            run: note,
        },
        Work {
            topic: "often",
            places: 8,
            lease: Duration::from_mins(1),
            every: Some(Duration::from_mins(10)),
            run: note,
        },
    ],
};

async fn store(path: &Path) -> Store {
    let url = path.join("bowline.db").as_path().into();
    Store::open(&url, Options::default()).await.unwrap()
}

fn clock() -> Arc<TestClock> {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    Arc::new(TestClock(Mutex::new(now)))
}

async fn engine(store: Store, clock: &Arc<TestClock>) -> Engine {
    let (clock, random) = (clock.clone(), Arc::new(SystemRandom));
    let settings = Settings {
        clock_jump: Duration::ZERO,
        ..Settings::default()
    };
    Engine::open_with(store, settings, clock, random, &SUBJECTS)
        .await
        .unwrap()
}

fn row(id: u64, topic: &str, engine: &Engine, body: &serde_json::Value) -> JobRow {
    JobRow {
        id,
        topic: topic.to_owned(),
        lane: None,
        name: None,
        at: engine.now(),
        due_at: engine.now(),
        body: body.to_string().into(),
    }
}

async fn add(engine: &Engine, id: u64, topic: &str, body: serde_json::Value) {
    let row = row(id, topic, engine, &body);
    engine.0.store.add_job(row).await.unwrap();
}

/// What waits, without what is done again and again.
async fn waiting(engine: &Engine) -> Vec<Waiting> {
    let mut waiting = engine.0.store.jobs_waiting().await.unwrap();
    waiting.retain(|one| one.topic != "often");
    waiting
}

fn of_topic(engine: &Engine, topic: &str) -> JobReport {
    engine.jobs_report()[topic]
}

async fn admin(engine: &Engine) -> Actor {
    let made = engine
        .create_tailnet("ann@example.com", None)
        .await
        .unwrap();
    let admin = engine.authenticate(made.token.expose()).unwrap();
    admin.asking(Requirement::CALLER)
}

fn emitted(number: u64) -> Emitted {
    Emitted {
        topic: "note",
        lane: None,
        name: None,
        body: json!({"n": number}),
    }
}

#[tokio::test]
async fn what_a_change_emits_is_done_after_it_and_nothing_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let engine = engine(store(directory.path()).await, &clock).await;
    let admin = admin(&engine).await;
    let change = |number, refuse| {
        engine.write(&admin, move |draft: &mut Draft<'_>| {
            draft.emit(emitted(number));
            if refuse {
                return Err(Refusal::NotFound);
            }
            Ok(())
        })
    };
    change(1, false).await.unwrap();
    change(2, true).await.unwrap_err();
    engine.run_jobs().await;
    let notes = |engine: &Engine| {
        let mut done = done(engine);
        done.retain(|text| text.starts_with("note"));
        done
    };
    assert_eq!(notes(&engine), ["note 1"]);
    assert!(waiting(&engine).await.is_empty());
    engine.run_jobs().await;
    assert_eq!(notes(&engine), ["note 1"], "once");
    assert_eq!(of_topic(&engine, "note").done, 1);
    // The runner hears of it by itself.
    change(3, false).await.unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while notes(&engine).len() < 2 {
        assert!(tokio::time::Instant::now() < deadline, "nothing woke it");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    engine.close().await;
}

#[tokio::test]
async fn a_job_that_fails_is_tried_again_later_and_later() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let engine = engine(store(directory.path()).await, &clock).await;
    add(&engine, 1, "note", json!({"n": 1, "fails": 3})).await;
    for (seconds, failed) in [(0, 1), (9, 1), (1, 2), (19, 2), (1, 3), (39, 3)] {
        clock.pass(SignedDuration::from_secs(seconds));
        engine.run_jobs().await;
        let report = of_topic(&engine, "note");
        assert_eq!((report.failed, report.failing), (failed, 1), "{seconds}");
    }
    clock.pass(SignedDuration::from_secs(1));
    engine.run_jobs().await;
    let report = JobReport {
        done: 1,
        failed: 3,
        failing: 0,
    };
    assert_eq!(of_topic(&engine, "note"), report);
    assert!(waiting(&engine).await.is_empty());
    engine.close().await;
}

#[tokio::test]
async fn a_panic_costs_its_job_alone() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let engine = engine(store(directory.path()).await, &clock).await;
    add(&engine, 1, "note", json!({"n": 1, "panics": true})).await;
    add(&engine, 2, "note", json!({"n": 2})).await;
    engine.run_jobs().await;
    let report = of_topic(&engine, "note");
    assert_eq!((report.done, report.failed, report.failing), (1, 1, 1));
    add(&engine, 3, "note", json!({"n": 3})).await;
    engine.run_jobs().await;
    assert_eq!(of_topic(&engine, "note").done, 2);
    engine.close().await;
}

#[tokio::test]
async fn jobs_of_a_lane_wait_for_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let engine = engine(store(directory.path()).await, &clock).await;
    for (id, body) in [(1, json!({"n": 1, "fails": 1})), (2, json!({"n": 2}))] {
        let row = JobRow {
            lane: Some("endpoint".to_owned()),
            ..row(id, "note", &engine, &body)
        };
        engine.0.store.add_job(row).await.unwrap();
    }
    engine.run_jobs().await;
    clock.pass(SignedDuration::from_secs(60));
    engine.run_jobs().await;
    let mut notes = done(&engine);
    notes.retain(|text| text.starts_with("note"));
    assert_eq!(notes, ["note 1", "note 1", "note 2"]);
    engine.close().await;
}

#[tokio::test]
async fn what_is_done_again_and_again_goes_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let first = engine(store(directory.path()).await, &clock).await;
    first.run_jobs().await;
    first.run_jobs().await;
    assert_eq!(of_topic(&first, "often").done, 1);
    clock.pass(SignedDuration::from_secs(599));
    first.run_jobs().await;
    assert_eq!(of_topic(&first, "often").done, 1);
    first.close().await;
    let second = engine(store(directory.path()).await, &clock).await;
    second.run_jobs().await;
    assert_eq!(of_topic(&second, "often").done, 0);
    clock.pass(SignedDuration::from_secs(1));
    second.run_jobs().await;
    assert_eq!(of_topic(&second, "often").done, 1);
    let rows = second.0.store.jobs_waiting().await.unwrap();
    assert_eq!(rows.iter().map(|one| one.count).sum::<u64>(), 1);
    second.close().await;
}

#[tokio::test]
async fn two_processes_do_each_job_once() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let store = store(directory.path()).await;
    let (one, two) = (
        engine(store.clone(), &clock).await,
        engine(store.clone(), &clock).await,
    );
    for id in 1..=40 {
        add(&one, id, "note", json!({"n": id})).await;
    }
    tokio::join!(one.run_jobs(), two.run_jobs());
    let mut all = [done(&one), done(&two)].concat();
    all.sort_unstable();
    let often = all.iter().filter(|text| text.starts_with("often")).count();
    assert_eq!((often, all.len()), (1, 41), "{all:?}");
    all.dedup();
    assert_eq!(all.len(), 41);
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn the_job_of_a_process_that_died_is_taken_over_when_its_claim_has_run_out() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let engine = engine(store(directory.path()).await, &clock).await;
    add(&engine, 1, "note", json!({"n": 1})).await;
    // One that was being done again and again, too.
    let often = JobRow {
        name: Some("often".to_owned()),
        lane: Some("often".to_owned()),
        ..row(2, "often", &engine, &json!({}))
    };
    engine.0.store.add_job(often).await.unwrap();
    let until = engine.now() + SignedDuration::from_secs(60);
    for topic in ["note", "often"] {
        let claims = engine.0.store.claim_jobs(topic, engine.now(), until, 9);
        assert_eq!(claims.await.unwrap().len(), 1);
    }
    engine.run_jobs().await;
    clock.pass(SignedDuration::from_secs(59));
    engine.run_jobs().await;
    assert!(done(&engine).is_empty());
    clock.pass(SignedDuration::from_secs(1));
    engine.run_jobs().await;
    assert_eq!(of_topic(&engine, "note").done, 1);
    assert_eq!(of_topic(&engine, "often").done, 1);
    // And that goes on.
    clock.pass(SignedDuration::from_mins(10));
    engine.run_jobs().await;
    assert_eq!(of_topic(&engine, "often").done, 2);
    engine.close().await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_does_not_put_jobs_off() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let engine = engine(store(directory.path()).await, &clock).await;
    let ahead = SignedDuration::from_hours(24 * 400);
    clock.pass(ahead);
    engine.run_jobs().await;
    assert_eq!(of_topic(&engine, "often").done, 1);
    clock.pass(-ahead);
    engine.run_jobs().await;
    assert_eq!(of_topic(&engine, "often").done, 2);
    clock.pass(SignedDuration::from_secs(599));
    engine.run_jobs().await;
    assert_eq!(of_topic(&engine, "often").done, 2, "and at its time again");
    engine.close().await;
}

/// Waits until a job hangs.
async fn hanging(engine: &Engine) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !done(engine).iter().any(|text| text.starts_with("hang")) {
        assert!(tokio::time::Instant::now() < deadline, "it does not begin");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_claim_is_renewed_while_its_job_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let engine = engine(store(directory.path()).await, &clock).await;
    add(&engine, 1, "hang", json!({"n": 1, "hangs": true})).await;
    engine.0.jobs.wake();
    hanging(&engine).await;
    let first = waiting(&engine).await[0].next.unwrap();
    clock.pass(SignedDuration::from_millis(100));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while waiting(&engine).await[0].next.unwrap() <= first {
        assert!(tokio::time::Instant::now() < deadline, "it is not renewed");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    engine.close().await;
}

#[tokio::test]
async fn a_job_ends_with_the_engine_and_is_given_back() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let first = engine(store(directory.path()).await, &clock).await;
    add(&first, 1, "hang", json!({"n": 1, "hangs": true})).await;
    first.0.jobs.wake();
    hanging(&first).await;
    assert!(first.close_within(Duration::from_secs(10)).await);
    let store = store(directory.path()).await;
    let claims = store.claim_jobs("hang", clock.now(), clock.now(), 9).await;
    let claims = claims.unwrap();
    assert_eq!((claims.len(), claims[0].attempts), (1, 1));
    store.close().await;
}

#[tokio::test]
async fn an_object_and_its_secret_are_made_and_removed_in_one_change() {
    let directory = tempfile::tempdir().unwrap();
    let clock = clock();
    let engine = engine(store(directory.path()).await, &clock).await;
    let admin = admin(&engine).await;
    let sealer = Sealer::new(&[7; 32]).unwrap();
    let change = |secret: Option<&'static [u8]>, refuse: bool| {
        let sealer = sealer.clone();
        engine.write(&admin, move |draft: &mut Draft<'_>| {
            match secret {
                Some(secret) => draft.put_secret(&sealer, "webhook", secret)?,
                None => draft.remove_secret("webhook"),
            }
            if refuse {
                return Err(Refusal::NotFound);
            }
            Ok(())
        })
    };
    let stored = async || {
        let sealed = engine.0.store.secret(admin.tailnet, "webhook").await;
        sealed.unwrap().map(|sealed| {
            let secret = sealer.open(admin.tailnet, "webhook", &sealed).unwrap();
            secret.to_vec()
        })
    };
    change(Some(b"one"), false).await.unwrap();
    assert_eq!(stored().await, Some(b"one".to_vec()));
    change(Some(b"two"), true).await.unwrap_err();
    assert_eq!(stored().await, Some(b"one".to_vec()));
    assert!(
        engine
            .0
            .store
            .secret(Owner::Server, "webhook")
            .await
            .unwrap()
            .is_none()
    );
    change(None, false).await.unwrap();
    assert_eq!(stored().await, None);
    engine.close().await;
}
