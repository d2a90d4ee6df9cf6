//! Limits on what one peer can take.

use super::section::section;
use super::value::{Seconds, Whole};

section! {
    /// Limits on what one peer can take. They guard against faulty and hostile peers; the
    /// defaults suit ten thousand devices.
    pub struct Limits["limits"] {
        /// The largest request body, in bytes.
        body_bytes: Whole<65_536, 67_108_864>, default "4194304" { Whole::new(4_194_304) };

        /// How many connections may be open that have not yet finished their handshake: a first
        /// request, TLS, Noise. Further ones wait until one of these is done.
        half_open_connections: Whole<16, 65_536>, default "1024" { Whole::new(1024) };

        /// How many seconds a peer has for its handshake.
        handshake_seconds: Seconds<1, 300>, default "10" { Seconds::new(10) };

        /// How many seconds an API request may take.
        request_seconds: Seconds<1, 600>, default "30" { Seconds::new(30) };

        /// How many seconds requests in flight have to finish after SIGTERM.
        drain_seconds: Seconds<0, 600>, default "10" { Seconds::new(10) };

        /// How many registrations one machine key may send per second, on average.
        registrations_per_second: Whole<1, 1000>, default "5" { Whole::new(5) };
    }
}
