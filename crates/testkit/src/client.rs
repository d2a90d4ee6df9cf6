//! A Tailscale client, as far as a coordination server can tell.
//!
//! It fetches `/key`, upgrades `/ts2021`, speaks HTTP/2 inside Noise, registers, and follows its
//! map stream with the [model](bowline_modelclient) of the real clients' rules, so that a message
//! which a real client would not take fails the test that received it. Like the official Rust
//! client, and unlike Go ones, it says nothing before the server has spoken.
//!
//! ```no_run
//! use bowline_testkit::client::{Client, Compression, Identity, Server};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let server = Server::discover("http://127.0.0.1:8080").await?;
//! let laptop = Client::new(server, Identity::numbered(1), "laptop");
//! laptop.join("tskey-auth-…").await?;
//! let mut stream = laptop.stream(Compression::Zstd).await?;
//! stream.until(|map| map.peer_count() == 3).await?;
//! # Ok(())
//! # }
//! ```

mod connection;
mod identity;
mod map_stream;
mod node;
#[cfg(test)]
mod tests;

pub use connection::{Answer, Connection, Server};
pub use identity::Identity;
pub use map_stream::{Compression, MapFrames, decode};
pub use node::{CAPABILITY_VERSION, Client, FollowedStream};
