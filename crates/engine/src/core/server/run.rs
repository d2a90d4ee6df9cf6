//! Opening the server's records, writing to them, and starting their writer again should it die.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bowline_model::audit::ActorRef;
use bowline_model::waiting::CodeKey;
use bowline_store::Owner;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::Instant;

use super::draft::ServerDraft;
use super::load::load;
use super::work::{ServerJob, Typed};
use super::writer::ServerWriter;
use crate::core::clock::Random;
use crate::core::engine::{Engine, Inner, OpenError};
use crate::core::failure::StoreFailure;

/// Jobs that may wait for the writer. A caller beyond them waits.
pub(crate) const QUEUE: usize = 4096;
/// The first wait before the writer is started again, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_mins(1);

impl Engine {
    /// Reads the server's records and starts their writer.
    pub(crate) async fn open_server(
        &self,
        jobs: mpsc::Receiver<ServerJob>,
    ) -> Result<(), OpenError> {
        let state = load(&self.0).await?;
        let touched = state.all();
        self.0.server.publish(state, touched);
        self.0.tasks.spawn(supervise(self.0.clone(), jobs));
        Ok(())
    }

    /// Runs a change of the server's records: the closure may run again, so it has no effect but on
    /// the draft.
    ///
    /// # Errors
    /// What the closure refused with, or why the change could not be stored.
    pub(crate) async fn write_server<T, E, F>(&self, actor: ActorRef, closure: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreFailure> + Send + 'static,
        F: FnMut(&mut ServerDraft<'_>) -> Result<T, E> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work = Typed {
            closure,
            actor,
            group: self.new_group(),
            result: None,
            reply,
        };
        let job = ServerJob::Durable(Box::new(work));
        let sent = self.0.server.jobs.send(job).await;
        sent.map_err(|_| self.gone())?;
        answer.await.map_err(|_| self.gone())?
    }

    /// Takes in what another process wrote for the server. Whether that was possible.
    pub(crate) async fn follow_server(&self) -> bool {
        let since = self.0.server.state().seq;
        let found = match self.0.store.catch_up(Owner::Server, since).await {
            Ok(found) => Box::new(found),
            Err(error) => {
                tracing::debug!(%error, "cannot read the server's records again yet");
                return false;
            }
        };
        let (reply, done) = oneshot::channel();
        let job = ServerJob::CatchUp(found, reply);
        self.0.server.jobs.send(job).await.is_ok() && done.await == Ok(true)
    }
}

/// Runs the writer until the engine stops. One that dies by a defect is started again from what is
/// stored.
async fn supervise(engine: Arc<Inner>, jobs: mpsc::Receiver<ServerJob>) {
    let jobs = Arc::new(Mutex::new(jobs));
    let mut wait = FIRST_WAIT;
    loop {
        let queue = jobs.clone().lock_owned().await;
        let writer = ServerWriter::new(engine.clone(), queue, &engine.server.state());
        let Err(died) = tokio::spawn(writer.run()).await else {
            return;
        };
        engine.server.writer_lost.store(true, Ordering::Release);
        tracing::error!(
            error = %died,
            "the writer of the server's records has died; its changes are refused until it has started again"
        );
        loop {
            if refuse_for(&engine, &jobs, wait).await {
                return;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
            match load(&engine).await {
                Ok(state) => {
                    let mut touched = engine.server.state().all();
                    touched.extend(state.all());
                    engine.server.publish(state, touched);
                    break;
                }
                Err(error) => {
                    let cause = crate::core::health::causes(&error);
                    tracing::error!(
                        cause,
                        "the writer of the server's records could not be started again"
                    );
                }
            }
        }
        engine.server.writer_lost.store(false, Ordering::Release);
        tracing::warn!("the writer of the server's records has started again");
    }
}

/// Refuses changes for a while; whether the engine stops.
async fn refuse_for(
    engine: &Inner,
    jobs: &Mutex<mpsc::Receiver<ServerJob>>,
    wait: Duration,
) -> bool {
    let until = Instant::now() + wait;
    let mut jobs = jobs.lock().await;
    loop {
        let job = tokio::select! {
            () = engine.stop.cancelled() => return true,
            () = tokio::time::sleep_until(until) => return false,
            job = jobs.recv() => job,
        };
        match job {
            Some(ServerJob::Durable(work)) => work.finish(Err(StoreFailure::WriterLost)),
            // The clock is looked at again, and the state is read again.
            Some(ServerJob::Tick(_) | ServerJob::CatchUp(..)) => {}
            None => return true,
        }
    }
}

/// A key for codes that nobody needs again after a restart.
pub(crate) fn passing_key(random: &dyn Random) -> CodeKey {
    let mut bytes = [0; 32];
    random.fill(&mut bytes);
    CodeKey::new(&bytes)
}
