//! A client's report on its network. Source: tailscale/tailscale `tailcfg/tailcfg.go`, `NetInfo`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::fields::Fields;

/// The most latencies of one report: each region by IPv4 and IPv6, and there are 100 numbers for
/// regions of one's own.
pub const LATENCIES_MAX: usize = 256;
/// A longer way to a relay is not a latency, in seconds: clients give up after 5.
pub const LATENCY_MAX: f64 = 60.0;

/// What a client says of its network.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct NetInfo {
    /// Region it wants to be reached through; 0 when not known yet. At most 2^31 - 1: Go's `int` has
    /// 32 bits on some platforms, and one number too large costs peers their map.
    #[serde(rename = "PreferredDERP")]
    pub preferred_derp: u32,
    /// Seconds to each region, by `<region>-v4` and `<region>-v6`: from 0 to [`LATENCY_MAX`].
    #[serde(rename = "DERPLatency")]
    pub derp_latency: BTreeMap<String, f64>,
    /// Whether its NAT maps a port differently for different destinations.
    #[serde(rename = "MappingVariesByDestIP")]
    pub mapping_varies_by_dest_ip: Option<bool>,
    /// Whether IPv6 reaches the internet.
    #[serde(rename = "WorkingIPv6")]
    pub working_ipv6: Option<bool>,
    /// Whether the system has IPv6 at all.
    #[serde(rename = "OSHasIPv6")]
    pub os_has_ipv6: Option<bool>,
    /// Whether UDP works.
    #[serde(rename = "WorkingUDP")]
    pub working_udp: Option<bool>,
    /// Whether the router offers `UPnP`.
    #[serde(rename = "UPnP")]
    pub upnp: Option<bool>,
    /// Whether the router offers NAT-PMP.
    #[serde(rename = "PMP")]
    pub pmp: Option<bool>,
    /// Whether the router offers PCP.
    #[serde(rename = "PCP")]
    pub pcp: Option<bool>,
}

impl NetInfo {
    /// Reads a `NetInfo`; `None` when it is not an object. What does not fit is left out.
    pub fn parse(json: &str) -> Option<Self> {
        Some(Self::read(json)?.0)
    }

    /// The same, and whether something was left out.
    pub fn read(json: &str) -> Option<(Self, bool)> {
        let fields = Fields::parse(json.as_bytes()).ok()?;
        let mut is_shortened = false;
        let home = member::<u32>(&fields, "PreferredDERP", &mut is_shortened);
        let derp_latency = latencies(&fields, &mut is_shortened);
        let mut flag = |name| member::<bool>(&fields, name, &mut is_shortened);
        let net_info = Self {
            mapping_varies_by_dest_ip: flag("MappingVariesByDestIP"),
            working_ipv6: flag("WorkingIPv6"),
            os_has_ipv6: flag("OSHasIPv6"),
            working_udp: flag("WorkingUDP"),
            upnp: flag("UPnP"),
            pmp: flag("PMP"),
            pcp: flag("PCP"),
            preferred_derp: home_region(home.unwrap_or(0)),
            derp_latency,
        };
        is_shortened |= net_info.preferred_derp != home.unwrap_or(0);
        Some((net_info, is_shortened))
    }
}

/// A region as every client can read it; 0, "not known", where it is none.
pub fn home_region(region: u32) -> u32 {
    if i32::try_from(region).is_ok() {
        region
    } else {
        0
    }
}

fn member<T: DeserializeOwned>(
    fields: &Fields<'_>,
    name: &'static str,
    is_shortened: &mut bool,
) -> Option<T> {
    fields.optional(name).unwrap_or_else(|_| {
        *is_shortened = true;
        None
    })
}

fn latencies(fields: &Fields<'_>, is_shortened: &mut bool) -> BTreeMap<String, f64> {
    let all: BTreeMap<String, Box<RawValue>> =
        member(fields, "DERPLatency", is_shortened).unwrap_or_default();
    let mut kept = BTreeMap::new();
    for (path, raw) in &all {
        let seconds = serde_json::from_str::<f64>(raw.get()).ok();
        match seconds.filter(|seconds| (0.0..=LATENCY_MAX).contains(seconds)) {
            Some(seconds) if is_path(path) && kept.len() < LATENCIES_MAX => {
                kept.insert(path.clone(), seconds);
            }
            _ => *is_shortened = true,
        }
    }
    kept
}

/// `<region>-v4` or `<region>-v6`.
fn is_path(text: &str) -> bool {
    let region = text.strip_suffix("-v4").or(text.strip_suffix("-v6"));
    region.is_some_and(|region| region.len() <= 10 && region.parse::<u32>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_that_are_none_are_left_out() {
        let read = |latencies: &str| {
            NetInfo::read(&format!(
                r#"{{"DERPLatency":{{{latencies}}},"PreferredDERP":900}}"#
            ))
            .unwrap()
        };
        let (net, is_shortened) = read(r#""900-v4":0.01,"900-v6":0,"901-v4":60"#);
        assert_eq!((net.derp_latency.len(), is_shortened), (3, false));
        for bad in [
            r#""900-v4":1e306"#,
            r#""900-v4":1e400"#,
            r#""900-v4":-0.5"#,
            r#""900-v4":61"#,
            r#""900-v4":"0.1""#,
            r#""900-v4":null"#,
            r#""900":0.1"#,
            r#""x-v4":0.1"#,
        ] {
            let (net, is_shortened) = read(bad);
            assert_eq!((net.derp_latency.len(), is_shortened), (0, true), "{bad}");
            assert_eq!(net.preferred_derp, 900);
        }
        let many: Vec<String> = (0..LATENCIES_MAX)
            .map(|n| format!(r#""{n}-v4":0.1"#))
            .collect();
        let (net, is_shortened) = read(&many.join(","));
        assert_eq!(
            (net.derp_latency.len(), is_shortened),
            (LATENCIES_MAX, false)
        );
        let (net, is_shortened) = read(&(many.join(",") + r#","999-v6":0.1"#));
        assert_eq!(
            (net.derp_latency.len(), is_shortened),
            (LATENCIES_MAX, true)
        );
    }

    #[test]
    fn members_of_other_types_are_left_out_one_by_one() {
        let (net, is_shortened) =
            NetInfo::read(r#"{"PreferredDERP":2147483648,"UPnP":1,"PMP":true,"DERPLatency":[]}"#)
                .unwrap();
        assert!(is_shortened);
        assert_eq!(
            (net.preferred_derp, net.upnp, net.pmp),
            (0, None, Some(true))
        );
        assert_eq!(NetInfo::parse("[]"), None);
    }
}
