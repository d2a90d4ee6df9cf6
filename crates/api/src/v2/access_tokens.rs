//! API access tokens. An operation of ours: the official API makes none.

pub(crate) mod create;
