//! PgBouncer between the store and PostgreSQL, the real one, in each of its modes.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bowline_store::{Kind, OpenError, Store, StoreUrl};

use crate::database::{Database, on_postgres, options};
use crate::lease::through;
use crate::rows::{batch, ids, keyed, putting, tailnet};
use crate::wire::until;

/// Names the program where it is not on the path.
const SETTING: &str = "BOWLINE_TEST_PGBOUNCER";

/// A running pool.
struct Pool {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Pool {
    /// `None` where the program cannot be found, after saying so; with `CI=true` that is a failure.
    async fn start(database: &Database, mode: &str) -> Option<Self> {
        let program = std::env::var(SETTING).unwrap_or_else(|_| "pgbouncer".to_owned());
        if Command::new(&program).arg("--version").output().is_err() {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no {program}");
            eprintln!("skipped: needs pgbouncer (tests/postgres installs it)");
            return None;
        }
        let StoreUrl::Postgres(url) = &database.url else {
            panic!("not a server")
        };
        let config: tokio_postgres::Config = url.parse().unwrap();
        let (user, name) = (config.get_user().unwrap(), config.get_dbname().unwrap());
        let directory = tempfile::tempdir().unwrap();
        // It refuses to run as root, and then its user must be able to read the settings.
        let mut mode_of = std::fs::metadata(directory.path()).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode_of, 0o755);
        std::fs::set_permissions(directory.path(), mode_of).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let users = directory.path().join("users");
        writeln!(std::fs::File::create(&users).unwrap(), "\"{user}\" \"\"").unwrap();
        let settings = directory.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n{name} = host=127.0.0.1 port={}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = trust\nauth_file = {}\npool_mode = {mode}\n\
             ignore_startup_parameters = extra_float_digits,options\n",
            config.get_ports()[0],
            users.display()
        );
        std::fs::write(&settings, text).unwrap();
        let mut command = Command::new(&program);
        let is_root = Command::new("id")
            .arg("-u")
            .output()
            .is_ok_and(|id| id.stdout.trim_ascii() == b"0");
        if is_root {
            command.args(["-u", "nobody"]);
        }
        let process = command
            .arg("-q")
            .arg(&settings)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pool = Self {
            process,
            port,
            _directory: directory,
        };
        until("the pool listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
        })
        .await;
        Some(pool)
    }
}

async fn exactly_one_serves(mode: &str) {
    on_postgres(|database: Arc<Database>| async move {
        let Some(pool) = Pool::start(&database, mode).await else {
            return;
        };
        let url = through(&database, pool.port);
        let open = |url: StoreUrl| async move { Store::open(&url, options()).await };
        let (one, other) = tokio::join!(open(url.clone()), open(url.clone()));
        let (store, refused) = match (one, other) {
            (Ok(store), Err(refused)) | (Err(refused), Ok(store)) => (store, refused),
            (one, other) => panic!("{mode}: {one:?}, {other:?}"),
        };
        assert!(
            matches!(refused, OpenError::InUse { .. }),
            "{mode}: {refused:?}"
        );
        // It works, many at a time.
        store.commit(putting(1, 0, keyed(1, "a"))).await.unwrap();
        let writers = (10..30).map(|of| {
            let store = store.clone();
            tokio::spawn(async move {
                for base in 0..5 {
                    store
                        .commit(putting(
                            of,
                            base,
                            keyed(of * 10 + base, &format!("{of} {base}")),
                        ))
                        .await
                        .unwrap();
                }
            })
        });
        for writer in futures_util::future::join_all(writers).await {
            writer.unwrap();
        }
        assert_eq!(store.catch_up(tailnet(1), 0).await.unwrap().seq, 1);
        assert_eq!(store.commit(batch(1, 1)).await.unwrap(), 2);
        // A backup through the pool, which has other sessions for every transaction.
        let taken = crate::backup::take(&url).await.unwrap();
        assert!(taken.len() > 1000);
        // Past the pool nobody comes in either.
        let refused = Store::open(&database.url, options()).await.unwrap_err();
        assert!(
            matches!(refused, OpenError::InUse { .. }),
            "{mode}: {refused:?}"
        );
        assert!(store.is_held());
        store.close().await;
        let store = open(url).await.unwrap();
        assert_eq!(ids(&store, 1, Kind::Device).await, [1]);
        store.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_behind_a_pool_by_transaction_are_told_apart() {
    exactly_one_serves("transaction").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_behind_a_pool_by_session_are_told_apart() {
    exactly_one_serves("session").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_by_statement_is_refused_at_the_start() {
    on_postgres(|database: Arc<Database>| async move {
        let Some(pool) = Pool::start(&database, "statement").await else {
            return;
        };
        let url = through(&database, pool.port);
        let open = Store::open(&url, options());
        let refused = tokio::time::timeout(Duration::from_secs(30), open)
            .await
            .unwrap()
            .unwrap_err();
        assert!(matches!(refused, OpenError::Pool { .. }), "{refused:?}");
        assert!(refused.to_string().contains("pool_mode"), "{refused}");
    })
    .await;
}
