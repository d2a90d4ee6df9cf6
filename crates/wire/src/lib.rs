//! The control protocol's JSON, as clients send and expect it.
//!
//! Types and pure conversions only. Requests are read without regard to the case of their keys,
//! because Go matches them so and the official Rust client relies on it; unknown keys are kept or
//! ignored, never refused. Responses avoid what real clients cannot read: `null` lists, needless
//! escapes, names without a dot at the end.
//!
//! ```
//! let body = br#"{"Version":113,"NodeKey":"nodekey:0000000000000000000000000000000000000000000000000000000000000001","stream":true,"Compress":"zstd"}"#;
//! let request = bowline_wire::map_request::MapRequest::parse(body).unwrap();
//! assert!(request.stream);
//! ```

pub mod capability;
pub mod derp_map;
pub mod dns;
pub mod fields;
#[doc(hidden)]
pub mod fuzzing;
pub mod hostinfo;
pub mod id_token;
pub mod map_request;
pub mod map_response;
pub mod net_info;
pub mod node;
pub mod register;
pub mod ssh_action;
pub mod user;
