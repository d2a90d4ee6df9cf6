//! What a tailnet is made of: ids, keys, secrets, tags, addresses, names and the stored records.
//!
//! Pure data and pure functions. This crate does no IO, knows no async, reads no clock and draws
//! no randomness: time and random bytes are arguments.
//!
//! ```
//! use bowline_model::id::DeviceId;
//! let id = DeviceId::new(393_735_751_060).unwrap();
//! assert_eq!(id.to_string(), "393735751060"); // the API's legacy `id`
//! assert_eq!(DeviceId::parse(&id.stable()), Some(id)); // the API's `nodeId`
//! ```

pub mod access_token;
pub mod address;
pub mod audit;
pub mod credential;
pub mod device;
pub mod dns;
pub mod event;
pub mod id;
pub mod key;
pub mod kind;
pub mod name;
pub mod policy_file;
pub mod principal;
pub mod record;
pub mod requirement;
pub mod right;
pub mod scope;
pub mod secret;
pub mod tag;
pub mod tailnet;
pub mod text;
pub mod user;
pub mod waiting;
pub mod webhook;
