//! The operations, by resource.

pub(crate) mod attributes;
pub(crate) mod clock;
pub(crate) mod device_json;
pub(crate) mod devices;
pub(crate) mod dns;
pub(crate) mod keys;
pub(crate) mod logins;
pub(crate) mod policy;
pub(crate) mod settings;
pub(crate) mod ssh_checks;
pub(crate) mod tailnets;
pub(crate) mod users;
