//! The encrypted channel under the control protocol (`ts2021`).
//!
//! [`handshake`] is the Noise IK exchange that rides on the HTTP upgrade, [`stream`] carries bytes
//! in encrypted records after it. Neither knows what the bytes mean, and neither grants anything:
//! any machine key is accepted here, registration decides what it may do.
//!
//! The handshake follows the Noise specification. The records do not: their nonces count
//! **big-endian**, so the transport state of a general Noise library cannot be used for them.
//!
//! Source: tailscale `control/controlbase/handshake.go`, `control/controlbase/messages.go`,
//! `control/controlbase/conn.go`.

pub mod early;
#[doc(hidden)]
pub mod fuzz;
pub mod handshake;
mod inbox;
mod key;
mod pool;
mod record;
pub mod stream;
#[cfg(test)]
mod vectors;

pub use handshake::{HandshakeError, Initiator, Responded, respond};
pub use key::Key;
pub use record::{MAX_PLAINTEXT, MAX_RECORD};
pub use stream::NoiseStream;
