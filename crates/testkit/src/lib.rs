//! What tests share: clients that speak as real ones do.
//!
//! For tests and the load simulator only; no crate of the server depends on it.

pub mod client;

pub use bowline_modelclient as model_client;
