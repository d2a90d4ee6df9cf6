//! The process is killed; what was acknowledged is there, and nothing is half there.
//!
//! The killed process is this test's own program, run again with [`JOB`] set: it writes from many
//! tasks and says on its standard output what was acknowledged, after each acknowledgement.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bowline_store::{Batch, Column, CommitError, Options, Point, Store, StoreUrl, TextRow};

use crate::database::{Database, options};
use crate::rows::{at, batch, device, event, job, jobs, presence, sealed, tailnet};

/// Set in the process that is to be killed: the database.
const JOB: &str = "BOWLINE_TEST_CRASH_DATABASE";
/// Optional: `<point> <number>`, the moment at which the process kills itself.
const MOMENT: &str = "BOWLINE_TEST_CRASH_MOMENT";
const WRITERS: u64 = 8;
/// Rows of each batch: enough to see half of one.
const ROWS: u64 = 5;

/// Options of a process that is started again in the place of one that has ended.
fn restarted() -> Options {
    Options {
        place: Some("the directory of the killed process".to_owned()),
        ..options()
    }
}

/// Everything that change `seq` of a tailnet writes. Its ids tell the change.
fn written(of: u64, seq: u64) -> Batch {
    let first = of * 1_000_000 + seq * 10;
    let mut one = batch(of, seq - 1);
    one.commit_id = u128::from(first).to_be_bytes();
    one.puts = (0..ROWS)
        .map(|n| device(first + n, "a").with(Column::NodeKey, format!("nodekey:{of}:{seq}:{n}")))
        .collect();
    // One row that every change writes again.
    one.puts
        .push(device(of * 1_000_000 + 999_999, &seq.to_string()));
    one.audit = vec![event(first, i64::try_from(seq).unwrap())];
    one.jobs = vec![job(first, "webhook")];
    one.texts = vec![TextRow::new(at(0), format!("text {first}"))];
    one.secrets = vec![sealed(&format!("secret {first}"), &[7; 40])];
    one
}

async fn write_until_killed(url: StoreUrl) {
    let mut options = restarted();
    if let Ok(moment) = std::env::var(MOMENT) {
        let (point, number) = moment.split_once(' ').unwrap();
        let (point, number): (String, usize) = (point.to_owned(), number.parse().unwrap());
        let seen = Mutex::new(0);
        options.hook = Some(Arc::new(move |at: Point| {
            if format!("{at:?}") == point {
                // Held while dying, so that nobody else gets past this point.
                let mut seen = seen.lock().unwrap();
                if *seen == number {
                    kill_self();
                }
                *seen += 1;
            }
            None
        }));
    }
    let store = Store::open(&url, options).await.unwrap();
    let writers = (1..=WRITERS).map(|of| {
        let store = store.clone();
        tokio::spawn(async move {
            loop {
                let seq = store.seq(tailnet(of)).await.unwrap() + 1;
                store.commit(written(of, seq)).await.unwrap();
                // One write call: the line is whole, or it is not there.
                let line = format!("\n{of} {seq} ok\n");
                std::io::stdout().write_all(line.as_bytes()).unwrap();
                let _ = store
                    .put_presence(
                        tailnet(of),
                        vec![presence(of * 1_000_000 + seq * 10, 1, true)],
                    )
                    .await;
            }
        })
    });
    futures_util::future::join_all(writers).await;
}

/// `SIGKILL` and nothing else, as if the power had gone for this process alone.
fn kill_self() -> ! {
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -9 {}", std::process::id())])
        .status();
    loop {
        std::thread::park();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "only as the process that the crash tests kill"]
async fn the_killed_process() {
    if let Ok(url) = std::env::var(JOB) {
        write_until_killed(url.parse().unwrap()).await;
    }
}

/// The killed process, killed again when the test ends early.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(database: &Database, moment: Option<&str>) -> Killed {
    let url = match &database.url {
        StoreUrl::Sqlite(path) => path.to_str().unwrap().to_owned(),
        StoreUrl::Postgres(url) => url.clone(),
    };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "crash::the_killed_process",
            "--ignored",
            "--nocapture",
        ])
        .env(JOB, url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    if let Some(moment) = moment {
        command.env(MOMENT, moment);
    }
    Killed(command.spawn().unwrap())
}

/// Runs the process, kills it `after` so many acknowledgements and a little longer (or waits until
/// it does so itself), and returns the highest number that each tailnet was acknowledged.
fn run(
    database: &Database,
    moment: Option<&str>,
    after: usize,
    longer: Duration,
) -> HashMap<u64, u64> {
    let mut process = start(database, moment);
    let output = BufReader::new(process.0.stdout.take().unwrap());
    let (sender, lines) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in output.lines() {
            let Ok(line) = line else { break };
            let words: Vec<&str> = line.split(' ').collect();
            if let [of, seq, "ok"] = words[..]
                && let (Ok(of), Ok(seq)) = (of.parse::<u64>(), seq.parse::<u64>())
            {
                let _ = sender.send((of, seq));
            }
        }
    });
    let mut acknowledged = HashMap::new();
    let mut note = |(of, seq): (u64, u64)| {
        let highest = acknowledged.entry(of).or_insert(0);
        *highest = seq.max(*highest);
    };
    if moment.is_none() {
        for _ in 0..after {
            note(
                lines
                    .recv_timeout(Duration::from_mins(1))
                    .expect("the process writes"),
            );
        }
        std::thread::sleep(longer); // the moment is random; nothing is waited for
        process.0.kill().unwrap();
    }
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    while process.0.try_wait().unwrap().is_none() {
        assert!(
            std::time::Instant::now() < deadline,
            "the process did not end: {moment:?}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
    reader.join().unwrap();
    lines.try_iter().for_each(&mut note);
    acknowledged
}

/// Opens the database after a crash. A server may need a moment to notice it.
async fn reopen(database: &Database) -> Store {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        match Store::open(&database.url, restarted()).await {
            Ok(store) => return store,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Checks that exactly the changes 1 to the newest are there, each whole, and that the newest is
/// not below what was acknowledged.
async fn check(store: &Store, acknowledged: &HashMap<u64, u64>) {
    let jobs = jobs(store, "webhook").await;
    for of in 1..=WRITERS {
        let loaded = store.load(tailnet(of)).await.unwrap();
        let newest = loaded.seq;
        let known = acknowledged.get(&of).copied().unwrap_or(0);
        assert!(
            newest >= known,
            "tailnet {of}: acknowledged {known}, found {newest}"
        );
        let mut expected = Vec::new();
        for seq in 1..=newest {
            for put in written(of, seq).puts {
                let shared = put.id % 1_000_000 == 999_999;
                if !shared || seq == newest {
                    expected.push((put.id, seq, put.body));
                }
            }
        }
        expected.sort();
        let found: Vec<_> = loaded
            .rows
            .into_iter()
            .map(|row| (row.id, row.seq, row.body))
            .collect();
        assert_eq!(found, expected, "tailnet {of}");
        let changes = store.changes(tailnet(of), 0, usize::MAX).await.unwrap();
        let numbers: Vec<u64> = changes.iter().map(|change| change.seq).collect();
        assert_eq!(numbers, (1..=newest).collect::<Vec<_>>());
        let audit = store
            .audit(tailnet(of), at(-9), at(1_000_000), usize::MAX)
            .await
            .unwrap();
        assert_eq!(audit.len() as u64, newest);
        let found = store
            .audit_after(tailnet(of), (at(-9), 0), at(1_000_000), usize::MAX)
            .await
            .unwrap();
        let mut previous = [0; 32];
        for (number, entry) in (1..).zip(found) {
            assert_eq!((entry.number, entry.previous), (number, previous), "no gap");
            previous = entry.hash;
        }
        assert_eq!(
            jobs.iter()
                .filter(|(one, _)| *one == tailnet(of).into())
                .count() as u64,
            newest
        );
        assert_eq!(store.texts(tailnet(of)).await.unwrap().len() as u64, newest);
        for seq in 1..=newest {
            let name = &written(of, seq).secrets[0].name;
            assert!(store.secret(tailnet(of), name).await.unwrap().is_some());
        }
        if newest > 0 {
            let id = written(of, newest).commit_id;
            assert_eq!(
                store.commit_outcome(tailnet(of), id).await.unwrap(),
                Some(newest)
            );
        }
    }
}

async fn twenty_kills(database: &Database) {
    let mut acknowledged: HashMap<u64, u64> = HashMap::new();
    let mut grown = 0;
    for round in 0..20_u64 {
        // Spread over a commit's duration, without a generator of randomness.
        let longer = Duration::from_micros(round * 7919 % 9000);
        let after = 3 + usize::try_from(round % 7).unwrap();
        let new = run(database, None, after, longer);
        grown += new.len();
        for (of, seq) in new {
            let highest = acknowledged.entry(of).or_insert(0);
            assert!(seq > *highest, "tailnet {of} was acknowledged {seq} twice");
            *highest = seq;
        }
        let store = reopen(database).await;
        check(&store, &acknowledged).await;
        store.close().await;
    }
    assert!(
        grown >= 20,
        "the rounds wrote too little to show anything: {acknowledged:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_lose_nothing_acknowledged_on_sqlite() {
    twenty_kills(&Database::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_kills_lose_nothing_acknowledged_on_postgres() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    twenty_kills(&database).await;
    database.remove().await;
}

/// At each point of a commit, the first and a later one.
async fn every_point(database: &Database, points: &[Point]) {
    let mut acknowledged: HashMap<u64, u64> = HashMap::new();
    for point in points {
        for number in [0, 11] {
            let before = store_heads(database).await;
            let new = run(
                database,
                Some(&format!("{point:?} {number}")),
                0,
                Duration::ZERO,
            );
            acknowledged.extend(new);
            let store = reopen(database).await;
            check(&store, &acknowledged).await;
            let after: u64 = heads(&store).await;
            match (point, number) {
                // Killed in the very first commit: before COMMIT it is not there, after it is.
                (Point::AfterCommit, 0) => assert!(after > before, "{point:?}"),
                (_, 0) => assert_eq!(after, before, "{point:?}"),
                _ => {}
            }
            // And the database goes on.
            let seq = store.seq(tailnet(1)).await.unwrap();
            if seq > 0 {
                let again = store.commit(written(1, seq)).await;
                assert!(
                    matches!(again, Err(CommitError::Conflict { .. })),
                    "{again:?}"
                );
            }
            store.commit(written(1, seq + 1)).await.unwrap();
            store.close().await;
        }
    }
}

async fn heads(store: &Store) -> u64 {
    store
        .tailnets()
        .await
        .unwrap()
        .iter()
        .map(|(_, seq)| seq)
        .sum()
}

async fn store_heads(database: &Database) -> u64 {
    let store = reopen(database).await;
    let sum = heads(&store).await;
    store.close().await;
    sum
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_every_point_of_a_commit_loses_nothing_on_sqlite() {
    let points = [
        Point::BeforeRelease,
        Point::AfterRelease,
        Point::BeforeCommit,
        Point::AfterCommit,
    ];
    every_point(&Database::sqlite(), &points).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_at_every_point_of_a_commit_loses_nothing_on_postgres() {
    let Some(database) = Database::postgres().await else {
        return;
    };
    every_point(&database, &[Point::BeforeCommit, Point::AfterCommit]).await;
    database.remove().await;
}
