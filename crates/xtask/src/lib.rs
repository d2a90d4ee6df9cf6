//! The workspace's own rules, checked by tests (`cargo test -p bowline-xtask`), and what generates
//! committed files (`cargo run -p bowline-xtask -- help`).
//!
//! A rule is a function from what it looks at to the list of what breaks it, so that its own tests
//! can show that it does find something; `tests/it` runs them all on this repository. It uses no
//! other crate of the workspace: it works while those don't compile, and compiles in seconds.
//!
//! ```
//! use bowline_xtask::sources;
//!
//! let broken = sources::unfinished("crates/x/src/a.rs", "fn f() { unimplemented!() }\n");
//! assert_eq!(broken, ["crates/x/src/a.rs:1: unimplemented!"]);
//! ```

pub mod deny;
pub mod documents;
pub mod layout;
pub mod migrations;
pub mod modules;
pub mod sources;
pub mod spdx;
pub mod workspace;
