//! A connection to PostgreSQL that a test can disturb.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bowline_store::StoreUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::database::Database;

/// What becomes of the next `COMMIT`.
const PASS: u8 = 0;
pub(crate) const CUT_BEFORE: u8 = 1;
pub(crate) const CUT_AFTER: u8 = 2;

/// A way to the server that can be cut at a `COMMIT`, and that can go silent: then nothing passes
/// and nothing is closed, until it is heard again with everything that was sent meanwhile.
pub(crate) struct Wire {
    plan: Arc<AtomicU8>,
    pub(crate) cuts: Arc<AtomicUsize>,
    silent: watch::Sender<bool>,
    pub(crate) url: StoreUrl,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Wire {
    pub(crate) async fn to(database: &Database) -> Self {
        let StoreUrl::Postgres(url) = &database.url else {
            panic!("not a server")
        };
        let config: tokio_postgres::Config = url.parse().unwrap();
        let port = config.get_ports()[0];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let url = StoreUrl::Postgres(url.replace(&format!(":{port}/"), &format!(":{own}/")));
        let (plan, cuts) = (Arc::new(AtomicU8::new(PASS)), Arc::new(AtomicUsize::new(0)));
        let (plan_, cuts_) = (Arc::clone(&plan), Arc::clone(&cuts));
        let (silent, mut silence) = watch::channel(false);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let _ = silence.wait_for(|silent| !silent).await;
                let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                connections.spawn(carry(
                    near,
                    far,
                    Arc::clone(&plan_),
                    Arc::clone(&cuts_),
                    silence.clone(),
                ));
            }
        });
        Self {
            plan,
            cuts,
            silent,
            url,
            task,
        }
    }

    /// Lets nothing pass any more, or everything again.
    pub(crate) fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
    }

    pub(crate) fn next(&self, plan: u8) {
        self.plan.store(plan, Ordering::SeqCst);
    }
}

async fn carry(
    near: TcpStream,
    far: TcpStream,
    plan: Arc<AtomicU8>,
    cuts: Arc<AtomicUsize>,
    mut silence: watch::Receiver<bool>,
) {
    let (mut from_near, mut to_near) = near.into_split();
    let (mut from_far, mut to_far) = far.into_split();
    let mut up = vec![0; 65536];
    let mut down = vec![0; 65536];
    loop {
        tokio::select! {
            read = from_near.read(&mut up) => {
                let _ = silence.wait_for(|silent| !silent).await;
                let Ok(length @ 1..) = read else { return };
                let bytes = &up[..length];
                if bytes.windows(7).any(|part| part == b"COMMIT\0") {
                    match plan.swap(PASS, Ordering::SeqCst) {
                        CUT_BEFORE => {
                            cuts.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                        CUT_AFTER => {
                            // The server has it and answers, but nobody hears.
                            to_far.write_all(bytes).await.unwrap();
                            let _ = from_far.read(&mut down).await;
                            cuts.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                        _ => {}
                    }
                }
                if to_far.write_all(bytes).await.is_err() { return }
            }
            read = from_far.read(&mut down) => {
                let _ = silence.wait_for(|silent| !silent).await;
                let Ok(length @ 1..) = read else { return };
                if to_near.write_all(&down[..length]).await.is_err() { return }
            }
        }
    }
}

/// Waits for a state.
pub(crate) async fn until(what: &str, mut reached: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !reached().await {
        assert!(Instant::now() < deadline, "waited 30 s for: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
