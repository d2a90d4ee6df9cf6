//! The server's parts that the binary wires together: settings and telemetry.
//!
//! The binary (`bowline`) is the only user; this is a library so that the settings reference can
//! be generated from it and tests can use it. It has no rule of a tailnet and no protocol: those
//! are in `engine`, `control`, `api` and `derp`.
//!
//! ```
//! use bowline_server::config::{CliFlags, Environment, Settings};
//!
//! let loaded = Settings::load(&CliFlags::default(), &Environment::default())?;
//! println!("{}", loaded.table());
//! # Ok::<(), bowline_server::config::SettingsError>(())
//! ```

pub mod accept;
pub mod cli;
pub mod config;
pub mod datadir;
pub mod descriptors;
pub mod forwarded;
mod greeting;
mod health;
pub mod holder;
pub mod listen;
mod memory;
pub mod mounts;
pub mod open;
mod pages;
pub mod relay;
mod sealkey;
pub mod serve;
pub mod signals;
pub mod telemetry;
pub mod tls;
