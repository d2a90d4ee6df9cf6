//! The operations: a folder for each resource, a file for each operation.

pub(crate) mod access_tokens;
pub(crate) mod attributes;
pub(crate) mod clock;
pub(crate) mod devices;
pub(crate) mod dns;
pub(crate) mod keys;
pub(crate) mod logins;
pub(crate) mod logs;
pub(crate) mod oauth;
pub(crate) mod policy;
pub(crate) mod routes;
pub(crate) mod scim_keys;
pub(crate) mod secrets;
pub(crate) mod settings;
pub(crate) mod ssh_checks;
pub(crate) mod tailnets;
pub(crate) mod users;
pub(crate) mod webhooks;
