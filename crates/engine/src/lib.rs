//! Every use case: may this actor do it, do it on a draft, commit, publish.
//!
//! Each tailnet has one serial writer (a task) and one immutable snapshot. A change is a closure
//! over a draft: the writer runs all closures that wait on one draft, commits
//! them in one transaction, replaces the snapshot and then answers. Reads and map streams take the
//! snapshot and never wait. The HTTP API and the control protocol are translators in front of
//! this crate, and so must agree.
//!
//! This crate must never know HTTP, never answer before the commit, and never let a lookup cross
//! a tailnet's wall.

mod core;
pub mod credential;
pub mod device;
pub mod dns;
pub mod login;
pub mod logs;
pub mod people;
pub mod policy;
pub mod registration;
pub mod secret;
pub mod settings;
mod subjects;
pub mod tailnet;
pub mod webhook;
pub mod workload;

pub use bowline_store::Column;

pub use crate::core::actor::Actor;
pub use crate::core::clock::{Clock, Random, SystemClock, SystemRandom};
pub use crate::core::engine::{Counters, Engine, Notice, OpenError, Settings};
pub use crate::core::failure::{Refusal, StoreFailure};
pub use crate::core::freshness::Freshness;
pub use crate::core::health::{LATENCY_BOUNDS, StoreReport, Trouble};
pub use crate::core::job_log::JobReport;
pub use crate::core::retention::Retention;
pub use crate::core::sessions::Link;
pub use crate::core::timekeeper::ClockStatus;
pub use crate::core::webhooks::{Courier, Delivery, Sending, Webhooks};
pub use crate::tailnet::census::Census;
pub use device::reported::{NetReport, Report};
pub use device::session::Stream;
pub use login::ssh_check::{SshAnswer, SshCheck, SshSession};
pub use login::{Followed, Login, LoginState};
pub use registration::{Registered, Registration, RegistrationRefused};
pub use settings::clock::FallsDue;
pub use tailnet::create::BASE_DOMAIN_MAX;
