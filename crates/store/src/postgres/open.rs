//! Connecting, taking the database, and bringing its schema up to date.

use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};

use super::exclusive::Exclusive;
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
    fn new(url: &str) -> Result<Self, OpenError> {
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
        config.keepalives_idle(Duration::from_secs(30));
        config.tcp_user_timeout(Duration::from_secs(30));
        if config.get_ssl_mode() == SslMode::Require {
            let problem = "sslmode=require is not supported yet";
            return Err(OpenError::Setting(problem.to_owned()));
        }
        Ok(Self { config })
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
        client.batch_execute(sql::SESSION).await?;
        Ok((client, task))
    }
}

/// Says what is wrong with a URL, without the URL: it may hold a password.
fn setting(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("the PostgreSQL URL: {source}"),
        None => "the PostgreSQL URL".to_owned(),
    }
}

pub(super) async fn open(
    url: &str,
    options: &Options,
) -> Result<(Pool, Exclusive, bool), OpenError> {
    let connector = Connector::new(url)?;
    let (mut migrating, _) = connector.connect().await.map_err(fail::opening)?;
    let is_new = look(&migrating, &connector, options.opening).await?;
    let connection = connector.connect().await.map_err(fail::opening)?;
    let exclusive = Exclusive::take(connection, connector.clone(), options.clone()).await?;
    // Nobody else migrates now: this process has the database.
    match migrate_and_pool(&mut migrating, connector, options).await {
        Ok(pool) => Ok((pool, exclusive, is_new)),
        Err(error) => {
            exclusive.release().await;
            Err(error)
        }
    }
}

/// Refuses what is the wrong thing to open or to make. Whether the database is empty.
async fn look(client: &Client, connector: &Connector, opening: Opening) -> Result<bool, OpenError> {
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
    migrate::refuse_newer(newest_migration(client).await.map_err(fail::opening)?)?;
    migrate::runner(migrate::POSTGRES)?
        .run_async(client)
        .await
        .map_err(migrate::failed)?;

    let manager = ManagerConfig {
        recycling_method: RecyclingMethod::Fast,
    };
    let manager = Manager::from_config(connector.config, NoTls, manager);
    let settings = Hook::async_fn(|client: &mut deadpool_postgres::ClientWrapper, _| {
        Box::pin(async move {
            client
                .batch_execute(sql::SESSION)
                .await
                .map_err(HookError::Backend)
        })
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

async fn newest_migration(client: &Client) -> Result<Option<i64>, tokio_postgres::Error> {
    let exists = "SELECT to_regclass('refinery_schema_history') IS NOT NULL";
    if !client.query_one(exists, &[]).await?.try_get::<_, bool>(0)? {
        return Ok(None);
    }
    let newest = "SELECT max(version)::bigint FROM refinery_schema_history";
    client.query_one(newest, &[]).await?.try_get(0)
}
