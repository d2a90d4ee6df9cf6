//! The tailnet that these tests share with those of other crates.

pub(crate) use bowline_testkit::net::*;
