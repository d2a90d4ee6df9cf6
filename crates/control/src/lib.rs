//! The control protocol's server side: `/key`, `/ts2021`, and what runs inside the encrypted
//! connection: registration and map streams, and decisions about SSH sessions.
//!
//! Handlers translate: `bowline_engine` decides, `bowline_netmap` renders. This crate never
//! answers for a device whose machine key the connection has not proved, never holds up one
//! request of a connection behind another, and bounds what a peer that has proved nothing can
//! make it keep.

mod id_token;
pub mod liveness;
pub mod map;
pub mod noise;
pub mod register;
pub mod server;
mod ssh_action;
mod upgrade;

pub use liveness::Liveness;
pub use server::{Config, Control, Counters};
