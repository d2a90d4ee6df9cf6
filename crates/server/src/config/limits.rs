//! Limits on what one peer can take.

use super::section::section;
use super::value::{Seconds, Whole};

section! {
    /// Limits on what one peer can take. They guard against faulty and hostile peers; the
    /// defaults suit ten thousand devices.
    pub struct Limits["limits"] {
        /// The largest request body, in bytes: of a device, and of an API request without a policy
        /// file. A machine key without a device may send 64 KiB.
        body_bytes: Whole<65_536, 67_108_864>, default "1048576" { Whole::new(1_048_576) };

        /// How many seconds a peer has to send a request's body.
        body_seconds: Seconds<1, 600>, default "20" { Seconds::new(20) };

        /// The largest policy file that is taken, in bytes. What a policy may cost to apply is bounded
        /// beside that: a file that takes too much work or memory is refused whatever its length.
        policy_bytes: Whole<1_024, 16_777_216>, default "1048576" { Whole::new(1_048_576) };

        /// How many bytes all request bodies in flight may take together. One source may have half
        /// of it. Where it is used up, the source with most loses its oldest body that still
        /// arrives.
        bodies_in_flight_bytes: Whole<4_194_304, 17_179_869_184>, default "67108864" {
            Whole::new(67_108_864)
        };

        /// How many half-open connections there may be: those whose peer has not shown who it is (a
        /// machine key with a device or a waiting login, a valid credential) while it is the
        /// peer's turn to say something. One more ends the oldest of the source that has most. At
        /// most half of the descriptors.
        half_open_connections: Whole<16, 65_536>, default "4096" { Whole::new(4096) };

        /// How many connections one source may have, whatever they are: an IPv4 address or an IPv6
        /// /64. A /56 may have twice as many, a /48 four times. One more ends the oldest half-open
        /// one of the source, and is refused where there is none.
        connections_per_source: Whole<16, 1_048_576>, default "32768" { Whole::new(32_768) };

        /// How many connections one machine key may have. One more ends its oldest.
        connections_per_machine: Whole<2, 1024>, default "16" { Whole::new(16) };

        /// How many seconds a half-open connection may be silent: through TLS, HTTP, the Noise
        /// handshake, and between requests.
        handshake_seconds: Seconds<1, 300>, default "10" { Seconds::new(10) };

        /// How many seconds an API request may take.
        request_seconds: Seconds<1, 600>, default "30" { Seconds::new(30) };

        /// How many seconds requests in flight have to finish after SIGTERM.
        ///
        /// What hangs for ten seconds more, such as a database that does not answer, is given up:
        /// the server then ends with status 1.
        drain_seconds: Seconds<0, 600>, default "10" { Seconds::new(10) };

        /// How many registrations one machine key may send per second, on average.
        registrations_per_second: Whole<1, 1000>, default "5" { Whole::new(5) };

        /// How many reports of one device that change something its peers see go out at once.
        /// Further ones wait and go out as one, the newest state.
        report_burst: Whole<1, 10_000>, default "30" { Whole::new(30) };

        /// How many seconds one more such report takes in the long run. 0: there is no limit.
        report_seconds: Seconds<0, 3600>, default "5" { Seconds::new(5) };

        /// After how many seconds of silence a client is asked whether it is still there.
        ///
        /// Its process answers by itself. A device that does not is offline, and another router
        /// takes over, after these seconds, `ping_timeout_seconds` and 10 more: 50 by default.
        ping_seconds: Seconds<5, 300>, default "25" { Seconds::new(25) };

        /// The same for phones and tablets, since each question wakes them up.
        ping_mobile_seconds: Seconds<5, 300>, default "50" { Seconds::new(50) };

        /// How many seconds a client has to answer.
        ping_timeout_seconds: Seconds<5, 300>, default "15" { Seconds::new(15) };

        /// After how many seconds a client is disconnected that does not read its map stream.
        stuck_stream_seconds: Seconds<5, 3600>, default "60" { Seconds::new(60) };
    }
}
