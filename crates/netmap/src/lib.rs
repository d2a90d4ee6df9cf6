//! The immutable snapshot of one tailnet, and what each device may see of it, as map responses.
//!
//! Pure functions over persistent data: deriving the next [`Snapshot`](snapshot::Snapshot) costs
//! in proportion to what changed. A [`Publication`](publication::Publication) is a snapshot that was
//! published, with what was made of it for its viewers; a stream's position is a handle on the
//! publication that it sent last. So a delta is a function of two publications, whatever lies between
//! them: for any viewer, `full(p)` with `delta(p, n)` applied equals `full(n)` (tested by properties in
//! `tests/it/law.rs`).
//!
//! **Shared bytes.** The unit of sharing is a [`chunk`]: up to 64 devices that are serialised once
//! per change and compressed once per change, encoding and group of viewers; a message is a list
//! of such buffers ([`message`]). This crate never does IO, knows no async and reads no clock.

mod applied_policy;
mod attribute_index;
mod cache;
pub mod chunk;
mod codec;
pub mod delta;
mod devices;
mod filter_names;
pub mod full;
pub mod hot;
mod json;
pub mod message;
mod owner_profiles;
mod peer_delta;
pub mod publication;
pub mod render;
pub mod snapshot;
mod table;
mod users;
pub mod variant;
mod view;
pub mod viewer;

pub use bowline_wire::derp_map::{DerpMap, Region, Relay};
pub use bowline_wire::map_request::Encoding;
