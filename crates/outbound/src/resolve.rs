//! Names to addresses.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

/// The addresses of a name, or why there are none.
pub type Addresses = io::Result<Vec<IpAddr>>;

/// Says which addresses a name has. Tests bring their own.
pub trait Resolve: Send + Sync + 'static {
    /// All addresses of a host's name, in the order in which they are to be tried.
    fn resolve(&self, host: String) -> BoxFuture<'static, Addresses>;
}

/// Names looked up at the same time. A look-up of the system occupies a thread until it ends, whoever
/// still waits for it, and the threads are those that files and passwords need as well.
const LOOKUPS: usize = 32;

/// The system's resolver: `/etc/hosts` and DNS, as this machine is set up.
#[derive(Debug, Clone)]
pub struct SystemResolver {
    lookups: Arc<Semaphore>,
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self {
            lookups: Arc::new(Semaphore::new(LOOKUPS)),
        }
    }
}

impl Resolve for SystemResolver {
    fn resolve(&self, host: String) -> BoxFuture<'static, Addresses> {
        let lookups = self.lookups.clone();
        Box::pin(async move {
            let permit = lookups.acquire_owned().await.map_err(io::Error::other)?;
            // A task of its own, which ends when the system's look-up does: the place is taken for as
            // long as its thread is, though the request has given up.
            let lookup = tokio::spawn(async move {
                let found = tokio::net::lookup_host((host, 0)).await;
                drop(permit);
                found.map(|found| found.map(|address| address.ip()).collect())
            });
            lookup.await.map_err(io::Error::other)?
        })
    }
}
