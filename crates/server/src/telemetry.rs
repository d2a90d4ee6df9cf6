//! What the server tells of itself: the log, and metrics for Prometheus on a listener of their
//! own.
//!
//! The log goes to standard error, never a secret in it: secrets have types that can't print, and
//! the libraries below us, which know no secret as such, may only warn.

mod admission;
mod http;
pub(crate) mod jobs;
pub(crate) mod liveness;
mod log;
mod metrics;
mod process;
mod serve;
mod state;

pub use self::admission::register_admission;
pub use self::http::{HttpMetrics, track};
pub use self::log::{LogError, start_log};
pub use self::metrics::{Metrics, Timer};
pub use self::serve::serve_metrics;
pub use self::state::register_state;
