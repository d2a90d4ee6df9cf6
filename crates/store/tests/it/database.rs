//! A database of its own for each test.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bowline_store::{Options, Store, StoreUrl};
use futures_util::FutureExt;
use tokio_postgres::{Client, NoTls};

/// Options with a lease that a test can wait for, and that a crowded machine still renews in time.
pub(crate) fn options() -> Options {
    Options {
        lease: Duration::from_secs(5),
        ..Options::default()
    }
}

/// A new database, which goes when the test ends.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) url: StoreUrl,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Directory(tempfile::TempDir),
    Server { url: String, name: String },
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = directory.path().join("bowline.db").into();
        Self {
            url,
            place: Place::Directory(directory),
        }
    }

    /// `None` where no server is set, after saying so.
    pub(crate) async fn postgres() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = bowline_testdata::postgres()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("bowline_test_{}_{number}", std::process::id());
        let client = connect(&server).await;
        client
            .batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .await
            .unwrap();
        client
            .batch_execute(&format!("CREATE DATABASE {name}"))
            .await
            .unwrap();
        let url = StoreUrl::Postgres(with_database(&server, &name));
        Some(Self {
            url,
            place: Place::Server { url: server, name },
        })
    }

    pub(crate) async fn open(&self) -> Store {
        self.open_with(options()).await
    }

    pub(crate) async fn open_with(&self, options: Options) -> Store {
        Store::open(&self.url, options).await.unwrap()
    }

    /// The file of a SQLite database.
    pub(crate) fn path(&self) -> PathBuf {
        match &self.url {
            StoreUrl::Sqlite(path) => path.clone(),
            StoreUrl::Postgres(_) => panic!("not a file"),
        }
    }

    /// A connection to a PostgreSQL database, past the store.
    pub(crate) async fn client(&self) -> Client {
        match &self.url {
            StoreUrl::Postgres(url) => connect(url).await,
            StoreUrl::Sqlite(_) => panic!("not a server"),
        }
    }

    /// Runs SQL past the store.
    pub(crate) async fn execute(&self, sql: &str) {
        match &self.url {
            StoreUrl::Sqlite(path) => {
                rusqlite::Connection::open(path)
                    .unwrap()
                    .execute_batch(sql)
                    .unwrap();
            }
            StoreUrl::Postgres(url) => connect(url).await.batch_execute(sql).await.unwrap(),
        }
    }

    pub(crate) async fn remove(self) {
        match self.place {
            Place::Directory(directory) => directory.close().unwrap(),
            Place::Server { url, name } => {
                let sql = format!("DROP DATABASE {name} WITH (FORCE)");
                connect(&url).await.batch_execute(&sql).await.unwrap();
            }
        }
    }
}

/// The URL with another database name in it. It has the form `postgres://…/name?…`.
fn with_database(url: &str, name: &str) -> String {
    let (place, query) = url
        .split_once('?')
        .map_or((url, None), |(a, b)| (a, Some(b)));
    let after_scheme = place.find("://").map_or(0, |at| at + 3);
    let base = place[after_scheme..]
        .find('/')
        .map_or(place, |at| &place[..after_scheme + at]);
    match query {
        Some(query) => format!("{base}/{name}?{query}"),
        None => format!("{base}/{name}"),
    }
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Runs a test on SQLite.
pub(crate) async fn on_sqlite<F: Future<Output = ()>>(test: impl FnOnce(Arc<Database>) -> F) {
    test(Arc::new(Database::sqlite())).await;
}

/// Runs a test on PostgreSQL, where a server is set, and removes its database whatever happens.
pub(crate) async fn on_postgres<F: Future<Output = ()>>(test: impl FnOnce(Arc<Database>) -> F) {
    let Some(database) = Database::postgres().await else {
        return;
    };
    let database = Arc::new(database);
    let outcome = AssertUnwindSafe(test(Arc::clone(&database)))
        .catch_unwind()
        .await;
    if let Some(database) = Arc::into_inner(database) {
        database.remove().await;
    }
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}
