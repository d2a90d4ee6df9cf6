//! Settings of keys and tokens.

use super::section::section;
use super::value::Whole;

section! {
    /// Auth keys and API access tokens.
    pub struct Keys["keys"] {
        /// How many days before an auth key or an API access token expires that is told: in the audit
        /// log, in the server's log, and by `bowline key list` and `bowline token list`.
        ///
        /// It is told once of each. Keys and tokens that were made for no longer than this are left
        /// out, and so are one-off keys that were used. 0: nothing is told ahead.
        expiry_reminder_days: Whole<0, 89>, default "7" { Whole::new(7) };
    }
}
