//! What is said of a connection: where it came in, what it is, and why it was not kept.

/// Where a connection came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listener {
    /// The main listener: the control protocol, and the API where it has none of its own.
    Main,
    /// The API's own.
    Api,
    /// The relay.
    Relay,
    /// Metrics.
    Metrics,
}

impl Listener {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Main, Self::Api, Self::Relay, Self::Metrics];

    /// Its name in metrics and the log.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Api => "api",
            Self::Relay => "relay",
            Self::Metrics => "metrics",
        }
    }
}

/// What a connection is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The peer has not shown who it is, and it is the peer's turn to say something.
    HalfOpen,
    /// The peer has not shown who it is, and it is the server's turn: a handshake that waits for
    /// others of its source, a request that is being answered, a login that somebody must confirm.
    Busy,
    /// The peer has shown who it is: a machine key with a device, a valid credential.
    Established,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::HalfOpen, Self::Busy, Self::Established];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HalfOpen => "half_open",
            Self::Busy => "busy",
            Self::Established => "established",
        }
    }
}

/// What the peer of a connection has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shown {
    /// Nothing that lasts.
    Nothing,
    /// A valid credential of the API: while it asks nothing, its connection makes room where there
    /// are no descriptors left, after those whose peer has shown nothing.
    Credential,
    /// A machine key with a device, or with a login that waits: nobody takes its place.
    Device,
}

/// Why a connection was refused as it came: it is closed without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// There are no descriptors left for connections.
    #[error("the process has no file descriptors left for connections")]
    Descriptors,
    /// The source has too many, and none of them is half-open.
    #[error("the source has too many connections")]
    Source,
}

/// Why a connection was ended that had been admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// It was the oldest half-open one of the largest source, and a place was needed.
    Crowded,
    /// It was half-open and silent for too long.
    Silent,
    /// Its machine key had too many.
    Machine,
}

impl Ended {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Crowded, Self::Silent, Self::Machine];

    /// Its name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crowded => "crowded",
            Self::Silent => "silent",
            Self::Machine => "machine",
        }
    }
}

/// Open connections of one listener in one state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Where they came in.
    pub listener: Listener,
    /// What they are.
    pub state: State,
    /// How many.
    pub count: usize,
}
