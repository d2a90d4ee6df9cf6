//! What all tailnets hold, in numbers, for metrics.

use bowline_model::credential::Kind;
use jiff::SignedDuration;

use crate::core::engine::Engine;

/// What expires within this time is told of, so that somebody can act.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Numbers over all tailnets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Devices.
    pub devices: u64,
    /// Of those, online.
    pub online: u64,
    /// Of those, waiting for approval.
    pub waiting_for_approval: u64,
    /// Of those, with a key that expires within seven days.
    pub expiring: u64,
    /// Of those, with a key that has expired.
    pub expired: u64,
    /// Valid auth keys that expire within seven days.
    pub auth_keys_expiring: u64,
    /// Valid API access tokens that expire within seven days.
    pub access_tokens_expiring: u64,
}

impl Engine {
    /// Counts. Costs in proportion to everything there is, so it is not for a runtime's thread.
    pub fn census(&self) -> Census {
        let soon = self.now().saturating_add(SOON).unwrap_or(self.now());
        let mut census = Census::default();
        for tailnet in self.tailnets() {
            let Some(snapshot) = self.snapshot(tailnet) else {
                continue;
            };
            for entry in snapshot.devices() {
                let device = &entry.device;
                let expires = device.effective_expiry().is_some_and(|at| at <= soon);
                census.devices += 1;
                census.online += u64::from(entry.live.online);
                census.waiting_for_approval += u64::from(!device.authorized);
                census.expired += u64::from(device.expired);
                census.expiring += u64::from(!device.expired && expires);
            }
            for credential in snapshot.credentials() {
                let is_good = credential.revoked.is_none() && !credential.is_expired(self.now());
                if is_good && credential.is_expired(soon) {
                    match &credential.kind {
                        Kind::Auth(_) => census.auth_keys_expiring += 1,
                        Kind::Api => census.access_tokens_expiring += 1,
                        // They do not expire.
                        Kind::Client(_) | Kind::Federated(_) | Kind::Scim => {}
                    }
                }
            }
        }
        census
    }
}
