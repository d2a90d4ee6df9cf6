//! HTTP requests to addresses that somebody else chose: issuers of workload tokens, receivers of
//! webhooks.
//!
//! Whoever may write such a URL could use this server to reach what only this server reaches: its own
//! loopback, the network behind it, the metadata service of a cloud. So [`Client`]
//!
//! * resolves the name itself, once, and connects to the very address that it checked, so that a name
//!   which means something else a moment later (DNS rebinding) gains nothing;
//! * refuses every address that is not public, unless a setting lists its network ([`Networks`]);
//! * follows no redirect, uses no proxy and sends no cookies;
//! * has limits on the time to connect, on the whole time and on the size of an answer ([`Limits`]);
//! * speaks plain HTTP to listed networks alone, and TLS with the server's provider to all others.
//!
//! It must never be used for a request that is made inside a write, and nothing else in the server makes
//! requests to addresses that it was told over the network.
//!
//! ```
//! use bowline_outbound::{Client, Limits, Networks, Request, Roots};
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(Networks::public(), Roots::of_this_machine());
//! let limits = Limits {
//!     connect: Duration::from_secs(3),
//!     whole: Duration::from_secs(5),
//!     answer_bytes: 64 << 10,
//! };
//! let request = Request::get("https://issuer.example/.well-known/openid-configuration".parse()?, limits);
//! let answer = client.send(request).await?;
//! assert_eq!(answer.status, 200);
//! # Ok(())
//! # }
//! ```

mod address;
mod client;
mod failure;
mod resolve;
mod tls;

pub use address::Networks;
pub use client::{Answer, Client, Limits, Request};
pub use failure::Failure;
pub use resolve::{Addresses, Resolve, SystemResolver};
pub use tls::{Roots, RootsError};
