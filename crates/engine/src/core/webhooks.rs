//! How webhook endpoints are told of events: settings, and the way out of the process, which whoever
//! opens the engine provides. What is told is a subject's.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

/// How webhook endpoints are told of events.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// Makes the requests. Absent: [`Settings::outbound`](crate::Settings::outbound) does.
    pub courier: Option<Arc<dyn Courier>>,
    /// How long after a rotation requests are signed with the former secret too.
    pub secret_overlap: Duration,
    /// The age at which an event that an endpoint did not take is given up.
    pub give_up_after: Duration,
    /// How many events may wait for one endpoint. It is not told of those that come on top.
    pub queue: u64,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            courier: None,
            secret_overlap: Duration::from_hours(24),
            give_up_after: Duration::from_hours(24),
            queue: 10_000,
        }
    }
}

/// One request to an endpoint: a `POST` of JSON.
#[derive(Clone)]
pub struct Delivery {
    /// Where to.
    pub url: String,
    /// The body.
    pub body: Bytes,
    /// Value of the header `Tailscale-Webhook-Signature`.
    pub signature: String,
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// A request under way. The error says in a line why it is to be made again.
pub type Sending = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Makes the requests: to no address that is not allowed, following no redirect, within limits of time
/// and size.
pub trait Courier: fmt::Debug + Send + Sync {
    /// Whether requests to a URL could be made, as far as its text tells.
    ///
    /// # Errors
    /// With what is wrong with it, for whoever wrote it.
    fn check(&self, url: &str) -> Result<(), String>;

    /// Makes a request. Every answer but one from 200 to 299 is a failure.
    fn deliver(&self, delivery: Delivery) -> Sending;
}
