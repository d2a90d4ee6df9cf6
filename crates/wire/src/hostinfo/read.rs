//! Reading what a client says into the types that the clients' own decoder has.
//!
//! Go clients decode a whole map response or nothing: one member of a wrong type, or one number out
//! of its type's range, in one peer's record and they take none of it. So nothing is passed on as it
//! was sent; each member is read into one of the types here, and what does not fit is left out.
//!
//! Source: tailscale/tailscale `tailcfg/tailcfg.go`, `Hostinfo`, `Service`, `Location`, `TPMInfo`.

use bowline_model::address;
use bowline_model::text::is_hidden;
use ipnet::IpNet;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::fields::Fields;

/// The most characters of one text.
pub const TEXT_MAX: usize = 256;
/// The most entries of one list.
pub const LIST_MAX: usize = 64;
/// The most advertised routes: app connectors advertise every address that they learn.
pub const ROUTES_MAX: usize = 1024;
/// The most tags that a device may ask for.
pub const TAGS_MAX: usize = 256;
/// The longest SSH host key, in bytes. An RSA key of 16,384 bits has 2,750.
pub const KEY_MAX: usize = 4096;

/// A member as far as it could be read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Read<T> {
    /// What fits; `None` where nothing does.
    pub(super) value: Option<T>,
    /// Nothing was left out or cut.
    pub(super) is_whole: bool,
}

impl<T> Read<T> {
    const NOTHING: Self = Self {
        value: None,
        is_whole: false,
    };

    fn whole(value: T) -> Self {
        Self {
            value: Some(value),
            is_whole: true,
        }
    }
}

/// A text without the characters that JSON must escape: the official Rust client drops a whole
/// message when any string in it has an escape. Without those either that would make it look like
/// another text in a terminal. At most [`TEXT_MAX`] characters.
pub fn readable(text: &str) -> String {
    text.chars()
        .filter(|c| !is_hidden(*c) && !matches!(c, '"' | '\\'))
        .take(TEXT_MAX)
        .collect()
}

/// A value of a type that either fits or not.
pub(super) fn exact<T: DeserializeOwned>(raw: &str) -> Read<T> {
    serde_json::from_str(raw).map_or(Read::NOTHING, Read::whole)
}

/// A text, cut where it is too long.
pub(super) fn text(raw: &str) -> Read<String> {
    let Ok(text) = serde_json::from_str::<String>(raw) else {
        return Read::NOTHING;
    };
    Read {
        value: Some(readable(&text)),
        is_whole: text.chars().count() <= TEXT_MAX,
    }
}

/// A list of at most `most` entries, each read by `read`; those that do not fit are left out.
fn list<T>(raw: &str, most: usize, read: impl Fn(&str) -> Read<T>) -> Read<Vec<T>> {
    let Ok(all) = serde_json::from_str::<Vec<&RawValue>>(raw) else {
        return Read::NOTHING;
    };
    let mut is_whole = all.len() <= most;
    let mut list = Vec::with_capacity(all.len().min(most));
    for raw in all.into_iter().take(most) {
        let one = read(raw.get());
        is_whole &= one.is_whole;
        list.extend(one.value);
    }
    Read {
        value: Some(list),
        is_whole,
    }
}

/// A list of texts. One that is too long is left out: cut, it would be another text.
pub(super) fn texts(raw: &str, most: usize) -> Read<Vec<String>> {
    list(raw, most, |raw| {
        let one = text(raw);
        if one.is_whole { one } else { Read::NOTHING }
    })
}

/// A list of routes. Those with bits behind the prefix are left out.
pub(super) fn routes(raw: &str) -> Read<Vec<IpNet>> {
    list(raw, ROUTES_MAX, |raw| {
        let route = serde_json::from_str::<String>(raw).ok();
        match route.and_then(|route| address::parse_route(&route)) {
            Some(route) => Read::whole(route),
            None => Read::NOTHING,
        }
    })
}

/// SSH host keys: peers write them into their `known_hosts`, a line each, so that one with a line
/// break would be keys for other hosts too.
pub(super) fn host_keys(raw: &str) -> Read<Vec<String>> {
    list(raw, LIST_MAX, |raw| {
        let key = serde_json::from_str::<String>(raw).ok();
        let is_plain = |c: char| (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\');
        match key.filter(|key| key.len() <= KEY_MAX && key.chars().all(is_plain)) {
            Some(key) => Read::whole(key),
            None => Read::NOTHING,
        }
    })
}

/// A service that a device offers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Service {
    /// What it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Its port. For `peerapi-dns-proxy` it is not a port, but 1.
    pub port: u16,
    /// `tcp`, `udp`, `peerapi4`, `peerapi6` or `peerapi-dns-proxy`.
    pub proto: String,
}

pub(super) fn services(raw: &str) -> Read<Vec<Service>> {
    list(raw, LIST_MAX, |raw| {
        let Ok(fields) = Fields::parse(raw.as_bytes()) else {
            return Read::NOTHING;
        };
        let member = |name| fields.raw(name).map(RawValue::get);
        let port = member("Port").map_or(Read::whole(0), exact);
        let proto = member("Proto").map_or(Read::whole(String::new()), text);
        let description = member("Description").map_or(Read::whole(String::new()), text);
        let (Some(port), Some(proto)) = (port.value, proto.value.filter(|_| proto.is_whole)) else {
            return Read::NOTHING;
        };
        Read {
            is_whole: description.is_whole,
            value: Some(Service {
                description: description.value.unwrap_or_default(),
                port,
                proto,
            }),
        }
    })
}

/// Where a device is; clients look for exit nodes by it.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Location {
    /// Its city.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub city: String,
    /// The city's code.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub city_code: String,
    /// Its country.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub country: String,
    /// The country's code, ISO 3166-1 alpha-2.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub country_code: String,
    /// Degrees north, -90 to 90.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latitude: Option<f64>,
    /// Degrees east, -180 to 180.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longitude: Option<f64>,
    /// Among exit nodes of one place that with the highest is suggested. Go's `int` has 32 bits on
    /// some platforms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
}

pub(super) fn location(raw: &str) -> Read<Location> {
    let Ok(fields) = Fields::parse(raw.as_bytes()) else {
        return Read::NOTHING;
    };
    let mut members = Members::new(&fields);
    let degrees = |value: Option<f64>, most: f64| value.filter(|value| value.abs() <= most);
    let (latitude, longitude) = (
        members.take("Latitude", exact),
        members.take("Longitude", exact),
    );
    let location = Location {
        city: members.text("City"),
        city_code: members.text("CityCode"),
        country: members.text("Country"),
        country_code: members.text("CountryCode"),
        latitude: degrees(latitude, 90.0),
        longitude: degrees(longitude, 180.0),
        priority: members.take("Priority", exact),
    };
    let is_on_earth = location.latitude == latitude && location.longitude == longitude;
    Read {
        is_whole: members.is_whole && is_on_earth,
        value: Some(location),
    }
}

/// What a device says of its TPM.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tpm {
    #[serde(skip_serializing_if = "String::is_empty")]
    manufacturer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    vendor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    firmware_version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    spec_revision: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    family_indicator: String,
}

pub(super) fn tpm(raw: &str) -> Read<Tpm> {
    let Ok(fields) = Fields::parse(raw.as_bytes()) else {
        return Read::NOTHING;
    };
    let mut members = Members::new(&fields);
    let tpm = Tpm {
        manufacturer: members.text("Manufacturer"),
        vendor: members.text("Vendor"),
        model: members.take("Model", exact),
        firmware_version: members.take("FirmwareVersion", exact),
        spec_revision: members.take("SpecRevision", exact),
        family_indicator: members.text("FamilyIndicator"),
    };
    Read {
        is_whole: members.is_whole,
        value: Some(tpm),
    }
}

/// The members of one object, and whether all that were asked for could be read.
pub(super) struct Members<'a> {
    fields: &'a Fields<'a>,
    pub(super) is_whole: bool,
}

impl<'a> Members<'a> {
    pub(super) fn new(fields: &'a Fields<'a>) -> Self {
        Self {
            fields,
            is_whole: true,
        }
    }

    /// A member; `None` where it is absent, `null` or does not fit.
    pub(super) fn take<T>(&mut self, name: &str, read: impl FnOnce(&str) -> Read<T>) -> Option<T> {
        let read = read(self.fields.raw(name)?.get());
        self.is_whole &= read.is_whole;
        read.value
    }

    pub(super) fn text(&mut self, name: &str) -> String {
        self.take(name, text).unwrap_or_default()
    }

    pub(super) fn flag(&mut self, name: &str) -> bool {
        self.take(name, exact).unwrap_or(false)
    }
}
