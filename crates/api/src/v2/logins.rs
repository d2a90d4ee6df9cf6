//! Interactive logins: devices without an auth key that wait until somebody says whose they are.
//! Operations of ours: the official service lets people sign in.

pub(crate) mod confirm;
pub(crate) mod list;
pub(crate) mod refuse;
