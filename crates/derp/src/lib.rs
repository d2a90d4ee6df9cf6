//! The embedded relay (DERP) and the STUN responder.
//!
//! When two nodes find no direct path, they send each other encrypted WireGuard packets through a
//! relay that both keep a connection to. [`RelayServer`] is that relay: it knows public keys and
//! forwards packets between them, nothing else. [`StunServer`] tells a node its address as the
//! internet sees it. [`client`] is the other end, for tests and for simulating many nodes.
//!
//! The relay can not read packets and must never try. It must never block one client because of
//! another: queues are short and bounded, the oldest packet goes first. It admits only keys that
//! [`Admission`] knows, and holds little memory for a client that is idle.
//!
//! ```
//! use std::{net::IpAddr, sync::Arc};
//! use bowline_derp::{Admission, NodeKey, RelayConfig, RelayServer, SecretKey, TailnetId, client};
//! use tokio_util::sync::CancellationToken;
//!
//! struct Everyone;
//! impl Admission for Everyone {
//!     fn admit(&self, _node: NodeKey, _source: IpAddr) -> Option<TailnetId> {
//!         Some(TailnetId::MIN)
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let relay = RelayServer::new(
//!     SecretKey::from_bytes([7; 32]),
//!     Arc::new(Everyone),
//!     RelayConfig::default(),
//! );
//! let (near, far) = tokio::io::duplex(4096);
//! let stop = CancellationToken::new();
//! let session = relay.serve(far, "192.0.2.1:4242".parse()?, stop.clone());
//! let node = async {
//!     let key = SecretKey::from_bytes([1; 32]);
//!     let mut node = client::connect(near, &key, &client::Options::default()).await?;
//!     node.send(&key.public(), b"to myself").await?;
//!     let event = node.recv().await?;
//!     assert!(matches!(event, client::Event::Packet { packet, .. } if packet == "to myself"));
//!     stop.cancel();
//!     Ok::<_, client::Error>(())
//! };
//! let (_, node) = tokio::join!(session, node);
//! node?;
//! # Ok(())
//! # }
//! ```

pub mod client;
mod entropy;
pub mod frame;
mod frame_buffer;
#[doc(hidden)]
pub mod fuzzing;
mod http;
mod key;
mod relay;
pub mod sealed;
pub mod stun;
#[cfg(test)]
mod testing;
pub mod websocket;

pub use bowline_model::{id::TailnetId, key::NodeKey};
pub use entropy::{Entropy, NoEntropy};
pub use http::{Answer, Upgrade};
pub use key::SecretKey;
pub use relay::{
    Admission, Dropped, RateLimit, RelayConfig, RelayServer, RelayStats, SessionError,
};
pub use stun::{StunServer, StunStats};
