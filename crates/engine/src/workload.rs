//! Workload identity: a program that another issuer vouches for gets an access token without a secret.
//!
//! A **federated identity** says whose tokens it trusts: an issuer, the audience that they must be made
//! for, and patterns that their subject and other claims must match. Whoever shows such a token gets an
//! access token with the identity's scopes and tags. The issuer's keys are fetched from its discovery
//! document and kept (`issuer`); nothing of that is inside a write.
//!
//! The other way round this server is an issuer: a device gets a token that says which one it is
//! (`device_token`), signed with a key of the server (`signing`).
//!
//! Source: `docs/protocol/api-behaviour.md`, section 3.2; OpenID Connect Discovery 1.0; RFC 7519, RFC 8725.

pub mod device_token;
pub mod exchange;
pub mod identity;
mod issuer;
mod keys;
mod rules;
mod signing;
mod token;
