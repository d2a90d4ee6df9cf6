//! Every use case: may this actor do it, do it on a draft, commit, publish.
//!
//! Each tailnet has one serial writer (a task) and one immutable snapshot. A change is a closure
//! over a [`Draft`](draft::Draft): the writer runs all closures that wait on one draft, commits
//! them in one transaction, replaces the snapshot and then answers. Reads and map streams take the
//! snapshot and never wait. The HTTP API and the control protocol are translators in front of
//! this crate, and so must agree.
//!
//! This crate must never know HTTP, never answer before the commit, and never let a lookup cross
//! a tailnet's wall.

pub mod acting;
pub mod actor;
mod admit;
mod allowance;
mod approval;
pub mod attribute;
mod census;
pub mod clock;
pub mod credential;
pub mod device;
mod directory;
pub mod dns;
pub mod draft;
mod due;
mod engine;
pub mod failure;
mod freshness;
pub mod health;
mod load;
pub mod login;
pub mod policy_file;
mod refused;
pub mod register;
pub mod report;
pub mod session;
pub mod settings;
pub mod ssh_check;
mod start;
mod tag;
pub mod tailnet;
pub mod timekeeper;
pub mod user;
mod waiting;
mod watch;
mod writer;

pub use bowline_store::Column;

pub use actor::{Access, Actor, Principal, Scope};
pub use census::Census;
pub use clock::{Clock, Random, SystemClock, SystemRandom};
pub use engine::{Counters, Engine, Event, OpenError, Settings};
pub use failure::{Refusal, StoreFailure};
pub use freshness::Freshness;
pub use health::{StoreReport, Trouble};
pub use login::{Followed, Login, LoginState};
pub use register::{Registered, Registration, RegistrationRefused};
pub use report::{NetReport, Report};
pub use session::{Link, Stream};
pub use ssh_check::{SshAnswer, SshCheck, SshSession};
pub use tailnet::BASE_DOMAIN_MAX;
pub use timekeeper::{ClockStatus, FallsDue};
