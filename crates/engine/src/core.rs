//! How a change is made: the writer of each tailnet, the draft that a change works on, the clock and
//! what falls due, the directory over all tailnets, and the store's health. Nothing in here knows a
//! subject: what may be done, and by whom, is said in the folders beside this one.

pub(crate) mod actor;
pub(crate) mod clock;
pub(crate) mod clock_watch;
pub(crate) mod cold;
pub(crate) mod directory;
pub(crate) mod draft;
pub(crate) mod due;
pub(crate) mod engine;
pub(crate) mod failure;
pub(crate) mod freshness;
pub(crate) mod health;
pub(crate) mod job;
pub(crate) mod job_log;
pub(crate) mod jobs;
pub(crate) mod load;
pub(crate) mod memory;
pub(crate) mod open;
pub(crate) mod retention;
pub(crate) mod serve;
pub(crate) mod server;
pub(crate) mod sessions;
pub(crate) mod start;
pub(crate) mod timekeeper;
pub(crate) mod told;
pub(crate) mod watch;
pub(crate) mod webhooks;
pub(crate) mod writer;
