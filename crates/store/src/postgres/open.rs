//! Connecting, taking the database, and bringing its schema up to date.

use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};

use super::lease::Lease;
use super::session::Statements;
use super::{fail, sql};
use crate::error::{Cause, OpenError};
use crate::migrate;
use crate::options::{Opening, Options};

/// How long connecting may take when the URL does not say.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a caller waits for a free connection.
const WAIT: Duration = Duration::from_secs(10);

/// Makes connections outside the pool.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    config: Config,
}

impl Connector {
    pub(super) fn new(url: &str) -> Result<Self, OpenError> {
        let mut config: Config = url
            .parse()
            .map_err(|error: tokio_postgres::Error| OpenError::Setting(setting(&error)))?;
        if config.get_application_name().is_none() {
            // Shown to whoever starts a second server.
            config.application_name(format!("bowline process {}", std::process::id()));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        // A server that vanished must not hold up commits for the hours of the system's default.
        // The other end does the same: `sql::SESSION`.
        config.keepalives_idle(Duration::from_secs(5));
        config.keepalives_interval(Duration::from_secs(2));
        config.keepalives_retries(3);
        config.tcp_user_timeout(Duration::from_secs(10));
        if config.get_ssl_mode() == SslMode::Require {
            let problem = "sslmode=require is not supported yet";
            return Err(OpenError::Setting(problem.to_owned()));
        }
        Ok(Self { config })
    }

    /// Who this process is, for whoever finds it in the lease.
    pub(super) fn application_name(&self) -> String {
        let name = self.config.get_application_name().unwrap_or("bowline");
        match std::fs::read_to_string("/proc/sys/kernel/hostname") {
            Ok(host) => format!("{name} on {}", host.trim()),
            Err(_) => name.to_owned(),
        }
    }

    /// The database for a person: its name and host, without user and password.
    pub(super) fn place(&self) -> String {
        let name = self.config.get_dbname().or(self.config.get_user());
        let host = self.config.get_hosts().first().map(|host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        });
        format!(
            "{} at {}",
            name.unwrap_or("(default)"),
            host.as_deref().unwrap_or("(default)")
        )
    }

    /// A connection, and the task that carries it: it ends with the connection, and when the
    /// client is dropped.
    pub(super) async fn connect(&self) -> Result<(Client, JoinHandle<()>), tokio_postgres::Error> {
        let (client, connection) = self.config.connect(NoTls).await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a database connection ended");
            }
        });
        settle(&client).await?;
        Ok((client, task))
    }
}

/// Sets up a session. Only a broken connection is an error: a server that cannot watch for dead
/// peers works all the same.
async fn settle(client: &Client) -> Result<(), tokio_postgres::Error> {
    match client.batch_execute(sql::SESSION).await {
        Err(error) if error.code().is_none() => Err(error),
        _ => Ok(()),
    }
}

/// Says what is wrong with a URL, without the URL: it may hold a password.
fn setting(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("the PostgreSQL URL: {source}"),
        None => "the PostgreSQL URL".to_owned(),
    }
}

/// A database that this process has for itself.
pub(super) struct Opened {
    pub(super) pool: Pool,
    pub(super) lease: Lease,
    pub(super) statements: Statements,
    /// Whether it was made now.
    pub(super) is_new: bool,
}

pub(super) async fn open(url: &str, options: &Options) -> Result<Opened, OpenError> {
    let connector = Connector::new(url)?;
    let (mut migrating, _) = connector.connect().await.map_err(fail::opening)?;
    let is_new = look(&migrating, &connector, options.opening).await?;
    let connection = connector.connect().await.map_err(fail::opening)?;
    let statements = match keeps_statements(&migrating, &connection.0).await {
        Ok(true) => Statements::Prepared,
        Ok(false) => Statements::Whole,
        Err(error) => return Err(fail::opening(error)),
    };
    let lease = Lease::take(connection, connector.clone(), options.clone()).await?;
    // Nobody else migrates now: this process has the database.
    match migrate_and_pool(&mut migrating, connector, options).await {
        Ok(pool) => Ok(Opened {
            pool,
            lease,
            statements,
            is_new,
        }),
        Err(error) => {
            lease.release().await;
            Err(error)
        }
    }
}

/// Whether a connection keeps one session of the server, and with it what is prepared there. Behind
/// a connection pool in transaction mode it does not, and a name may even mean a statement of
/// another process.
///
/// While one connection is in a transaction, it holds its session: such a pool gives it the one
/// that the other connection used last, which can be seen by the session's number.
async fn keeps_statements(one: &Client, other: &Client) -> Result<bool, tokio_postgres::Error> {
    for _ in 0..3 {
        let before = session_number(one).await?;
        other.batch_execute("BEGIN").await?;
        let held = session_number(other).await?;
        let after = tokio::time::timeout(CONNECT, session_number(one)).await;
        other.batch_execute("ROLLBACK").await?;
        // Another session, or none free: they are handed around.
        let is_kept = match after {
            Ok(after) => after? == before && held != before,
            Err(_) => false,
        };
        if !is_kept {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn session_number(client: &Client) -> Result<i32, tokio_postgres::Error> {
    let number = "SELECT pg_backend_pid()";
    client.query_typed_one(number, &[]).await?.try_get(0)
}

/// Refuses what is the wrong thing to open or to make. Whether the database is empty.
pub(super) async fn look(
    client: &Client,
    connector: &Connector,
    opening: Opening,
) -> Result<bool, OpenError> {
    let place = || connector.place();
    let found = client
        .query_typed_one(sql::LOOK, &[])
        .await
        .map_err(fail::opening)?;
    let flag = |column| found.try_get::<_, bool>(column).map_err(fail::opening);
    let (is_ours, has_tables, is_read_only) = (flag(0)?, flag(1)?, flag(2)?);
    if is_read_only {
        return Err(OpenError::ReadOnly { place: place() });
    }
    match (is_ours, has_tables, opening) {
        (false, true, _) => Err(OpenError::Foreign { place: place() }),
        (false, false, Opening::Existing) => Err(OpenError::Empty { place: place() }),
        (true, _, Opening::New) => Err(OpenError::Exists { place: place() }),
        (is_ours, ..) => Ok(!is_ours),
    }
}

async fn migrate_and_pool(
    client: &mut Client,
    connector: Connector,
    options: &Options,
) -> Result<Pool, OpenError> {
    refuse_newer(client).await?;
    migrate::runner(migrate::POSTGRES)?
        .run_async(client)
        .await
        .map_err(migrate::failed)?;

    let manager = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = Manager::from_config(connector.config, NoTls, manager);
    let settings = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
        Box::pin(async move { settle(client).await.map_err(HookError::Backend) })
    });
    Pool::builder(manager)
        .max_size(options.connections.max(1))
        .wait_timeout(Some(WAIT))
        .create_timeout(Some(WAIT))
        .runtime(Runtime::Tokio1)
        .post_create(settings)
        .build()
        .map_err(|error| OpenError::Unreachable(Cause::new(error)))
}

/// Refuses a database that a newer release has upgraded.
pub(super) async fn refuse_newer(client: &Client) -> Result<(), OpenError> {
    migrate::refuse_newer(newest_migration(client).await.map_err(fail::opening)?)
}

pub(super) async fn newest_migration(
    client: &Client,
) -> Result<Option<i64>, tokio_postgres::Error> {
    let exists = "SELECT to_regclass('refinery_schema_history') IS NOT NULL";
    if !client
        .query_typed_one(exists, &[])
        .await?
        .try_get::<_, bool>(0)?
    {
        return Ok(None);
    }
    let newest = "SELECT max(version)::bigint FROM refinery_schema_history";
    client.query_typed_one(newest, &[]).await?.try_get(0)
}
