//! Bits, bytes and pages of a real database file that are changed at places drawn at random.

use std::path::{Path, PathBuf};

use bowline_store::{AuditRow, Batch, Column, Kind, Owner, Put, Store, StoreUrl, TextRow, examine};

use crate::database::{Database, options};
use crate::rows::{at, batch, deleting, event, job, keyed, presence, tailnet, user};

/// Damaged files that are tried.
const FILES: u64 = 150;
const PAGE: usize = 4096;

/// Everything that a store answers.
#[derive(Debug, PartialEq)]
struct Answers(Vec<String>);

/// A generator that gives the same numbers in every run: a failure can be looked at again.
struct Draw(u64);

impl Draw {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % below
    }
}

async fn fill(store: &Store) {
    for of in 1..=3_u64 {
        let mut first = batch(of, 0);
        first.puts = vec![
            Put::new(Kind::Tailnet, of, r#"{"v":1}"#).with(Column::TailnetName, format!("t{of}")),
            user(of * 1000, "alice@example.com"),
            Put::new(
                Kind::Policy,
                of,
                format!(r#"{{"text":"{}"}}"#, "x".repeat(6000)),
            ),
        ];
        store.commit(first).await.unwrap();
        for n in 0..40 {
            let id = of * 1000 + n + 1;
            let mut one = batch(of, n + 1);
            one.puts = vec![keyed(id, &format!("nodekey:{of}:{n}:{}", "k".repeat(200)))];
            one.audit = vec![AuditRow {
                ..event(id, i64::try_from(n).unwrap())
            }];
            one.jobs = vec![job(id, "webhook")];
            one.texts = vec![TextRow::new(at(0), format!("text {id}"))];
            store.commit(one).await.unwrap();
        }
        store
            .commit(deleting(of, 41, Kind::Device, of * 1000 + 5))
            .await
            .unwrap();
        store
            .put_presence(tailnet(of), vec![presence(of * 1000 + 1, 9, true)])
            .await
            .unwrap();
    }
    store
        .put_secret_if_absent(Owner::Server, "noise", &[7; 60])
        .await
        .unwrap();
    store.put_moment("clock", at(7)).await.unwrap();
}

/// What the store says about everything, and then a write of each sort; an error says why.
async fn answers(store: &Store, url: &StoreUrl) -> Result<Answers, String> {
    let told = |error: bowline_store::Error| error.to_string();
    let mut all = vec![format!("{:?}", store.tailnets().await.map_err(told)?)];
    for of in 1..=3 {
        let of = tailnet(of);
        all.push(format!("{:?}", store.load(of).await.map_err(told)?));
        all.push(format!("{:?}", store.catch_up(of, 3).await.map_err(told)?));
        all.push(format!(
            "{:?}",
            store.changes(of, 0, 999).await.map_err(told)?
        ));
        all.push(format!(
            "{:?}",
            store.audit(of, at(0), at(999), 999).await.map_err(told)?
        ));
    }
    let secret = store.secret(Owner::Server, "noise").await;
    all.push(format!("{:?}", secret.map_err(told)?));
    all.push(format!("{:?}", store.moment("clock").await.map_err(told)?));
    let dumped = crate::backup::take(url)
        .await
        .map_err(|error| error.to_string())?;
    all.push(crate::backup::rows_of(&dumped));
    let now = at(999);
    let claims = store.claim_jobs("webhook", now, now, 999).await;
    all.push(format!("{:?}", claims.map_err(told)?));
    for of in 1..=3 {
        let seq = store.seq(tailnet(of)).await.map_err(told)?;
        let mut one: Batch = batch(of, seq);
        one.commit_id = [3; 16];
        one.puts = vec![
            keyed(of * 1000 + 1, &format!("again {of}")),
            keyed(of * 1000 + 900, &format!("new {of}")),
        ];
        one.audit = vec![event(of * 1000 + 900, 500)];
        one.jobs = vec![job(of * 1000 + 900, "webhook")];
        let outcome = store.commit(one).await;
        all.push(format!("{outcome:?}"));
        if let Err(error) = outcome {
            return Err(error.to_string());
        }
        all.push(format!(
            "{:?}",
            store.load(tailnet(of)).await.map_err(told)?
        ));
    }
    Ok(Answers(all))
}

fn damage(bytes: &mut [u8], draw: &mut Draw) -> String {
    let at = draw.next(bytes.len());
    match draw.next(4) {
        0 => {
            let bit = draw.next(8);
            bytes[at] ^= 1 << bit;
            format!("bit {bit} of byte {at}")
        }
        1 => {
            let end = (at + 16).min(bytes.len());
            for byte in &mut bytes[at..end] {
                *byte = u8::try_from(draw.next(256)).unwrap();
            }
            format!("16 bytes at {at}")
        }
        2 => {
            let first = at / PAGE * PAGE;
            let zero = draw.next(2) == 0;
            for byte in &mut bytes[first..first + PAGE] {
                *byte = if zero {
                    0
                } else {
                    u8::try_from(draw.next(256)).unwrap()
                };
            }
            format!("page at {first}, zero: {zero}")
        }
        _ => {
            // One page in the place of another.
            let pages = bytes.len() / PAGE;
            let (from, to) = (draw.next(pages) * PAGE, at / PAGE * PAGE);
            bytes.copy_within(from..from + PAGE, to);
            format!("page {from} at {to}")
        }
    }
}

async fn copy(directory: &Path, bytes: &[u8], number: u64) -> PathBuf {
    let path = directory.join(format!("{number}.db"));
    tokio::fs::write(&path, bytes).await.unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_damaged_file_answers_wrongly_or_fails_without_saying_why() {
    let database = Database::sqlite();
    let store = database.open().await;
    fill(&store).await;
    store.close().await;
    let sound = std::fs::read(database.path()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = copy(directory.path(), &sound, 0).await;
    let found = examine(&StoreUrl::from(path.clone())).await.unwrap();
    assert!(found.is_sound() && found.tailnets == 3, "{found:?}");
    let url = StoreUrl::from(path);
    let store = Store::open(&url, options()).await.unwrap();
    let expected = answers(&store, &url).await.unwrap();
    store.close().await;

    let mut draw = Draw(20_261_130);
    let (mut refused, mut told, mut same, mut seen) = (0, 0, 0, 0);
    for number in 1..=FILES {
        let mut bytes = sound.clone();
        let what = damage(&mut bytes, &mut draw);
        if bytes == sound {
            continue;
        }
        let path = copy(directory.path(), &bytes, number).await;
        // First, because opening may already put an unused part right.
        let doctor = examine(&StoreUrl::from(path.clone())).await;
        let is_seen = doctor.as_ref().map_or(true, |found| !found.is_sound());
        seen += u32::from(is_seen);
        let url = StoreUrl::from(path);
        match Store::open(&url, options()).await {
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(&format!("{number}.db")), "{what}: {text}");
                assert!(is_seen, "{what}: refused, but examined as sound: {error:?}");
                refused += 1;
            }
            Ok(store) => {
                match answers(&store, &url).await {
                    Ok(answers) if answers == expected => same += 1,
                    Ok(answers) => {
                        let differs = answers.0.iter().zip(&expected.0).position(|(a, b)| a != b);
                        panic!("{what}: answers wrongly in answer {differs:?}");
                    }
                    Err(error) => {
                        assert!(error.contains("damaged"), "{what}: {error}");
                        assert!(is_seen, "{what}: {error}, but examined as sound");
                        told += 1;
                    }
                }
                store.close().await;
            }
        }
    }
    eprintln!("refused {refused}, told later {told}, as before {same}; examined as damaged {seen}");
    assert!(refused > 20, "the places were drawn badly: {refused}");
}
