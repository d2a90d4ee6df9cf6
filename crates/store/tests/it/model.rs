//! The store against a plain model in memory: random batches, the same rows.

use std::collections::BTreeMap;

use bowline_store::{Batch, Column, CommitError, Delete, Kind, Presence, Put, Store};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::database::Database;
use crate::rows::{at, batch, tailnet};

/// A step of a random history. Small ranges, so that ids and values often meet.
#[derive(Debug, Clone)]
struct Step {
    tailnet: u64,
    stale: bool,
    puts: Vec<Put>,
    deletes: Vec<Delete>,
    presence: Vec<Presence>,
}

fn kind() -> impl Strategy<Value = Kind> {
    let hot: Vec<Kind> = Kind::all().filter(|kind| kind.is_hot()).collect();
    prop_oneof![
        2 => proptest::sample::select(hot),
        1 => Just(Kind::Device),
    ]
}

fn put() -> impl Strategy<Value = Put> {
    let column = proptest::option::weighted(0.7, 0_u8..6);
    (kind(), 1_u64..8, any::<u16>(), column.clone(), column).prop_map(|(kind, id, body, a, b)| {
        let mut put = Put::new(kind, id, format!(r#"{{"n":{body}}}"#));
        for (column, value) in kind.columns().iter().zip([a, b]) {
            put.columns
                .extend(value.map(|value| (*column, format!("value {value}"))));
        }
        put
    })
}

fn step() -> impl Strategy<Value = Step> {
    let delete = (kind(), 1_u64..8).prop_map(|(kind, id)| Delete { kind, id });
    let presence =
        (1_u64..8, any::<bool>(), 0_i64..5).prop_map(|(device, online, second)| Presence {
            device,
            online,
            at: at(second),
            body: "{}".into(),
        });
    let stale = proptest::bool::weighted(0.1);
    (
        1_u64..4,
        stale,
        vec(put(), 0..6),
        vec(delete, 0..3),
        vec(presence, 0..3),
    )
        .prop_map(|(tailnet, stale, mut puts, mut deletes, presence)| {
            puts.sort_by_key(|put| (put.kind, put.id));
            puts.dedup_by_key(|put| (put.kind, put.id));
            deletes.sort_by_key(|delete| (delete.kind, delete.id));
            deletes.dedup();
            deletes.retain(|one| {
                !puts
                    .iter()
                    .any(|put| (put.kind, put.id) == (one.kind, one.id))
            });
            Step {
                tailnet,
                stale,
                puts,
                deletes,
                presence,
            }
        })
}

#[derive(Debug, Clone)]
struct Stored {
    tailnet: u64,
    seq: u64,
    put: Put,
}

#[derive(Debug, Clone, Default)]
struct Model {
    heads: BTreeMap<u64, u64>,
    rows: BTreeMap<(Kind, u64), Stored>,
    presence: BTreeMap<u64, Presence>,
}

impl Model {
    fn head(&self, tailnet: u64) -> u64 {
        self.heads.get(&tailnet).copied().unwrap_or(0)
    }

    /// The model after the batch, or `None` where a row is refused.
    fn after(&self, tailnet: u64, step: &Step) -> Option<Self> {
        let mut next = self.clone();
        let seq = self.head(tailnet) + 1;
        next.heads.insert(tailnet, seq);
        for delete in &step.deletes {
            let place = (delete.kind, delete.id);
            if next
                .rows
                .get(&place)
                .is_some_and(|row| row.tailnet == tailnet)
            {
                next.rows.remove(&place);
                if delete.kind == Kind::Device {
                    next.presence.remove(&delete.id);
                }
            }
        }
        for put in &step.puts {
            let row = Stored {
                tailnet,
                seq,
                put: put.clone(),
            };
            let before = next.rows.insert((put.kind, put.id), row);
            if before.is_some_and(|before| before.tailnet != tailnet) {
                return None;
            }
        }
        let mut values = std::collections::BTreeSet::new();
        for row in next.rows.values() {
            for (column, value) in &row.put.columns {
                let wall = if *column == Column::UserLogin {
                    row.tailnet
                } else {
                    0
                };
                if !values.insert((*column, wall, value.clone())) {
                    return None;
                }
            }
        }
        Some(next)
    }

    fn flush(&mut self, tailnet: u64, presence: &[Presence]) {
        for one in presence {
            let device = self.rows.get(&(Kind::Device, one.device));
            let own = device.is_some_and(|row| row.tailnet == tailnet);
            let newer = self
                .presence
                .get(&one.device)
                .is_none_or(|old| old.at <= one.at);
            if own && newer {
                self.presence.insert(one.device, one.clone());
            }
        }
    }
}

async fn check(store: &Store, model: &Model) {
    for of in 1..4 {
        let loaded = store.load(tailnet(of)).await.unwrap();
        assert_eq!(loaded.seq, model.head(of));
        let expected: Vec<_> = model
            .rows
            .iter()
            .filter(|(_, row)| row.tailnet == of)
            .map(|(place, row)| (*place, row.seq, row.put.body.clone()))
            .collect();
        let found: Vec<_> = loaded
            .rows
            .into_iter()
            .map(|row| ((row.kind, row.id), row.seq, row.body))
            .collect();
        assert_eq!(found, expected);
        let own = |device: &u64| {
            model
                .rows
                .get(&(Kind::Device, *device))
                .is_some_and(|row| row.tailnet == of)
        };
        let expected: Vec<_> = model
            .presence
            .iter()
            .filter(|(device, _)| own(device))
            .map(|(_, one)| one.clone())
            .collect();
        assert_eq!(loaded.presence, expected);
    }
}

/// Removes what the history before left; the numbers of the tailnets go on.
async fn empty(store: &Store) -> Model {
    let mut model = Model::default();
    for of in 1..4 {
        let loaded = store.load(tailnet(of)).await.unwrap();
        let mut one = batch(of, loaded.seq);
        one.deletes = (loaded.rows.iter())
            .map(|row| Delete {
                kind: row.kind,
                id: row.id,
            })
            .collect();
        model.heads.insert(of, store.commit(one).await.unwrap());
    }
    model
}

async fn follow(store: &Store, steps: Vec<Step>) {
    let mut model = empty(store).await;
    for step in steps {
        let head = model.head(step.tailnet);
        let base = if step.stale { head + 1 } else { head };
        let mut one = batch(step.tailnet, base);
        one.puts = step.puts.clone();
        one.deletes = step.deletes.clone();
        let outcome = store.commit(Batch { ..one }).await;
        match (step.stale, model.after(step.tailnet, &step)) {
            (true, _) => {
                assert!(
                    matches!(outcome, Err(CommitError::Conflict { current }) if current == head),
                    "{outcome:?}"
                );
            }
            (false, None) => assert!(
                matches!(outcome, Err(CommitError::Rejected { .. })),
                "{outcome:?}"
            ),
            (false, Some(next)) => {
                assert_eq!(outcome.unwrap(), head + 1);
                model = next;
            }
        }
        // One device at most once per flush: the order within one is not defined for equal times.
        let mut presence = step.presence;
        presence.sort_by_key(|one| one.device);
        presence.dedup_by_key(|one| one.device);
        store
            .put_presence(tailnet(step.tailnet), presence.clone())
            .await
            .unwrap();
        model.flush(step.tailnet, &presence);
    }
    check(store, &model).await;
}

fn histories(database: impl AsyncFn() -> Option<Database>, cases: u32) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let Some(database) = runtime.block_on(database()) else {
        return;
    };
    let store = runtime.block_on(database.open());
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let result = runner.run(&vec(step(), 1..25), |steps| {
        runtime.block_on(async {
            follow(&store, steps).await;
        });
        Ok(())
    });
    runtime.block_on(async {
        store.close().await;
        database.remove().await;
    });
    result.unwrap();
}

#[test]
fn random_batches_leave_sqlite_as_the_model_says() {
    histories(async || Some(Database::sqlite()), 48);
}

#[test]
fn random_batches_leave_postgres_as_the_model_says() {
    histories(Database::postgres, 48);
}
