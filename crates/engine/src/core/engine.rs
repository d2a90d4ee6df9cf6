//! The engine: all tailnets of this process.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bowline_model::audit::EventGroup;
use bowline_model::id::{DeviceId, TailnetId};
use bowline_model::key::NodeKey;
use bowline_model::requirement::Denied;
use bowline_model::waiting::CodeKey;
use bowline_netmap::DerpMap;
use bowline_netmap::publication::Publication;
use bowline_netmap::snapshot::Snapshot;
use bowline_outbound::{Client, Networks, Roots};
use bowline_store::{Claim, Owner, Row, Sealer, Store};
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::actor::Actor;
use crate::core::clock::{Ids, Random};
use crate::core::directory::Directory;
use crate::core::draft::Draft;
use crate::core::due;
use crate::core::failure::StoreFailure;
use crate::core::health::{StoreHealth, StoreReport};
use crate::core::job::{Job, OnItsWay, Pending, Typed};
use crate::core::job_log::{JobFailed, Jobs};
use crate::core::memory::Memory;
use crate::core::retention::Retention;
use crate::core::server::handle::ServerHandle;
use crate::core::sessions::Sessions;
use crate::core::timekeeper::Timekeeper;
use crate::core::webhooks::Webhooks;

/// How the engine works, for all tailnets.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Relays that clients are told of.
    pub derp_map: DerpMap,
    /// MagicDNS suffixes of new tailnets end with this domain, without a dot in front.
    pub base_domain: String,
    /// Days until the key of a newly logged-in device expires, for new tailnets.
    pub key_duration_days: u32,
    /// Whether MagicDNS can be turned on only where there is a global nameserver.
    pub magic_dns_needs_nameserver: bool,
    /// How long an ephemeral device may be offline before it is deleted.
    pub ephemeral_timeout: Duration,
    /// How long before an auth key or an API access token expires that is told, of those that are made
    /// for longer. Zero: it is not.
    pub expiry_reminder: Duration,
    /// How long a device without a map stream still counts as online: a reconnect within it
    /// changes nothing for anybody.
    pub offline_grace: Duration,
    /// The same after a restart of the server, when everybody must come back first.
    pub restart_grace: Duration,
    /// Whether devices connect to this process. Where none can, as in a command that works on the
    /// database while no server runs, nobody is online.
    pub serves_devices: bool,
    /// From so far on, a jump of the wall clock against the monotonic one, or against the moment that
    /// was noted before a start, is held back. Zero: the wall clock is always believed.
    pub clock_jump: Duration,
    /// How long the start waits for tailnets whose policies are being compiled, since the last one
    /// that was done, before everything else is served without them.
    pub start_patience: Duration,
    /// Shortest time between two publications to the map streams of one tailnet.
    pub publication_interval: Duration,
    /// Whether logins from this machine itself are counted by their address, as all others are.
    /// Not where a reverse proxy may stand in front that does not say for whom it asks.
    pub loopback_is_a_source: bool,
    /// How many reports of one device that change something are taken at once.
    pub report_burst: u32,
    /// How long one more of them takes in the long run. Zero: no limit.
    pub report_interval: Duration,
    /// How long a change waits for a database that does not answer, before its caller is told so.
    pub commit_timeout: Duration,
    /// The key that codes of waiting logins and SSH sessions are made with. Absent: one is drawn at
    /// the start, and the next start has other codes for what waits.
    pub code_key: Option<CodeKey>,
    /// How long logs are kept.
    pub retention: Retention,
    /// What users call this server: `https://`, a host, perhaps a port. It is the issuer of the tokens
    /// that the server signs, and its host begins the audiences that it makes.
    pub url: String,
    /// Makes requests to addresses that users chose: issuers, receivers of webhooks. Never inside a
    /// write.
    pub outbound: Client,
    /// Seals secrets that the server must use again. Absent: nothing that has one can be made.
    pub sealer: Option<Sealer>,
    /// How webhook endpoints are told of events.
    pub webhooks: Webhooks,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            derp_map: DerpMap::default(),
            base_domain: "internal".to_owned(),
            key_duration_days: 180,
            magic_dns_needs_nameserver: false,
            ephemeral_timeout: Duration::from_mins(30),
            expiry_reminder: Duration::from_hours(7 * 24),
            offline_grace: Duration::from_secs(10),
            restart_grace: Duration::from_mins(1),
            serves_devices: true,
            clock_jump: Duration::from_hours(24),
            start_patience: Duration::from_secs(30),
            publication_interval: Duration::from_millis(5),
            loopback_is_a_source: false,
            report_burst: 30,
            report_interval: Duration::from_secs(5),
            commit_timeout: Duration::from_secs(10),
            code_key: None,
            retention: Retention::default(),
            url: "http://localhost".to_owned(),
            outbound: Client::new(Networks::public(), Roots::of_this_machine()),
            sealer: None,
            webhooks: Webhooks::default(),
        }
    }
}

/// Something that other parts of the server act on, whichever change or process caused it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// A node key stopped being good: the device was deleted, expired, or got another.
    NodeKeyRevoked(NodeKey),
}

/// All tailnets of this process. Cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) clock: Timekeeper,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) settings: Settings,
    pub(crate) derp_map: Arc<DerpMap>,
    pub(crate) ids: Ids,
    pub(crate) tailnets: papaya::HashMap<TailnetId, Arc<Handle>>,
    /// Tailnets whose stored state cannot be put into force.
    pub(crate) out_of_order: papaya::HashMap<TailnetId, ()>,
    pub(crate) directory: Directory,
    /// Tailnets that are known and not served yet.
    pub(crate) starting: papaya::HashMap<TailnetId, ()>,
    pub(crate) notices: broadcast::Sender<Notice>,
    pub(crate) tasks: TaskTracker,
    /// Ends the writers, after the streams.
    pub(crate) stop: CancellationToken,
    /// Ends what waits for a database that does not answer.
    pub(crate) abandon: CancellationToken,
    pub(crate) health: StoreHealth,
    /// Ends the map streams.
    pub(crate) streams: CancellationToken,
    /// The number of the hand-over by which this process has the database.
    pub(crate) epochs: watch::Receiver<u64>,
    /// The hand-over after which memory was read.
    pub(crate) read_epoch: watch::Sender<u64>,
    /// What belongs to no tailnet.
    pub(crate) server: Arc<ServerHandle>,
    /// How often two machines were found to use one node key.
    pub(crate) rivalries: AtomicU64,
    pub(crate) counters: Counters,
    pub(crate) subjects: &'static Subjects,
    pub(crate) jobs: Jobs,
    /// What subjects keep of the whole server.
    pub(crate) memory: Memory,
}

/// What happened so far, for metrics.
#[derive(Debug, Default)]
pub struct Counters {
    /// Reports of devices that wait, or waited, because the device changes what it says too often.
    pub reports_held: AtomicU64,
    /// Reports of which a part was left out or shortened that was not before.
    pub reports_shortened: AtomicU64,
    /// Events that a webhook endpoint was not told, since too many waited for it already.
    pub webhook_events_dropped: AtomicU64,
    /// Events that were given up for a webhook endpoint, since it did not take them for too long.
    pub webhook_events_given_up: AtomicU64,
}

/// Work that goes on until the engine stops.
pub(crate) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A kind of background work, as its subject registers it.
pub(crate) struct Work {
    /// What its rows are called.
    pub(crate) topic: &'static str,
    /// How many of them run at once, so that slow ones of one kind keep no others waiting.
    pub(crate) places: usize,
    /// How long a claim holds. It is renewed while the work goes on, so it bounds how long a job waits
    /// whose process died.
    pub(crate) lease: Duration,
    /// The time after which it is done again. `None`: only what changes emit is done.
    pub(crate) every: Option<Duration>,
    /// Does it. It may be given up wherever it waits.
    pub(crate) run: fn(Engine, Claim) -> Running,
}

/// A job that is being done.
pub(crate) type Running = Pin<Box<dyn Future<Output = Result<(), JobFailed>> + Send>>;

/// Adds to a draft what follows from the events that one change noted. It is given the state before
/// that change, and has no effect but on the draft: the change may run again.
pub(crate) type Follow = fn(&Inner, &Handle, &mut Draft<'_>, &Snapshot) -> Result<(), StoreFailure>;

/// Everything of the subjects that the engine runs by itself.
pub(crate) struct Subjects {
    /// What falls due, by kind of record.
    pub(crate) due: &'static [due::Rule],
    /// What is begun for a tailnet when its writer has started.
    pub(crate) begins: &'static [fn(&Engine, &Arc<Handle>)],
    /// Tasks that run for as long as the engine is open.
    pub(crate) tasks: &'static [fn(Engine) -> Task],
    /// Background work, by topic.
    pub(crate) jobs: &'static [Work],
    /// What follows from the events of a change, in its own transaction.
    pub(crate) follows: &'static [Follow],
}

/// One tailnet of this process.
pub(crate) struct Handle {
    pub(crate) id: TailnetId,
    /// The newest state: what the writer goes on from, and what readers get.
    pub(crate) newest: ArcSwap<Publication>,
    /// Wakes who tells map streams of it.
    pub(crate) published: Notify,
    /// The state that map streams were told of last: the newest of a moment ago.
    pub(crate) told: watch::Sender<Arc<Publication>>,
    pub(crate) jobs: mpsc::Sender<Job>,
    pub(crate) sessions: Sessions,
    /// Changes of devices that are not in the snapshot yet.
    pub(crate) pending: Arc<Pending>,
    /// Whether the writer has died and was not started again yet.
    pub(crate) writer_lost: AtomicBool,
    /// What subjects keep of this tailnet.
    pub(crate) memory: Memory,
}

impl Handle {
    /// The newest state.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        self.newest.load().snapshot().clone()
    }

    /// Replaces the newest state, and has map streams told of it.
    pub(crate) fn publish(&self, publication: Arc<Publication>) {
        self.newest.store(publication);
        self.published.notify_one();
    }
}

/// Why an engine could not be started.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store failed.
    #[error("could not read the database")]
    Store(#[from] bowline_store::Error),
    /// A stored object cannot be read.
    #[error("cannot read {kind} {id} of {owner}")]
    Body {
        /// Kind of the object.
        kind: bowline_store::Kind,
        /// Its id.
        id: u64,
        /// Whose it is.
        owner: Owner,
        /// What is wrong with it.
        #[source]
        source: bowline_model::record::BodyError,
    },
    /// A tailnet without its own record.
    #[error("tailnet {0} has no record of itself")]
    NoTailnet(TailnetId),
}

impl OpenError {
    /// A row that cannot be read.
    pub(crate) fn of_row(
        owner: Owner,
        row: &Row,
        source: bowline_model::record::BodyError,
    ) -> Self {
        Self::Body {
            kind: row.kind,
            id: row.id,
            owner,
            source,
        }
    }
}

/// Time for tasks to see that what they wait for was given up.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(1);
impl Engine {
    pub(crate) fn handle(&self, tailnet: TailnetId) -> Option<Arc<Handle>> {
        self.0.tailnets.pin().get(&tailnet).cloned()
    }

    /// The newest state of a tailnet.
    pub fn snapshot(&self, tailnet: TailnetId) -> Option<Arc<Snapshot>> {
        self.handle(tailnet).map(|handle| handle.snapshot())
    }

    /// The newest state of a tailnet with what was made of it for viewers. Map streams are told of it
    /// a little later, unless another takes its place before.
    pub fn publication(&self, tailnet: TailnetId) -> Option<Arc<Publication>> {
        self.handle(tailnet).map(|handle| handle.newest.load_full())
    }

    /// A tailnet by id (`T…CNTRL` or decimal) or organisation name.
    pub fn find_tailnet(&self, text: &str) -> Option<TailnetId> {
        self.0
            .directory
            .name(text)
            .or_else(|| TailnetId::parse(text))
            .filter(|id| self.handle(*id).is_some())
    }

    /// All tailnets, by id.
    pub fn tailnets(&self) -> Vec<TailnetId> {
        let mut ids: Vec<TailnetId> = self.0.tailnets.pin().keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    /// Time, as the engine sees it.
    pub fn now(&self) -> jiff::Timestamp {
        self.0.clock.now()
    }

    /// The source of randomness that it was opened with.
    pub fn random(&self) -> &dyn Random {
        &*self.0.random
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// What happened so far.
    pub fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// The store, for reading logs.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Whether a node key belongs to a tailnet that is out of order: it is known, and cannot be
    /// served.
    pub fn is_out_of_order(&self, key: &NodeKey) -> bool {
        let tailnet = self.0.directory.node_key(key);
        tailnet.is_some_and(|tailnet| self.is_held_back(tailnet))
    }

    /// Tailnets whose changes cannot be stored at present: their writer has died, or what is stored
    /// of them cannot be put into force.
    pub fn tailnets_out_of_order(&self) -> Vec<TailnetId> {
        let mut ids: Vec<TailnetId> = self.0.out_of_order.pin().keys().copied().collect();
        let tailnets = self.0.tailnets.pin();
        let lost = tailnets
            .values()
            .filter(|handle| handle.writer_lost.load(Ordering::Acquire));
        ids.extend(lost.map(|handle| handle.id));
        ids.sort_unstable();
        ids
    }

    /// Whether the writer of the server's own records has died and was not started again yet: no
    /// login or SSH session can begin to wait, and no tailnet be made.
    pub fn is_server_out_of_order(&self) -> bool {
        self.0.server.writer_lost.load(Ordering::Acquire)
    }

    /// What is known of the database: whether changes can be stored, how many were, how long it took.
    pub fn store_report(&self) -> StoreReport {
        self.0.health.report()
    }

    /// Notices from now on. A receiver that lags misses the oldest.
    pub fn notices(&self) -> broadcast::Receiver<Notice> {
        self.0.notices.subscribe()
    }

    /// Runs a change: the closure may run again, so it has no effect but on the draft. The writer
    /// makes the actor again from the draft and checks again what the operation needs; the closure
    /// finds that actor in the draft.
    ///
    /// # Errors
    /// How the actor is refused, what the closure refused with, or why the change could not be
    /// stored.
    pub(crate) async fn write<T, E, F>(&self, actor: &Actor, closure: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreFailure> + From<Denied> + Send + 'static,
        F: FnMut(&mut Draft<'_>) -> Result<T, E> + Send + 'static,
    {
        // A quick answer; the one that counts is given in the draft.
        actor.check_change()?;
        if actor.requirement().only_reads() {
            return Err(StoreFailure::Defect("an operation that only reads made a change").into());
        }
        let handle = self.handle(actor.tailnet).ok_or_else(|| self.gone())?;
        let (reply, answer) = oneshot::channel();
        let work = Typed {
            closure,
            actor: actor
                .clone()
                .in_group(actor.group().unwrap_or_else(|| self.new_group())),
            result: None,
            reply,
        };
        handle
            .jobs
            .send(Job::Durable(Box::new(work)))
            .await
            .map_err(|_| self.gone())?;
        // The writer took the change and dropped it: it has died, or has given up at the end.
        answer.await.map_err(|_| self.gone())?
    }

    /// A group for the events of one request. Its actor carries it: [`Actor::in_group`].
    pub fn new_group(&self) -> EventGroup {
        let mut random = [0; 16];
        self.0.random.fill(&mut random);
        EventGroup::new(random)
    }

    pub(crate) fn gone(&self) -> StoreFailure {
        if self.0.stop.is_cancelled() {
            StoreFailure::Stopping
        } else {
            StoreFailure::WriterLost
        }
    }

    /// Runs a change of soft state or reported facts of a device (`None`: of any). It cannot fail
    /// and nobody waits for it. It may run twice, on two states.
    pub(crate) async fn soften(
        handle: &Arc<Handle>,
        device: Option<DeviceId>,
        change: impl FnMut(&mut Draft<'_>) + Send + 'static,
    ) {
        let on_its_way = OnItsWay::new(handle.pending.clone(), device);
        // A closed queue means that the server stops: there is nobody left to be told.
        let _ = handle
            .jobs
            .send(Job::Soft(Box::new(change), on_its_way))
            .await;
    }

    /// Lets every writer look at the clock: what is due is done. For tests that move the clock.
    pub async fn tick(&self) {
        self.0.server.tick().await;
        for id in self.tailnets() {
            if let Some(handle) = self.handle(id) {
                let (reply, done) = oneshot::channel();
                if handle.jobs.send(Job::Tick(reply)).await.is_ok() {
                    let _ = done.await;
                }
            }
        }
    }

    /// Ends every stream and writer, after flushing soft state, and closes the store.
    pub async fn close(self) {
        self.stop().await;
    }

    /// The same within a time, whatever the database does: what it has not answered by then is
    /// given up, as in a crash. Returns whether everything was written.
    pub async fn close_within(self, limit: Duration) -> bool {
        if tokio::time::timeout(limit, self.stop()).await.is_ok() {
            return true;
        }
        self.0.abandon.cancel();
        // Nothing of this waits for the database any more.
        let _ = tokio::time::timeout(GIVEN_UP_WITHIN, self.0.tasks.wait()).await;
        false
    }

    async fn stop(&self) {
        self.0.streams.cancel();
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.store.clone().close().await;
    }

    /// Ends every map stream, now and from now on; changes are still taken.
    pub fn end_streams(&self) {
        self.0.streams.cancel();
    }

    /// Cancelled when map streams are to end.
    pub fn ending(&self) -> CancellationToken {
        self.0.streams.clone()
    }
}
