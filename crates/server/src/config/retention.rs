//! Settings of how long logs are kept.

use super::section::section;
use super::value::Whole;

section! {
    /// How long what is written is kept. What is older goes within ten minutes, in small portions
    /// beside the changes that are made meanwhile.
    pub struct Retention["retention"] {
        /// How many days audit events are kept.
        audit_days: Whole<1, 36_500>, default "365" { Whole::new(365) };

        /// How many audit events of one tailnet are kept, whatever their age. One takes about half a
        /// kilobyte.
        audit_events: Whole<100, 1_000_000_000>, default "1000000" { Whole::new(1_000_000) };

        /// How many hours of the change log are kept. A process that fell behind for longer reads
        /// everything again.
        changes_hours: Whole<1, 8760>, default "24" { Whole::new(24) };

        /// How many entries of the change log of one tailnet are kept, whatever their age.
        changes: Whole<1_000, 100_000_000>, default "10000" { Whole::new(10_000) };

        /// How many versions of the policy file of one tailnet are kept, the one in force included.
        /// Audit events refer to them.
        policy_versions: Whole<1, 100_000>, default "100" { Whole::new(100) };

        /// How many bytes the kept versions of the policy file of one tailnet may have together. The
        /// one in force is kept whatever its size.
        policy_version_bytes: Whole<65_536, 1_073_741_824>, default "8388608" {
            Whole::new(8_388_608)
        };

        /// How many days an auth key or an API access token can still be read after it was revoked or
        /// expired.
        credential_days: Whole<0, 3650>, default "90" { Whole::new(90) };

        /// How many revoked and expired keys and tokens of one tailnet are kept, whatever their age.
        credentials: Whole<0, 1_000_000>, default "10000" { Whole::new(10_000) };

        /// How many days what was given up for a webhook endpoint is kept, to be replayed.
        delivery_days: Whole<1, 365>, default "7" { Whole::new(7) };
    }
}
