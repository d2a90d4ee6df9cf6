//! Jobs: who may do them, and when.

use std::sync::Arc;

use bowline_store::{Again, Batch, CommitError, JobRow, Owner, Prune, Store, Waiting};

use crate::database::Database;
use crate::rows::{at, batch, job, jobs, tailnet};

fn in_lane(id: u64, lane: &str) -> JobRow {
    JobRow {
        lane: Some(lane.to_owned()),
        ..job(id, "webhook")
    }
}

async fn add(store: &Store, of: u64, jobs: Vec<JobRow>) {
    let base = store.seq(tailnet(of)).await.unwrap();
    let batch = Batch {
        jobs,
        ..batch(of, base)
    };
    store.commit(batch).await.unwrap();
}

/// Ids of what is claimed at a second, until another.
async fn claimed(store: &Store, now: i64, until: i64) -> Vec<u64> {
    let claims = store.claim_jobs("webhook", at(now), at(until), 9).await;
    claims.unwrap().iter().map(|claim| claim.job.id).collect()
}

pub(crate) async fn a_job_is_claimed_by_one_and_gone_when_it_is_done(database: Arc<Database>) {
    let store = database.open().await;
    let later = JobRow {
        due_at: at(50),
        ..job(3, "webhook")
    };
    add(&store, 1, vec![job(1, "webhook"), job(2, "mail"), later]).await;
    add(&store, 2, vec![job(4, "webhook")]).await;
    let first = store.claim_jobs("webhook", at(9), at(20), 1).await.unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].job, job(1, "webhook"));
    assert_eq!(first[0].owner, tailnet(1).into());
    assert_eq!((first[0].attempts, first[0].until), (1, at(20)));
    assert_eq!(claimed(&store, 10, 20).await, [4]);
    assert!(claimed(&store, 19, 30).await.is_empty());
    let waiting = |topic: &str, count, second| Waiting {
        topic: topic.to_owned(),
        count,
        next: Some(at(second)),
    };
    assert_eq!(
        store.jobs_waiting().await.unwrap(),
        [waiting("mail", 1, 0), waiting("webhook", 3, 20)]
    );
    assert!(store.end_job(first[0].clone(), None).await.unwrap());
    assert!(!store.end_job(first[0].clone(), None).await.unwrap());
    assert_eq!(claimed(&store, 60, 70).await, [4, 3]);
    assert_eq!(
        jobs(&store, "mail").await,
        [(tailnet(1).into(), job(2, "mail"))]
    );
    store.close().await;
}

pub(crate) async fn a_job_whose_claim_ran_out_is_taken_over(database: Arc<Database>) {
    let store = database.open().await;
    add(&store, 1, vec![job(1, "webhook")]).await;
    let mut lost = store.claim_jobs("webhook", at(0), at(20), 1).await.unwrap();
    let mut lost = lost.remove(0);
    // It holds for longer where its holder says so in time.
    assert!(store.renew_job(&mut lost, at(30)).await.unwrap());
    assert_eq!(lost.until, at(30));
    assert!(claimed(&store, 29, 99).await.is_empty());
    let taken = store.claim_jobs("webhook", at(30), at(60), 1).await;
    let taken = taken.unwrap().remove(0);
    assert_eq!(taken.attempts, 2);
    // The former holder can do nothing to it any more.
    assert!(!store.renew_job(&mut lost, at(99)).await.unwrap());
    let again = Again {
        due_at: at(0),
        attempts: 0,
    };
    assert!(!store.end_job(lost.clone(), Some(again)).await.unwrap());
    assert!(!store.end_job(lost, None).await.unwrap());
    assert!(claimed(&store, 59, 99).await.is_empty());
    assert!(store.end_job(taken, None).await.unwrap());
    assert!(claimed(&store, 999, 1000).await.is_empty());
    store.close().await;
}

pub(crate) async fn a_job_to_be_done_again_comes_when_it_is_due(database: Arc<Database>) {
    let store = database.open().await;
    add(&store, 1, vec![job(1, "webhook")]).await;
    for attempts in 1..=3_i64 {
        let now = attempts * 100;
        let claim = store.claim_jobs("webhook", at(now), at(now + 9), 1).await;
        let claim = claim.unwrap().remove(0);
        assert_eq!(i64::from(claim.attempts), attempts);
        let again = Again {
            due_at: at(now + 100),
            attempts: claim.attempts,
        };
        assert!(store.end_job(claim, Some(again)).await.unwrap());
        assert!(claimed(&store, now + 99, 9999).await.is_empty());
    }
    store.close().await;
    let store = database.open().await;
    let claim = store.claim_jobs("webhook", at(400), at(409), 1).await;
    assert_eq!(claim.unwrap().remove(0).attempts, 4);
    store.close().await;
}

pub(crate) async fn jobs_of_a_lane_run_one_after_the_other(database: Arc<Database>) {
    let store = database.open().await;
    let jobs = vec![
        in_lane(2, "a"),
        in_lane(1, "a"),
        in_lane(3, "b"),
        in_lane(4, "a"),
    ];
    add(&store, 1, jobs).await;
    let mut claims = store.claim_jobs("webhook", at(0), at(9), 9).await.unwrap();
    let ids: Vec<u64> = claims.iter().map(|claim| claim.job.id).collect();
    assert_eq!(ids, [1, 3]);
    assert!(claimed(&store, 1, 9).await.is_empty());
    // The first of a lane failed: those behind it wait, and other lanes do not.
    let again = Again {
        due_at: at(100),
        attempts: 1,
    };
    assert!(store.end_job(claims.remove(0), Some(again)).await.unwrap());
    assert!(store.end_job(claims.remove(0), None).await.unwrap());
    assert!(claimed(&store, 50, 60).await.is_empty());
    let waiting = store.jobs_waiting().await.unwrap();
    assert_eq!((waiting[0].count, waiting[0].next), (3, Some(at(100))));
    for id in [1, 2, 4] {
        let claim = store.claim_jobs("webhook", at(100), at(200), 9).await;
        let mut claim = claim.unwrap();
        assert_eq!((claim.len(), claim[0].job.id), (1, id));
        assert!(store.end_job(claim.remove(0), None).await.unwrap());
    }
    assert!(store.jobs_waiting().await.unwrap().is_empty());
    store.close().await;
}

pub(crate) async fn one_job_of_a_name_waits(database: Arc<Database>) {
    let store = database.open().await;
    let named = |id| JobRow {
        name: Some("clear".to_owned()),
        ..job(id, "webhook")
    };
    store.add_job(named(1)).await.unwrap();
    store.add_job(named(2)).await.unwrap();
    add(&store, 1, vec![named(3)]).await;
    let claim = store.claim_jobs("webhook", at(0), at(9), 9).await.unwrap();
    assert_eq!(claim.len(), 1);
    assert_eq!((claim[0].owner, claim[0].job.id), (Owner::Server, 1));
    assert_eq!(claim[0].job.name.as_deref(), Some("clear"));
    // One that is being done does not wait: what is asked for now may be too late for it.
    add(&store, 1, vec![named(4)]).await;
    add(&store, 1, vec![named(5)]).await;
    let again = Again {
        due_at: at(0),
        attempts: 1,
    };
    // It need not be done again, since another will be.
    assert!(store.end_job(claim[0].clone(), Some(again)).await.unwrap());
    let left = jobs(&store, "webhook").await;
    assert_eq!(left, [(tailnet(1).into(), named(4))]);
    store.close().await;
}

pub(crate) async fn two_that_claim_at_once_get_different_jobs(database: Arc<Database>) {
    let store = database.open().await;
    add(&store, 1, (1..=40).map(|id| job(id, "webhook")).collect()).await;
    let all = (0..8).map(|_| {
        let store = store.clone();
        tokio::spawn(async move { claimed(&store, 0, 9).await })
    });
    let mut ids = Vec::new();
    for task in all.collect::<Vec<_>>() {
        ids.extend(task.await.unwrap());
    }
    // Some may have been passed over while another looked at them.
    ids.extend(claimed(&store, 0, 9).await);
    ids.sort_unstable();
    ids.dedup();
    let mut rest = claimed(&store, 0, 9).await;
    while !rest.is_empty() {
        assert!(rest.iter().all(|id| !ids.contains(id)));
        ids.extend(rest);
        rest = claimed(&store, 0, 9).await;
    }
    assert_eq!(ids.len(), 40);
    store.close().await;
}

pub(crate) async fn a_job_that_no_database_could_store_is_malformed(database: Arc<Database>) {
    let store = database.open().await;
    let wrong = [
        JobRow {
            id: u64::MAX,
            ..job(1, "a")
        },
        job(1, "a\0"),
        in_lane(1, "a\0"),
        JobRow {
            body: "{".into(),
            ..job(1, "a")
        },
    ];
    for jobs in wrong.map(|job| vec![job]) {
        let batch = Batch {
            jobs,
            ..batch(1, 0)
        };
        let outcome = store.commit(batch).await;
        assert!(matches!(outcome, Err(CommitError::Malformed(_))));
    }
    store.close().await;
}

pub(crate) async fn deliveries_are_pruned_by_age_and_nothing_else(database: Arc<Database>) {
    let store = database.open().await;
    let named = JobRow {
        name: Some("clear".to_owned()),
        ..in_lane(3, "clear")
    };
    let young = JobRow {
        at: at(50),
        ..in_lane(5, "b")
    };
    let jobs = vec![
        in_lane(1, "a"),
        in_lane(2, "a"),
        named,
        job(4, "webhook"),
        young,
    ];
    add(&store, 1, jobs).await;
    let prune = async |limit| {
        let what = Prune::Deliveries { before: at(20) };
        store.prune(what, limit).await.unwrap()
    };
    // The first is being done.
    let claims = store.claim_jobs("webhook", at(0), at(9), 1).await.unwrap();
    assert_eq!(claims[0].job.id, 1);
    assert_eq!((prune(9).await, prune(9).await), (1, 0));
    let left = claimed(&store, 99, 200).await;
    assert_eq!(left, [1, 3, 4, 5]);
    store.close().await;
}
