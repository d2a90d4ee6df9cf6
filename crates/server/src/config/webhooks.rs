//! Settings of webhooks.

use super::section::section;
use super::value::Whole;

section! {
    /// How webhook endpoints are told of events. Which addresses they may have is a setting of
    /// `outbound`; how long what they were not told can be replayed is `retention.delivery_days`.
    pub struct Webhooks["webhooks"] {
        /// How many hours after a rotation of an endpoint's secret requests are signed with the former
        /// one too, so that the receiver can be given the new one meanwhile. 0: from the rotation on
        /// the new one alone signs.
        secret_overlap_hours: Whole<0, 720>, default "24" { Whole::new(24) };

        /// The age in hours at which an event that an endpoint did not take is given up. Until then it
        /// is tried again, after ten seconds at first and at last every hour, and what comes later for
        /// the endpoint waits.
        give_up_hours: Whole<1, 720>, default "24" { Whole::new(24) };

        /// How many events may wait for one endpoint. It is not told of those that come on top.
        queue_events: Whole<10, 1_000_000>, default "10000" { Whole::new(10_000) };
    }
}
