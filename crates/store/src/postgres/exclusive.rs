//! Keeping other processes out: an advisory lock on a session of its own.
//!
//! Until a process follows the change log, two cannot share a database. When the session is lost,
//! no write is begun until it is there again; when another process has the lock by then, this one
//! stops. What was under way in between is fenced by the sequence numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::fail::Failure;
use super::open::Connector;
use super::sql;
use crate::error::{Cause, OpenError};
use crate::options::Options;

/// How often the session is tried, and how long an answer may take.
const PERIOD: Duration = Duration::from_secs(3);

/// The hold on the database.
#[derive(Debug)]
pub(super) struct Exclusive {
    held: Arc<AtomicBool>,
    stop: CancellationToken,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

/// A session that has the lock.
struct Hold {
    client: Client,
    /// Ends when the connection does.
    connection: JoinHandle<()>,
    /// The server's process for this session.
    process: i32,
}

enum Refused {
    /// Held by another session, described.
    Held {
        process: i32,
        holder: String,
    },
    Failed(Failure),
}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Exclusive {
    /// Takes the lock with this session, or says who has it.
    pub(super) async fn take(
        connection: (Client, JoinHandle<()>),
        connector: Connector,
        options: Options,
    ) -> Result<Self, OpenError> {
        let hold = match hold(connection).await {
            Ok(hold) => hold,
            Err(Refused::Held { holder, .. }) => return Err(OpenError::InUse { holder }),
            Err(Refused::Failed(failure)) => {
                return Err(OpenError::Refused(Cause::new(crate::Error::from(failure))));
            }
        };
        let held = Arc::new(AtomicBool::new(true));
        let stop = CancellationToken::new();
        let keeper = Keeper {
            connector,
            options,
            held: Arc::clone(&held),
            stop: stop.clone(),
        };
        let keeper = Mutex::new(Some(tokio::spawn(keeper.keep(hold))));
        Ok(Self { held, stop, keeper })
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire)
    }

    /// Gives the lock back, and waits until the server knows.
    pub(super) async fn release(&self) {
        self.held.store(false, Ordering::Release);
        self.stop.cancel();
        let keeper = self.keeper.lock().await.take();
        if let Some(keeper) = keeper {
            let _ = keeper.await;
        }
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn hold((client, connection): (Client, JoinHandle<()>)) -> Result<Hold, Refused> {
    let process = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await?
        .try_get(0)?;
    if client.query_one(sql::LOCK, &[]).await?.try_get(0)? {
        return Ok(Hold {
            client,
            connection,
            process,
        });
    }
    let Some(row) = client.query_opt(sql::HOLDER, &[]).await? else {
        // It has just gone, or this user may not see it.
        return Err(Refused::Held {
            process: 0,
            holder: "another process".to_owned(),
        });
    };
    let (process, name, place): (i32, String, String) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let name = if name.is_empty() {
        "another process".to_owned()
    } else {
        name
    };
    let place = if place.is_empty() {
        String::new()
    } else {
        format!(" at {place}")
    };
    Err(Refused::Held {
        process,
        holder: format!("{name}{place}, session {process}"),
    })
}

/// The task that watches the session.
struct Keeper {
    connector: Connector,
    options: Options,
    held: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Keeper {
    async fn keep(self, mut hold: Hold) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = lost(&mut hold) => {}
            }
            self.held.store(false, Ordering::Release);
            tracing::warn!("lost the session that keeps other processes out of the database");
            tokio::select! {
                () = self.stop.cancelled() => return,
                again = self.again(hold.process) => match again {
                    Some(again) => hold = again,
                    None => return,
                },
            }
            tracing::info!("this process has the database again");
            self.held.store(true, Ordering::Release);
        }
        // Dropping the connection would do, but then the next process might come too early.
        let _ = tokio::time::timeout(PERIOD, hold.client.query_one(sql::UNLOCK, &[])).await;
    }

    /// Gets the lock again. `None` when another process has it, after that was reported.
    async fn again(&self, before: i32) -> Option<Hold> {
        loop {
            let refused = match self.connector.connect().await {
                Ok(connection) => match hold(connection).await {
                    Ok(hold) => return Some(hold),
                    Err(refused) => refused,
                },
                Err(error) => error.into(),
            };
            match refused {
                // The server has not noticed yet that our old session is dead.
                Refused::Held { process, .. } if process == before => {
                    if let Ok((client, _)) = self.connector.connect().await {
                        let _ = client
                            .query("SELECT pg_terminate_backend($1)", &[&before])
                            .await;
                    }
                }
                Refused::Held { process: 0, .. } => {}
                Refused::Held { holder, .. } => {
                    let text = format!("the database was taken over by {holder}; stopping");
                    self.options.fatal(&text);
                    return None;
                }
                Refused::Failed(failure) => {
                    tracing::warn!(error = %crate::Error::from(failure), "cannot get the database back yet");
                }
            }
            tokio::time::sleep(PERIOD / 3).await;
        }
    }
}

/// Returns when the session has ended or does not answer any more.
async fn lost(hold: &mut Hold) {
    loop {
        tokio::select! {
            _ = &mut hold.connection => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        match tokio::time::timeout(PERIOD, hold.client.query_one("SELECT 1", &[])).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
