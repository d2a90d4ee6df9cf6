//! What belongs to the server and to no tailnet: requests that wait for somebody's decision, and what
//! was decided. It has the machinery of a tailnet: a writer, an immutable state, a head in the
//! database. Whatever is in it has an expiry.
//!
//! Devices that nobody knows cause its changes. So each room of the state has limits, by source and
//! in total, which the change that lets something in keeps; the writer commits at most every
//! [`writer::PACE`], however many changes wait; and what came and went between two commits is never
//! written.

pub(crate) mod draft;
pub(crate) mod handle;
mod load;
pub(crate) mod room;
pub(crate) mod run;
pub(crate) mod state;
pub(crate) mod work;
pub(crate) mod writer;
