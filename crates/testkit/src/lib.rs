//! What tests share: a tailnet with a clock that is moved, and clients that speak as real ones do.
//!
//! For tests and the load simulator only; no crate of the server depends on it. It must never
//! decide what is right: what a client may not be sent is said by `bowline-modelclient`.
//!
//! ```no_run
//! use bowline_testkit::client::{Client, Identity, Server};
//!
//! # async fn example() -> anyhow::Result<()> {
//! let server = Server::discover("http://127.0.0.1:8080").await?;
//! let laptop = Client::new(server, Identity::random()?, "laptop");
//! let answer = laptop.join("tskey-auth-…").await?;
//! assert_eq!(answer["Error"], "");
//! # Ok(())
//! # }
//! ```

pub mod client;
pub mod clock;
pub mod issuer;
pub mod net;
pub mod post;

pub use bowline_modelclient as model_client;
