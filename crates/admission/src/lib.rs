//! Who may be connected, and what they may have in flight: one layer for every listener.
//!
//! Everything that costs the server something before it knows who asks is counted here by its
//! source ([`networks`]), so that one party cannot take what others need. The rule is the same
//! everywhere: nobody who comes is made to wait for those who are there, and where a pool is full
//! the largest source loses its oldest ([`Crowd`]).
//!
//! | what | type |
//! | --- | --- |
//! | connections, from the moment that they are accepted | [`Admission`], [`Ticket`] |
//! | handshakes, which cost processor time | [`Turns`] |
//! | request bodies, which cost memory | [`Bodies`] |
//! | what is refused and tried again | [`Limiter`] |
//!
//! This crate knows no protocol and no tailnet. Whoever serves a connection says when it is the
//! server's turn ([`Ticket::busy`]) and when the peer has shown who it is ([`Ticket::establish`]).
//! It never refuses an address for being many: a fleet of ten thousand behind one address is an
//! ordinary thing.
//!
//! ```
//! use bowline_admission::{Admission, Limits, Listener};
//!
//! let admission = Admission::new(Limits { half_open: 1, ..Limits::default() });
//! let first = admission.admit(Listener::Main, "192.0.2.1".parse()?, false, None)?;
//! let second = admission.admit(Listener::Main, "192.0.2.2".parse()?, false, None)?;
//! assert!(first.has_ended() && !second.has_ended(), "there is room for one that is silent");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod alarm;
mod bodies;
mod connection;
mod crowd;
mod door;
mod limit;
mod source;
mod turns;

pub use bodies::{Bodies, BodyLimits, BodyRefused, Share};
pub use connection::{Ended, Listener, Open, Refused, Shown, State};
pub use crowd::Crowd;
pub use door::{Admission, Busy, Descriptors, Limits, Origin, Ticket};
pub use limit::Limiter;
pub use source::{networks, share};
pub use turns::{Turn, Turns};
