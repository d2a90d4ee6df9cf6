//! The policy language: text and topology in, compiled policy out.

pub mod hujson;

/// The policy of a new tailnet: every device may reach every other, and people may open SSH
/// sessions on their own devices. It is in canonical layout, so its `ETag` is the hash of this text.
pub const DEFAULT_POLICY: &str = include_str!("default_policy.hujson");
