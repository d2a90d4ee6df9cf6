//! How long what is written is kept. What removes it is a job of the logs.

use std::time::Duration;

const DAY: Duration = Duration::from_hours(24);

/// How long each log is kept. A bound by age alone would let a tenant fill the disk in a day, and one
/// by number alone would keep for ever what nobody needs, so most logs have both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// Audit events, by age.
    pub audit: Duration,
    /// How many audit events of one tailnet are kept, whatever their age.
    pub audit_events: u64,
    /// The change log, which processes follow that fell behind, by age.
    pub changes: Duration,
    /// How many changes of one tailnet are kept, whatever their age.
    pub changes_kept: u64,
    /// How many versions of the policy file of one tailnet are kept, the one in force included.
    pub policy_versions: u64,
    /// How many bytes those may have together. The newest is kept whatever its size.
    pub policy_version_bytes: u64,
    /// Auth keys and tokens that were revoked or expired, by the time since then.
    pub credentials: Duration,
    /// How many of those one tailnet keeps, whatever their age.
    pub credentials_kept: u64,
    /// What was given up for a webhook endpoint, by the time since then.
    pub deliveries: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            audit: DAY * 365,
            audit_events: 1_000_000,
            changes: DAY,
            changes_kept: 10_000,
            policy_versions: 100,
            policy_version_bytes: 8 * 1024 * 1024,
            credentials: DAY * 90,
            credentials_kept: 10_000,
            deliveries: DAY * 7,
        }
    }
}
