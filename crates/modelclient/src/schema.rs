//! The types of map responses, as Go's `encoding/json` decodes them: a message with one value of
//! another type is lost as a whole.
//!
//! What other modules check is what a client does with a value; this is whether it gets there. Go
//! matches the names of members without regard to case, takes `null` everywhere as "not said",
//! wants integers without fraction and exponent, and refuses a number that is out of its type's
//! range. Its `int` has 32 bits on some platforms, so that is the range here.
//!
//! Source: tailscale/tailscale `tailcfg/tailcfg.go`, `tailcfg/derpmap.go`, `types/dnstype/dnstype.go`,
//! `types/opt/bool.go`, `types/key/`.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value};

use crate::check::{self, Checked};
use crate::violation::{ProtocolViolation, Rule};

/// A type of Go's.
#[derive(Debug, Clone, Copy)]
enum Type {
    Text,
    /// `bool`, and `opt.Bool`, which takes the same.
    Flag,
    /// An integer in this range.
    Whole(i128, i128),
    Float,
    Time,
    /// A public key with this prefix.
    Key(&'static str),
    Address,
    AddressPort,
    Prefix,
    /// Base 64.
    Bytes,
    /// Any JSON.
    Raw,
    List(&'static Type),
    /// By text, or by whole numbers in this range.
    Map(Option<(i128, i128)>, &'static Type),
    Object(&'static [(&'static str, Type)]),
}

use Type::{
    Address, AddressPort, Bytes, Flag, Float, Key, List, Object, Prefix, Raw, Text, Time, Whole,
};

const INT: Type = Whole(i32::MIN as i128, i32::MAX as i128);
const INT64: Type = Whole(i64::MIN as i128, i64::MAX as i128);
const UINT64: Type = Whole(0, u64::MAX as i128);
const UINT16: Type = Whole(0, u16::MAX as i128);
const TEXTS: Type = List(&Text);
const PREFIXES: Type = List(&Prefix);
const CAPS: Type = Type::Map(None, &List(&Raw));
const BY_ID: Option<(i128, i128)> = Some((i64::MIN as i128, i64::MAX as i128));
/// Numbers of regions: `int` before 1.104.
const BY_REGION: Option<(i128, i128)> = Some((i32::MIN as i128, i32::MAX as i128));

const NET_INFO: Type = Object(&[
    ("MappingVariesByDestIP", Flag),
    ("WorkingIPv6", Flag),
    ("OSHasIPv6", Flag),
    ("WorkingUDP", Flag),
    ("WorkingICMPv4", Flag),
    ("HavePortMap", Flag),
    ("UPnP", Flag),
    ("PMP", Flag),
    ("PCP", Flag),
    ("PreferredDERP", INT),
    ("LinkType", Text),
    ("DERPLatency", Type::Map(None, &Float)),
    ("FirewallMode", Text),
]);

const HOSTINFO: Type = Object(&[
    ("IPNVersion", Text),
    ("FrontendLogID", Text),
    ("BackendLogID", Text),
    ("OS", Text),
    ("OSVersion", Text),
    ("Container", Flag),
    ("Env", Text),
    ("Distro", Text),
    ("DistroVersion", Text),
    ("DistroCodeName", Text),
    ("App", Text),
    ("Desktop", Flag),
    ("Package", Text),
    ("DeviceModel", Text),
    ("PushDeviceToken", Text),
    ("Hostname", Text),
    ("ShieldsUp", Flag),
    ("ShareeNode", Flag),
    ("NoLogsNoSupport", Flag),
    ("RemoteConfig", Flag),
    ("WireIngress", Flag),
    ("IngressEnabled", Flag),
    ("AllowsUpdate", Flag),
    ("Machine", Text),
    ("GoArch", Text),
    ("GoArchVar", Text),
    ("GoVersion", Text),
    ("RoutableIPs", PREFIXES),
    ("RequestTags", TEXTS),
    ("WoLMACs", TEXTS),
    (
        "Services",
        List(&Object(&[
            ("Proto", Text),
            ("Port", UINT16),
            ("Description", Text),
        ])),
    ),
    ("NetInfo", NET_INFO),
    ("sshHostKeys", TEXTS),
    ("Cloud", Text),
    ("Userspace", Flag),
    ("UserspaceRouter", Flag),
    ("AppConnector", Flag),
    ("ServicesHash", Text),
    ("PeerRelay", Flag),
    ("ExitNodeID", Text),
    (
        "Location",
        Object(&[
            ("Country", Text),
            ("CountryCode", Text),
            ("City", Text),
            ("CityCode", Text),
            ("Latitude", Float),
            ("Longitude", Float),
            ("Priority", INT),
        ]),
    ),
    (
        "TPM",
        Object(&[
            ("Manufacturer", Text),
            ("Vendor", Text),
            ("Model", INT),
            ("FirmwareVersion", UINT64),
            ("SpecRevision", INT),
            ("FamilyIndicator", Text),
        ]),
    ),
    ("StateEncrypted", Flag),
]);

const RESOLVERS: Type = List(&Object(&[
    ("Addr", Text),
    ("BootstrapResolution", List(&Address)),
    ("UseWithExitNode", Flag),
]));

const NODE: Type = Object(&[
    ("ID", INT64),
    ("StableID", Text),
    ("Name", Text),
    ("User", INT64),
    ("Sharer", INT64),
    ("Key", Key("nodekey:")),
    ("KeyExpiry", Time),
    ("KeySignature", Bytes),
    ("Machine", Key("mkey:")),
    ("DiscoKey", Key("discokey:")),
    ("Addresses", PREFIXES),
    ("AllowedIPs", PREFIXES),
    ("Endpoints", List(&AddressPort)),
    ("DERP", Text),
    ("HomeDERP", INT),
    ("Hostinfo", HOSTINFO),
    ("Created", Time),
    // 16 bits in the official Rust client.
    ("Cap", UINT16),
    ("Tags", TEXTS),
    ("PrimaryRoutes", PREFIXES),
    ("LastSeen", Time),
    ("Online", Flag),
    ("MachineAuthorized", Flag),
    ("Capabilities", TEXTS),
    ("CapMap", CAPS),
    ("UnsignedPeerAPIOnly", Flag),
    ("ComputedName", Text),
    ("ComputedNameWithHost", Text),
    ("DataPlaneAuditLogID", Text),
    ("Expired", Flag),
    ("SelfNodeV4MasqAddrForThisPeer", Address),
    ("SelfNodeV6MasqAddrForThisPeer", Address),
    ("IsWireGuardOnly", Flag),
    ("IsJailed", Flag),
    ("ExitNodeDNSResolvers", RESOLVERS),
]);

const PEER_CHANGE: Type = Object(&[
    ("NodeID", INT64),
    ("DERPRegion", INT),
    // 16 bits in the official Rust client.
    ("Cap", UINT16),
    ("CapMap", CAPS),
    ("Endpoints", List(&AddressPort)),
    ("Key", Key("nodekey:")),
    ("KeySignature", Bytes),
    ("DiscoKey", Key("discokey:")),
    ("Online", Flag),
    ("LastSeen", Time),
    ("KeyExpiry", Time),
]);

const DERP_MAP: Type = Object(&[
    (
        "HomeParams",
        Object(&[("RegionScore", Type::Map(BY_REGION, &Float))]),
    ),
    (
        "Regions",
        Type::Map(
            BY_REGION,
            &Object(&[
                ("RegionID", INT),
                ("RegionCode", Text),
                ("RegionName", Text),
                ("Latitude", Float),
                ("Longitude", Float),
                ("Avoid", Flag),
                ("NoMeasureNoHome", Flag),
                (
                    "Nodes",
                    List(&Object(&[
                        ("Name", Text),
                        ("RegionID", INT),
                        ("HostName", Text),
                        ("CertName", Text),
                        ("IPv4", Text),
                        ("IPv6", Text),
                        ("STUNPort", INT),
                        ("STUNOnly", Flag),
                        ("DERPPort", INT),
                        ("InsecureForTests", Flag),
                        ("STUNTestIP", Text),
                        ("CanPort80", Flag),
                    ])),
                ),
            ]),
        ),
    ),
    ("omitDefaultRegions", Flag),
]);

const DNS_CONFIG: Type = Object(&[
    ("Resolvers", RESOLVERS),
    ("Routes", Type::Map(None, &RESOLVERS)),
    ("FallbackResolvers", RESOLVERS),
    ("Domains", TEXTS),
    ("Proxied", Flag),
    ("Nameservers", List(&Address)),
    ("CertDomains", TEXTS),
    (
        "ExtraRecords",
        List(&Object(&[("Name", Text), ("Type", Text), ("Value", Text)])),
    ),
    ("ExitNodeFilteredSet", TEXTS),
    ("TempCorpIssue13969", Text),
]);

const FILTER: Type = List(&Object(&[
    ("SrcIPs", TEXTS),
    ("SrcBits", List(&INT)),
    (
        "DstPorts",
        List(&Object(&[
            ("IP", Text),
            ("Bits", INT),
            ("Ports", Object(&[("First", UINT16), ("Last", UINT16)])),
        ])),
    ),
    ("IPProto", List(&INT)),
    (
        "CapGrant",
        List(&Object(&[
            ("Dsts", PREFIXES),
            ("Caps", TEXTS),
            ("CapMap", CAPS),
        ])),
    ),
]));

const SSH_POLICY: Type = Object(&[(
    "rules",
    List(&Object(&[
        ("ruleExpires", Time),
        (
            "principals",
            List(&Object(&[
                ("node", Text),
                ("nodeIP", Text),
                ("userLogin", Text),
                ("any", Flag),
                ("pubKeys", TEXTS),
            ])),
        ),
        ("sshUsers", Type::Map(None, &Text)),
        (
            "action",
            Object(&[
                ("message", Text),
                ("reject", Flag),
                ("accept", Flag),
                ("sessionDuration", INT64),
                ("allowAgentForwarding", Flag),
                ("holdAndDelegate", Text),
                ("allowLocalPortForwarding", Flag),
                ("allowRemotePortForwarding", Flag),
                ("recorders", List(&AddressPort)),
                (
                    "onRecordingFailure",
                    Object(&[
                        ("RejectSessionWithMessage", Text),
                        ("TerminateSessionWithMessage", Text),
                        ("NotifyURL", Text),
                    ]),
                ),
            ]),
        ),
        ("acceptEnv", TEXTS),
    ])),
)]);

const MAP_RESPONSE: Type = Object(&[
    ("MapSessionHandle", Text),
    ("Seq", INT64),
    ("KeepAlive", Flag),
    (
        "PingRequest",
        Object(&[
            ("URL", Text),
            ("URLIsNoise", Flag),
            ("Log", Flag),
            ("Types", Text),
            ("IP", Address),
            ("Payload", Bytes),
        ]),
    ),
    ("PopBrowserURL", Text),
    ("Node", NODE),
    ("DERPMap", DERP_MAP),
    ("Peers", List(&NODE)),
    ("PeersChanged", List(&NODE)),
    ("PeersRemoved", List(&INT64)),
    ("PeersChangedPatch", List(&PEER_CHANGE)),
    ("PeerSeenChange", Type::Map(BY_ID, &Flag)),
    ("OnlineChange", Type::Map(BY_ID, &Flag)),
    ("DNSConfig", DNS_CONFIG),
    ("Domain", Text),
    ("CollectServices", Flag),
    ("PacketFilter", FILTER),
    ("PacketFilters", Type::Map(None, &FILTER)),
    (
        "UserProfiles",
        List(&Object(&[
            ("ID", INT64),
            ("LoginName", Text),
            ("DisplayName", Text),
            ("ProfilePicURL", Text),
            ("Groups", TEXTS),
        ])),
    ),
    ("Health", TEXTS),
    (
        "DisplayMessages",
        Type::Map(
            None,
            &Object(&[
                ("Title", Text),
                ("Text", Text),
                ("Severity", Text),
                ("ImpactsConnectivity", Flag),
                ("PrimaryAction", Object(&[("URL", Text), ("Label", Text)])),
            ]),
        ),
    ),
    ("SSHPolicy", SSH_POLICY),
    ("ControlTime", Time),
    ("TKAInfo", Object(&[("Head", Text), ("Disabled", Flag)])),
    ("DomainDataPlaneAuditLogID", Text),
    (
        "Debug",
        Object(&[
            ("SleepSeconds", Float),
            ("DisableLogTail", Flag),
            ("Exit", INT),
        ]),
    ),
    (
        "ControlDialPlan",
        Object(&[(
            "Candidates",
            List(&Object(&[
                ("IP", Address),
                ("ACEHost", Text),
                ("DialStartDelaySec", Float),
                ("DialTimeoutSec", Float),
                ("Priority", INT),
            ])),
        )]),
    ),
    (
        "ClientVersion",
        Object(&[
            ("RunningLatest", Flag),
            ("LatestVersion", Text),
            ("UrgentSecurityUpdate", Flag),
            ("Notify", Flag),
            ("NotifyURL", Text),
            ("NotifyText", Text),
        ]),
    ),
    ("DefaultAutoUpdate", Flag),
]);

/// Refuses a message that has a value of another type than clients have for it.
pub(crate) fn check(message: &Map<String, Value>) -> Checked<()> {
    let Object(members) = MAP_RESPONSE else {
        return Ok(());
    };
    check_members("MapResponse", members, message)
}

fn check_members(path: &str, members: &[(&str, Type)], object: &Map<String, Value>) -> Checked<()> {
    for (name, value) in object {
        let name = folded(name);
        // An unknown member is not decoded. That no message has one is checked elsewhere.
        if let Some((name, wanted)) = members.iter().find(|(known, _)| folded(known) == name) {
            check_value(&format!("{path}.{name}"), *wanted, value)?;
        }
    }
    Ok(())
}

/// A name as Go compares it: two letters beyond ASCII count as one of ASCII.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase()
        .replace('\u{17f}', "s")
        .replace('\u{212a}', "k")
}

fn check_value(path: &str, wanted: Type, value: &Value) -> Checked<()> {
    if value.is_null() {
        return Ok(());
    }
    let fits = match (wanted, value) {
        (Raw, _)
        | (Type::Flag, Value::Bool(_))
        | (Type::Float, Value::Number(_))
        | (Type::Text, Value::String(_)) => true,
        (Type::Whole(least, most), Value::Number(number)) => {
            let number = number
                .as_i64()
                .map(i128::from)
                .or_else(|| number.as_u64().map(i128::from));
            number.is_some_and(|number| (least..=most).contains(&number))
        }
        (wanted, Value::String(text)) => fits_text(wanted, text, value),
        (Type::List(of), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                check_value(&format!("{path}[{index}]"), *of, item)?;
            }
            true
        }
        (Type::Map(keys, of), Value::Object(entries)) => {
            for (key, value) in entries {
                check_value(&format!("{path}.{key}"), *of, value)?;
            }
            let is_key = |key: &String| {
                keys.is_none_or(|(least, most)| {
                    let number = key.parse::<i128>();
                    number.is_ok_and(|number| (least..=most).contains(&number))
                })
            };
            // `*` with `null` clears a map by text, and is one more text.
            entries.keys().all(is_key)
        }
        (Type::Object(members), Value::Object(object)) => {
            check_members(path, members, object)?;
            true
        }
        (_, _) => false,
    };
    if fits {
        return Ok(());
    }
    let text = format!("{path}: want {wanted:?}, have {value}");
    let text: String = text.chars().take(300).collect();
    Err(ProtocolViolation::new(Rule::WrongType, text))
}

/// Whether a text is one of those that a type is written as.
fn fits_text(wanted: Type, text: &str, value: &Value) -> bool {
    match wanted {
        Type::Key(prefix) => check::key("", value, prefix).is_ok(),
        Type::Time => is_time(text),
        Type::Address => text.is_empty() || text.parse::<IpAddr>().is_ok(),
        Type::AddressPort => text.is_empty() || text.parse::<SocketAddr>().is_ok(),
        Type::Prefix => text.is_empty() || is_prefix(text),
        Type::Bytes => is_base64(text),
        _ => false,
    }
}

/// `address/bits`; bits behind the prefix do no harm to the decoder.
fn is_prefix(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, bits)| {
        let most = match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        let is_plain = bits == "0" || !bits.starts_with(['0', '+']);
        is_plain && bits.parse::<u8>().is_ok_and(|bits| bits <= most)
    })
}

/// RFC 3339 as Go reads it: `2026-01-02T03:04:05[.digits](Z|±hh:mm)`, years of four digits.
fn is_time(text: &str) -> bool {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| -> Option<u32> {
        let digits = text.get(from..to)?;
        let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    };
    let at = |index: usize, wanted: u8| bytes.get(index) == Some(&wanted);
    let separators = at(4, b'-') && at(7, b'-') && at(10, b'T') && at(13, b':') && at(16, b':');
    let in_range = |value: Option<u32>, least: u32, most: u32| {
        value.is_some_and(|value| (least..=most).contains(&value))
    };
    let fields = number(0, 4).is_some()
        && in_range(number(5, 7), 1, 12)
        && in_range(number(8, 10), 1, 31)
        && in_range(number(11, 13), 0, 23)
        && in_range(number(14, 16), 0, 59)
        && in_range(number(17, 19), 0, 59);
    let rest = text.get(19..).unwrap_or("");
    let rest = rest.strip_prefix('.').map_or(rest, |fraction| {
        let zone = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
        if zone.len() == fraction.len() {
            ""
        } else {
            zone
        }
    });
    let is_zone = rest == "Z"
        || (rest.len() == 6
            && rest.starts_with(['+', '-'])
            && rest.as_bytes().get(3) == Some(&b':'));
    separators && fields && is_zone
}

fn is_base64(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    text.len().is_multiple_of(4)
        && text.len() - body.len() <= 2
        && body
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'))
}

#[cfg(test)]
mod tests;
