//! Opening an engine: reading what the store has, and starting what runs.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use bowline_store::Store;
use tokio::sync::{broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::core::clock::{Clock, Ids, Random};
use crate::core::directory::Directory;
use crate::core::engine::Subjects;
use crate::core::engine::{Counters, Engine, Inner, OpenError, Settings};
use crate::core::health::StoreHealth;
use crate::core::job_log::Jobs;
use crate::core::jobs;
use crate::core::memory::Memory;
use crate::core::server::handle::ServerHandle;
use crate::core::server::run::{QUEUE, passing_key};
use crate::core::server::state::ServerState;
use crate::core::start::Starts;
use crate::core::timekeeper::Timekeeper;
use crate::core::watch::watch;

impl Engine {
    /// Loads every tailnet and starts its writer. Tailnets whose policies take long to compile come
    /// later: until then they are not served.
    ///
    /// # Errors
    /// When the database cannot be read, or an object in it.
    pub(crate) async fn open_with(
        store: Store,
        settings: Settings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        subjects: &'static Subjects,
    ) -> Result<Self, OpenError> {
        let (notices, _) = broadcast::channel(1024);
        let epochs = store.epochs();
        // Before anything is read: what changes while reading is read again.
        let read_epoch = watch::Sender::new(*epochs.borrow());
        let codes = settings.code_key.clone();
        let codes = codes.unwrap_or_else(|| passing_key(&*random));
        let state = ServerState::new(Arc::new(codes));
        let (jobs, server_jobs) = mpsc::channel(QUEUE);
        let engine = Self(Arc::new(Inner {
            derp_map: Arc::new(settings.derp_map.clone()),
            store,
            clock: Timekeeper::new(clock, settings.clock_jump),
            random,
            settings,
            ids: Ids::default(),
            tailnets: papaya::HashMap::new(),
            out_of_order: papaya::HashMap::new(),
            directory: Directory::default(),
            starting: papaya::HashMap::new(),
            notices,
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
            health: StoreHealth::default(),
            streams: CancellationToken::new(),
            server: Arc::new(ServerHandle::new(state, jobs)),
            epochs,
            read_epoch,
            rivalries: AtomicU64::new(0),
            counters: Counters::default(),
            subjects,
            jobs: Jobs::default(),
            memory: Memory::default(),
        }));
        engine.resume_clock().await?;
        engine.0.tasks.spawn(watch(engine.0.clone()));
        engine.open_server(server_jobs).await?;
        let tailnets = engine.0.store.tailnets().await?;
        let starts = Starts::new(&engine, tailnets.into_iter().map(|(id, _)| id));
        if let Some(rest) = starts.run().await? {
            engine.0.tasks.spawn(rest.run_behind());
        }
        engine.watch_clock();
        for task in subjects.tasks {
            engine.0.tasks.spawn(task(engine.clone()));
        }
        engine.0.tasks.spawn(engine.clone().follow_epochs());
        engine.0.tasks.spawn(jobs::run(engine.clone()));
        Ok(engine)
    }
}
