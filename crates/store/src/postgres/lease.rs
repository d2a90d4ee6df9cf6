//! Keeping other processes out: one row, the lease, whose epoch every write checks.
//!
//! The holder renews the row every few seconds. It believes its hold until a deadline of its own,
//! measured by the monotonic clock from before the last renewal was sent; then its fence has
//! fallen, and it begins no write and answers nothing that must be fresh. Whoever wants the
//! database watches the row, by its own monotonic clock, for as long as the holder said it may take
//! to renew it. Nobody compares the time of day of two machines, so clocks may jump.
//!
//! Taking over raises the epoch under a lock that conflicts with the one that each write takes on
//! the row, so that a write of the former holder is either before the takeover, and read by it, or
//! refused. Neither a session nor an advisory lock is part of it: a connection pool that hands
//! sessions around does no harm.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};
use tokio_util::sync::CancellationToken;

use super::fail::Failure;
use super::open::Connector;
use super::sql;
use crate::error::{Condition, OpenError, Trouble};
use crate::options::Options;

/// How often the row is looked at while waiting for it.
const LOOK: Duration = Duration::from_millis(250);

/// The hold on the database.
#[derive(Debug)]
pub(super) struct Lease {
    shared: Arc<Shared>,
    stop: CancellationToken,
    keeper: tokio::sync::Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    /// Number of the hand-over that gave this process the database.
    epoch: AtomicI64,
    /// Until when nobody else can have taken it.
    fence: Mutex<Instant>,
    /// Why the row is not renewed.
    trouble: Mutex<Option<Trouble>>,
    /// The epoch, for whoever must read again after it changed.
    epochs: watch::Sender<u64>,
    /// A write found another epoch.
    doubt: Notify,
}

impl Shared {
    fn is_held(&self) -> bool {
        Instant::now() < *self.fence.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_fence(&self, at: Instant) {
        *self.fence.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    fn set_trouble(&self, trouble: Option<Trouble>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn trouble(&self) -> Option<Trouble> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// How long a hold lasts without renewal, and what follows from it.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Others wait this long. At least a second.
    whole: Duration,
}

impl Times {
    /// Between two renewals, and for the answer to one.
    fn period(self) -> Duration {
        self.whole / 5
    }

    /// How long the holder believes a renewal, from before it was sent: less than others wait, by
    /// what a task may be late and clocks may run apart.
    fn believed(self) -> Duration {
        self.whole / 5 * 4
    }

    fn milliseconds(self) -> i64 {
        i64::try_from(self.whole.as_millis()).unwrap_or(i64::MAX)
    }
}

/// The row as somebody else wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    epoch: i64,
    beat: i64,
    milliseconds: i64,
    /// Empty: the database was given up.
    holder: String,
    place: String,
}

impl Seen {
    fn of(row: &Row) -> Result<Self, tokio_postgres::Error> {
        Ok(Self {
            epoch: row.try_get(0)?,
            beat: row.try_get(1)?,
            milliseconds: row.try_get(2)?,
            holder: row.try_get(3)?,
            place: row.try_get(4)?,
        })
    }

    fn whole(&self) -> Duration {
        Duration::from_millis(self.milliseconds.cast_unsigned())
    }
}

/// Why the lease was not taken.
enum Refused {
    /// Somebody else renews it.
    Held(String),
    Failed(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Refused {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Failed(error)
    }
}

/// Who takes the lease, in the row's words.
#[derive(Debug, Clone)]
struct Candidate {
    holder: String,
    place: String,
    times: Times,
}

impl Candidate {
    /// Waits until the former holder's fence has fallen, and takes the lease. Returns the epoch,
    /// and a moment from which on nobody else can have had it.
    ///
    /// `starts` says that this process has not had it before.
    async fn take(&self, client: &Client, starts: bool) -> Result<(i64, Instant), Refused> {
        // Two that make the table at once disturb each other; the loser finds it there.
        if client.batch_execute(sql::LEASE_TABLE).await.is_err() {
            client.batch_execute(sql::LEASE_TABLE).await?;
        }
        let mut first = self.look(client).await?;
        let mut since = Instant::now();
        let mut told = false;
        let mut forced = false;
        loop {
            let seen = self.look(client).await?;
            if seen.epoch != first.epoch || seen.beat != first.beat {
                if !seen.holder.is_empty() {
                    return Err(Refused::Held(seen.holder));
                }
                // Somebody was faster, and has given it up already.
                first = seen.clone();
                since = Instant::now();
            }
            // The same directory, which only one process can hold: its former process has ended.
            let is_ours = starts && !self.place.is_empty() && seen.place == self.place;
            let waited = since.elapsed();
            if seen.holder.is_empty() || is_ours || waited >= seen.whole() {
                let before = Instant::now();
                match self.raise(client, &seen, forced).await? {
                    Raised::Taken(epoch) => return Ok((epoch, before)),
                    Raised::Changed => {}
                    // A write of the former holder holds the row: what is left of a session whose
                    // other end is gone. After another wait it is ended.
                    Raised::Locked => {
                        forced = forced || waited >= seen.whole();
                        since = since.min(before);
                    }
                }
            } else if !told {
                told = true;
                tracing::info!(
                    holder = seen.holder,
                    seconds = seen.whole().as_secs(),
                    "the database was not given up; waiting until its holder must have noticed"
                );
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&self, client: &Client) -> Result<Seen, Refused> {
        Ok(Seen::of(
            &client.query_typed_one(sql::LEASE_LOOK, &[]).await?,
        )?)
    }

    /// Raises the epoch, if the row is still as it was seen.
    async fn raise(&self, client: &Client, seen: &Seen, forced: bool) -> Result<Raised, Refused> {
        if forced {
            client.query_typed(sql::LEASE_FORCE, &[]).await?;
        }
        client.batch_execute(sql::LEASE_BEGIN).await?;
        let raised = self.raise_in(client, seen).await;
        let end = if matches!(raised, Ok(Raised::Taken(_))) {
            "COMMIT"
        } else {
            "ROLLBACK"
        };
        client.batch_execute(end).await?;
        raised
    }

    async fn raise_in(&self, client: &Client, seen: &Seen) -> Result<Raised, Refused> {
        let locked = match client.query_typed_one(sql::LEASE_LOCK, &[]).await {
            Ok(row) => Seen::of(&row)?,
            Err(error)
                if error.code() == Some(&tokio_postgres::error::SqlState::LOCK_NOT_AVAILABLE) =>
            {
                return Ok(Raised::Locked);
            }
            Err(error) => return Err(error.into()),
        };
        if locked != *seen {
            return Ok(Raised::Changed);
        }
        let row = client
            .query_typed_one(
                sql::LEASE_RAISE,
                &[
                    (&self.times.milliseconds(), Type::INT8),
                    (&self.holder, Type::TEXT),
                    (&self.place, Type::TEXT),
                ],
            )
            .await?;
        Ok(Raised::Taken(row.try_get(0)?))
    }
}

enum Raised {
    Taken(i64),
    Changed,
    Locked,
}

impl Lease {
    /// Takes the lease, or says who has it. It may take as long as the former holder's lease lasts.
    pub(super) async fn take(
        (client, connection): (Client, JoinHandle<()>),
        connector: Connector,
        options: Options,
    ) -> Result<Self, OpenError> {
        let candidate = Candidate {
            holder: connector.application_name(),
            place: options.place.clone().unwrap_or_default(),
            times: Times {
                whole: options.lease.max(Duration::from_secs(1)),
            },
        };
        let (epoch, from) = match candidate.take(&client, true).await {
            Ok(taken) => taken,
            Err(Refused::Held(holder)) => return Err(OpenError::InUse { holder }),
            Err(Refused::Failed(error)) => return Err(super::fail::opening(error)),
        };
        let shared = Arc::new(Shared {
            epoch: AtomicI64::new(epoch),
            fence: Mutex::new(from + candidate.times.believed()),
            trouble: Mutex::new(None),
            epochs: watch::Sender::new(epoch.cast_unsigned()),
            doubt: Notify::new(),
        });
        let stop = CancellationToken::new();
        let keeper = Keeper {
            candidate,
            connector,
            options,
            shared: Arc::clone(&shared),
            stop: stop.clone(),
        };
        let keeper = tokio::spawn(keeper.keep(Connection { client, connection }));
        Ok(Self {
            shared,
            stop,
            keeper: tokio::sync::Mutex::new(Some(keeper)),
        })
    }

    /// Whether nobody else can have taken the database by now.
    pub(super) fn is_held(&self) -> bool {
        self.shared.is_held()
    }

    /// What every write compares the row with.
    pub(super) fn epoch(&self) -> i64 {
        self.shared.epoch.load(Ordering::Acquire)
    }

    pub(super) fn epochs(&self) -> watch::Receiver<u64> {
        self.shared.epochs.subscribe()
    }

    /// Why the lease is not renewed, if it is not.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        if let Some(trouble) = self.shared.trouble() {
            return Some(trouble);
        }
        (!self.is_held()).then(|| Trouble::of(Condition::NotHeld))
    }

    /// Why no write can be begun.
    pub(super) fn refusal(&self) -> Failure {
        Failure::Trouble(self.trouble().unwrap_or(Trouble::of(Condition::NotHeld)))
    }

    /// A write found that another process had the database.
    pub(super) fn lost(&self) -> Failure {
        self.shared.set_fence(Instant::now());
        self.shared.doubt.notify_one();
        Failure::Trouble(Trouble::of(Condition::NotHeld))
    }

    /// Gives the lease up, and waits until the server knows.
    pub(super) async fn release(&self) {
        self.stop.cancel();
        let keeper = self.keeper.lock().await.take();
        if let Some(keeper) = keeper {
            let _ = keeper.await;
        }
        self.shared.set_fence(Instant::now());
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

struct Connection {
    client: Client,
    /// Ends when the connection does.
    connection: JoinHandle<()>,
}

/// The task that renews the lease.
struct Keeper {
    candidate: Candidate,
    connector: Connector,
    options: Options,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

/// What became of a renewal.
enum Renewed {
    Yes,
    /// Another process had the database.
    Lost,
    Failed(Trouble),
}

impl Keeper {
    async fn keep(self, connection: Connection) {
        let mut connection = Some(connection);
        let mut wait = self.candidate.times.period();
        loop {
            let ended = async {
                match &mut connection {
                    Some(one) => {
                        let _ = (&mut one.connection).await;
                    }
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => break,
                () = ended => connection = None,
                () = self.shared.doubt.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
            let (used, renewed) = self.renew(connection.take()).await;
            match renewed {
                Renewed::Yes => {
                    connection = used;
                    wait = self.candidate.times.period();
                    self.went_well();
                }
                Renewed::Failed(trouble) => {
                    // At once again, with a new connection, for as long as it takes.
                    wait = self.candidate.times.period() / 5;
                    self.went_wrong(trouble);
                }
                Renewed::Lost => {
                    self.shared.set_fence(Instant::now());
                    self.went_wrong(Trouble::of(Condition::NotHeld));
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        again = self.again(used) => match again {
                            Some(again) => connection = Some(again),
                            None => return,
                        },
                    }
                    wait = self.candidate.times.period();
                    self.went_well();
                }
            }
        }
        let connection = match connection {
            Some(connection) => Some(connection),
            None => self.connect().await.ok(),
        };
        if let Some(connection) = connection {
            let epoch = self.shared.epoch.load(Ordering::Acquire);
            let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 1] =
                [(&epoch, Type::INT8)];
            let give_up = connection
                .client
                .execute_typed(sql::LEASE_RELEASE, &parameters);
            let _ = tokio::time::timeout(self.candidate.times.period(), give_up).await;
        }
    }

    async fn connect(&self) -> Result<Connection, Trouble> {
        let limit = self.candidate.times.period();
        match tokio::time::timeout(limit, self.connector.connect()).await {
            Ok(Ok((client, connection))) => Ok(Connection { client, connection }),
            Ok(Err(error)) => Err(trouble(error)),
            Err(_) => Err(Trouble::of(Condition::Unreachable)),
        }
    }

    async fn renew(&self, connection: Option<Connection>) -> (Option<Connection>, Renewed) {
        let connection = match connection {
            Some(connection) if !connection.client.is_closed() => connection,
            _ => match self.connect().await {
                Ok(connection) => connection,
                Err(trouble) => return (None, Renewed::Failed(trouble)),
            },
        };
        let before = Instant::now();
        let epoch = self.shared.epoch.load(Ordering::Acquire);
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 1] =
            [(&epoch, Type::INT8)];
        let renewal = connection
            .client
            .execute_typed(sql::LEASE_RENEW, &parameters);
        match tokio::time::timeout(self.candidate.times.period(), renewal).await {
            Ok(Ok(0)) => (Some(connection), Renewed::Lost),
            Ok(Ok(_)) => {
                self.shared
                    .set_fence(before + self.candidate.times.believed());
                (Some(connection), Renewed::Yes)
            }
            Ok(Err(error)) => (None, Renewed::Failed(trouble(error))),
            Err(_) => (None, Renewed::Failed(Trouble::of(Condition::Stalled))),
        }
    }

    /// One line when it begins, one when it ends.
    fn went_wrong(&self, trouble: Trouble) {
        if self.shared.trouble().is_none() {
            tracing::warn!(
                condition = trouble.condition.name(),
                cause = std::error::Error::source(&trouble).map(tracing::field::display),
                "the hold on the database cannot be renewed: {trouble}"
            );
        }
        self.shared.set_trouble(Some(trouble));
    }

    fn went_well(&self) {
        if self.shared.trouble().is_some() {
            self.shared.set_trouble(None);
            tracing::info!("this process has the database again");
        }
    }

    /// Takes the lease again after another process had it. `None` when one has it still, after
    /// that was reported.
    async fn again(&self, mut connection: Option<Connection>) -> Option<Connection> {
        loop {
            let usable = match connection.take() {
                Some(connection) if !connection.client.is_closed() => Ok(connection),
                _ => self.connect().await,
            };
            match usable {
                Ok(usable) => match self.candidate.take(&usable.client, false).await {
                    Ok((epoch, from)) => {
                        self.shared.epoch.store(epoch, Ordering::Release);
                        // Told before anybody can find it held: readers wait until they have read.
                        self.shared.epochs.send_replace(epoch.cast_unsigned());
                        self.shared
                            .set_fence(from + self.candidate.times.believed());
                        return Some(usable);
                    }
                    Err(Refused::Held(holder)) => {
                        let text = format!("the database was taken over by {holder}; stopping");
                        self.options.fatal(&text);
                        return None;
                    }
                    Err(Refused::Failed(error)) => self.shared.set_trouble(Some(trouble(error))),
                },
                Err(trouble) => self.shared.set_trouble(Some(trouble)),
            }
            tokio::time::sleep(self.candidate.times.period() / 5).await;
        }
    }
}

fn trouble(error: tokio_postgres::Error) -> Trouble {
    match Failure::from(error) {
        Failure::Again(trouble) | Failure::Trouble(trouble) => trouble,
        Failure::Unknown(cause) => Trouble::new(Condition::Unreachable, cause),
    }
}
