//! Settings that every tailnet starts with.

use std::time::Duration;

use super::address::Domain;
use super::section::section;
use super::value::{Seconds, Whole};

section! {
    /// What every tailnet of this server starts with.
    pub struct Tailnet["tailnet"] {
        /// The domain below which each new tailnet has its MagicDNS domain.
        ///
        /// A tailnet gets a name of its own in front, so a device is `laptop.tail1a2b3c.internal`.
        /// Nothing of it is looked up outside: `internal` is set aside for private use. It has at
        /// most 178 characters: with the tailnet's name and a device's name of 63 in front, a DNS
        /// name has 253, and clients do not start with a longer one.
        base_domain: Domain, default "internal" { Domain::known("internal") };

        /// After how many days a device's key expires and its user has to log in again, in new
        /// tailnets. The API changes it for a tailnet that is there.
        key_expiry_days: Whole<1, 180>, default "180" { Whole::new(180) };

        /// After how many seconds without a connection an ephemeral device is removed.
        ephemeral_inactivity_seconds: Seconds<60, 604_800>, default "1800" { Seconds::new(1800) };

        /// Whether turning MagicDNS on through `dns/preferences` needs a global nameserver.
        ///
        /// Clients since 1.80 need none, so by default it is turned on as asked. With `true` it is
        /// refused without one, as the API's original documentation has it. Removing the last
        /// nameserver turns MagicDNS off in either case.
        magic_dns_needs_nameserver: bool, default "false" { false };

        /// Whether a policy file is refused that says something twice: a section, a field, a group.
        ///
        /// With `false` the last one counts, as in the real service, and there is a warning.
        refuse_repeated_policy_fields: bool, default "false" { false };

        /// Whether clients may upload their own logs to the service that they have built in.
        ///
        /// With `false` clients are told not to upload logs to anyone.
        allow_log_upload: bool, default "false" { false };
    }
}

impl Tailnet {
    /// After how long a node key expires.
    #[must_use]
    pub fn key_expiry(&self) -> Duration {
        Duration::from_secs(self.key_expiry_days.get() * 24 * 60 * 60)
    }
}
