//! What a client, or the protocol's rules, would not take.

use std::fmt;

/// A message that a client rejects, misreads or loses, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProtocolViolation {
    /// The rule that was broken.
    pub rule: Rule,
    /// Where and with what value, for a person.
    pub detail: String,
}

impl ProtocolViolation {
    pub(crate) fn new(rule: Rule, detail: impl Into<String>) -> Self {
        Self {
            rule,
            detail: detail.into(),
        }
    }
}

impl fmt::Display for ProtocolViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.detail)
    }
}

impl std::error::Error for ProtocolViolation {}

/// The rules, each with the consequence of breaking it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// A message of no bytes: fatal to every client.
    Empty,
    /// Not one JSON value with nothing but white space after it: fatal to every client.
    NotOneJsonValue,
    /// The same key twice in an object: the Go client takes the last, the Rust client fails.
    DuplicateKey,
    /// A field that no client knows: what it says is lost.
    UnknownField,
    /// A value of the wrong type: the Go client fails to decode the whole message.
    WrongType,
    /// An earlier message broke a rule: the client has left the stream.
    StreamIsDead,
    /// The first message that is not a keep-alive has no `Node`: the client starts again.
    FirstWithoutNode,
    /// The first message lacks what a client needs to work: `DERPMap` (it never becomes Running),
    /// a packet filter (all inbound traffic is blocked), `DNSConfig`, `Domain`, `UserProfiles`.
    FirstIncomplete,
    /// A keep-alive carries something that clients ignore in a keep-alive.
    KeepAliveWithContent,
    /// Exactly the text `{"KeepAlive":true}`: clients of 1.90 to 1.103 then lose later messages of
    /// the same compressed length.
    KeepAliveText,
    /// An escape in a string: the Rust client borrows strings and loses the whole message.
    Escape,
    /// `null` where the Rust client wants a list, a map or a value: it loses the whole message.
    Null,
    /// `Peers: []` after the first message: the Go client changes nothing, the Rust client drops
    /// all peers.
    EmptyPeers,
    /// The same peer twice in one list, or two peers with one node key.
    DuplicatePeer,
    /// A node in its own list of peers.
    SelfAsPeer,
    /// A node, or its sharer, without a user profile: WhoIs and SSH by user fail, and the client
    /// forgets its login.
    NoUserProfile,
    /// A user profile without `LoginName`: the client forgets its login when it restarts.
    BadUserProfile,
    /// `ID` is not a positive integer below 2^53, or the node's own changes within a stream.
    BadId,
    /// `StableID` is empty, or the node's own changes within a stream.
    BadStableId,
    /// `Name` is not a lower-case name of two labels or more with a final dot: wrong MagicDNS suffix.
    BadName,
    /// A key that does not parse, or a zero node key.
    BadKey,
    /// `Addresses` is not one IPv4 and one IPv6 prefix in this order (the Rust client fails), or a
    /// prefix does not parse.
    BadAddresses,
    /// `Endpoints` has something that is not `address:port`.
    BadEndpoint,
    /// `Hostinfo` is absent or null: code that lists file targets fails.
    NoHostinfo,
    /// `Online: true` with a `LastSeen`.
    OnlineWithLastSeen,
    /// `Expired` without a `KeyExpiry`: clients of different ages disagree.
    ExpiredWithoutKeyExpiry,
    /// `DERP` and `HomeDERP` name different regions.
    DerpMismatch,
    /// A region without nodes, with another number than its key, or without its names.
    BadDerpMap,
    /// A rule that makes the client drop the whole packet filter.
    BadFilter,
}
