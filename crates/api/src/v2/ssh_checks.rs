//! SSH sessions that wait to be confirmed: by their own user, an administrator who may act for them,
//! or the operator. Operations of ours: the official service lets people sign in.

pub(crate) mod confirm;
pub(crate) mod list;
pub(crate) mod refuse;
