//! Host info: what a client says about the machine it runs on.
//!
//! Each member is read into the type that clients have for it, with a limit on its length; what
//! does not fit is left out, and [`HostFacts::shortened`] says so. Members that only later clients
//! know are kept as they came, for the device itself. `NetInfo` changes often and is soft state.
//! Peers see only the part that they need ([`PeerHostinfo`]), and both views are read anew when they
//! are rendered, because older servers stored what they were sent.
//!
//! Source: tailscale/tailscale `tailcfg/tailcfg.go`, `Hostinfo` and `NetInfo`.

mod peer;
mod read;

use std::collections::BTreeSet;

use bowline_model::address;
use bowline_model::device::HostFacts;
use bowline_model::record::RawJson;
use bowline_model::text::is_hidden;
use ipnet::IpNet;
use serde::Serialize;
use serde_json::{Map, Value};

pub use self::peer::{PEERS_PART_MAX, PeerHostinfo};
use self::read::Read;
pub use self::read::{
    KEY_MAX, LIST_MAX, Location, ROUTES_MAX, Service, TAGS_MAX, TEXT_MAX, readable,
};
use crate::fields::{BadRequest, Fields};
use crate::net_info::NetInfo;

/// The most bytes of one host info as sent. Real ones have some two thousand.
pub const HOSTINFO_MAX: usize = 64 * 1024;
/// The most bytes of a member that this server does not know, and of the name.
const OTHER_MAX: usize = 4096;
const OTHER_NAME_MAX: usize = 64;
/// What members that this server does not know are called where they are over a limit.
const OTHER: &str = "other members";

/// The type of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Flag,
    Texts(usize),
    Routes,
    Services,
    HostKeys,
    Location,
    Tpm,
}

/// The members that Go clients know, as they spell them: others spell them otherwise.
const MEMBERS: &[(&str, Kind)] = &[
    ("IPNVersion", Kind::Text),
    ("FrontendLogID", Kind::Text),
    ("BackendLogID", Kind::Text),
    ("OS", Kind::Text),
    ("OSVersion", Kind::Text),
    ("Container", Kind::Flag),
    ("Env", Kind::Text),
    ("Distro", Kind::Text),
    ("DistroVersion", Kind::Text),
    ("DistroCodeName", Kind::Text),
    ("App", Kind::Text),
    ("Desktop", Kind::Flag),
    ("Package", Kind::Text),
    ("DeviceModel", Kind::Text),
    ("PushDeviceToken", Kind::Text),
    ("Hostname", Kind::Text),
    ("ShieldsUp", Kind::Flag),
    ("ShareeNode", Kind::Flag),
    ("NoLogsNoSupport", Kind::Flag),
    ("RemoteConfig", Kind::Flag),
    ("WireIngress", Kind::Flag),
    ("IngressEnabled", Kind::Flag),
    ("AllowsUpdate", Kind::Flag),
    ("Machine", Kind::Text),
    ("GoArch", Kind::Text),
    ("GoArchVar", Kind::Text),
    ("GoVersion", Kind::Text),
    ("RoutableIPs", Kind::Routes),
    ("RequestTags", Kind::Texts(TAGS_MAX)),
    ("WoLMACs", Kind::Texts(LIST_MAX)),
    ("Services", Kind::Services),
    ("sshHostKeys", Kind::HostKeys),
    ("Cloud", Kind::Text),
    ("Userspace", Kind::Flag),
    ("UserspaceRouter", Kind::Flag),
    ("AppConnector", Kind::Flag),
    ("ServicesHash", Kind::Text),
    ("PeerRelay", Kind::Flag),
    ("ExitNodeID", Kind::Text),
    ("Location", Kind::Location),
    ("TPM", Kind::Tpm),
    ("StateEncrypted", Kind::Flag),
];

impl Kind {
    /// Reads a member; the value has the clients' type.
    fn read(self, raw: &str) -> Read<Value> {
        fn value<T: Serialize>(read: Read<T>) -> Read<Value> {
            // Serialising fails only for maps whose keys are not strings; there are none.
            let value = read
                .value
                .and_then(|value| serde_json::to_value(value).ok());
            Read {
                value,
                is_whole: read.is_whole,
            }
        }
        match self {
            Self::Text => value(read::text(raw)),
            Self::Flag => value(read::exact::<bool>(raw)),
            Self::Texts(most) => value(read::texts(raw, most)),
            Self::Routes => value(read::routes(raw)),
            Self::Services => value(read::services(raw)),
            Self::HostKeys => value(read::host_keys(raw)),
            Self::Location => value(read::location(raw)),
            Self::Tpm => value(read::tpm(raw)),
        }
    }
}

/// A host info of more than [`HOSTINFO_MAX`] bytes: nothing of it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the host info has more than {HOSTINFO_MAX} bytes")]
pub struct TooLarge;

/// A client's host info, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Hostinfo {
    /// Everything but `NetInfo`, with Go's names and types.
    pub json: RawJson,
    /// What the server itself uses, and what was over a limit.
    pub facts: HostFacts,
    /// The network report in it, when there was one.
    pub net_info: Option<NetInfo>,
    /// Something in the network report did not fit.
    pub is_net_info_shortened: bool,
}

impl Hostinfo {
    /// Reads a `Hostinfo` object.
    ///
    /// # Errors
    /// When it is not an object. `Ok(Err(TooLarge))`: it has more than [`HOSTINFO_MAX`] bytes, which
    /// is for the caller to say, since a registration is refused for it and a report is not.
    pub fn parse(json: &str) -> Result<Result<Self, TooLarge>, BadRequest> {
        if json.len() > HOSTINFO_MAX {
            return Ok(Err(TooLarge));
        }
        let fields = Fields::parse(json.as_bytes())?;
        let (object, mut shortened) = members(&fields);
        let net_info = fields.raw("NetInfo").map(|raw| NetInfo::read(raw.get()));
        if PeerHostinfo::read(&fields).1 {
            shortened.insert("what peers are told".to_owned());
        }
        let facts = HostFacts {
            shortened,
            ..facts(&object)
        };
        Ok(Ok(Self {
            json: RawJson::of(&object)?,
            facts,
            is_net_info_shortened: net_info
                .as_ref()
                .is_some_and(|read| read.as_ref().is_none_or(|(_, is_shortened)| *is_shortened)),
            net_info: net_info.flatten().map(|(net_info, _)| net_info),
        }))
    }
}

/// The members of a host info but `NetInfo`, and the names of those that did not fit.
fn members(fields: &Fields<'_>) -> (Map<String, Value>, BTreeSet<String>) {
    let mut object = Map::new();
    let mut shortened = BTreeSet::new();
    let mut others = 0;
    for (key, raw) in fields.iter() {
        let raw = raw.get();
        if raw == "null" || key.eq_ignore_ascii_case("NetInfo") {
            continue;
        }
        let known = MEMBERS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(key));
        let read = if let Some((_, kind)) = known {
            kind.read(raw)
        } else {
            others += 1;
            other(key, raw, others)
        };
        // The last of several wins, as Go has it.
        let name = known.map_or(key, |(name, _)| name);
        if !read.is_whole {
            shortened.insert(known.map_or(OTHER, |(name, _)| name).to_owned());
        }
        match read.value {
            Some(value) => object.insert(name.to_owned(), value),
            None => object.remove(name),
        };
    }
    (object, shortened)
}

/// A member that only later clients know. Only its own device gets it back.
fn other(name: &str, raw: &str, count: usize) -> Read<Value> {
    let is_name =
        name.len() <= OTHER_NAME_MAX && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let value = Some(raw)
        .filter(|_| is_name && raw.len() <= OTHER_MAX && count <= LIST_MAX)
        .and_then(|raw| serde_json::from_str(raw).ok())
        .map(clean);
    Read {
        is_whole: value.is_some(),
        value,
    }
}

fn text(object: &Map<String, Value>, name: &str) -> String {
    let text = object.get(name).and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

fn flag(object: &Map<String, Value>, name: &str) -> bool {
    object.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn texts<'a>(object: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = &'a str> {
    let list = object.get(name).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

fn facts(object: &Map<String, Value>) -> HostFacts {
    let mut routes: Vec<IpNet> = texts(object, "RoutableIPs")
        .filter_map(address::parse_route)
        .collect();
    address::sort_routes(&mut routes);
    HostFacts {
        hostname: text(object, "Hostname"),
        os: text(object, "OS"),
        os_version: text(object, "OSVersion"),
        client_version: text(object, "IPNVersion"),
        distro: [
            text(object, "Distro"),
            text(object, "DistroVersion"),
            text(object, "DistroCodeName"),
        ],
        advertised_routes: routes,
        request_tags: texts(object, "RequestTags").map(str::to_owned).collect(),
        shields_up: flag(object, "ShieldsUp"),
        ssh: texts(object, "sshHostKeys").next().is_some(),
        state_encrypted: object.get("StateEncrypted").and_then(Value::as_bool),
        // Go leaves out what is false: a client that tells its version has told this too.
        auto_update: object
            .contains_key("IPNVersion")
            .then(|| flag(object, "AllowsUpdate")),
        // It is said beside the host info.
        forwarding_off: false,
        shortened: BTreeSet::new(),
    }
}

/// The host info as its own device gets it back: all of it, in strings that every client reads.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(transparent)]
pub struct OwnHostinfo(Map<String, Value>);

impl OwnHostinfo {
    /// Reads it from a host info, whatever is stored there.
    pub fn of(json: &RawJson) -> Self {
        Fields::parse(json.as_str().as_bytes())
            .map(|fields| Self(members(&fields).0))
            .unwrap_or_default()
    }

    /// One member, by Go's name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

/// JSON of a type that this server does not know, without characters that the official Rust client
/// cannot read.
fn clean(value: Value) -> Value {
    let is_bad = |c: char| is_hidden(c) || matches!(c, '"' | '\\');
    match value {
        Value::String(text) if text.contains(is_bad) => Value::String(text.replace(is_bad, "")),
        Value::Array(list) => Value::Array(list.into_iter().map(clean).collect()),
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .filter(|(key, _)| !key.contains(is_bad))
                .map(|(key, value)| (key, clean(value)))
                .collect(),
        ),
        other => other,
    }
}

#[cfg(test)]
mod tests;
