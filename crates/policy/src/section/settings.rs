//! The single settings: `derpMap`, `disableIPv4`, `OneCGNATRoute`, `randomizeClientPort`.

use crate::decode::Part;
use crate::diagnostic::Diagnostic;
use crate::hujson::quote;

/// Settings of the whole tailnet that stand in the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `derpMap` as compact JSON, in the form of `tailcfg.DERPMap`; `None` if absent. Regions that
    /// are `null` remove the default region of that id.
    pub derp_map: Option<String>,
    /// Devices get no IPv4 addresses.
    pub disable_ipv4: bool,
    /// `OneCGNATRoute`: empty, `mac-always` or `mac-never`.
    pub one_cgnat_route: String,
    /// All devices get the attribute `randomize-client-port`.
    pub randomize_client_port: bool,
}

/// Ids that custom relay regions may have.
const CUSTOM_REGIONS: std::ops::RangeInclusive<i64> = 900..=999;

/// Checks `derpMap` and returns it as JSON.
pub(crate) fn derp_map(part: Part<'_>) -> Result<String, Diagnostic> {
    part.members(&["OmitDefaultRegions", "Regions"], |name, part| {
        if name == "OmitDefaultRegions" {
            return part.bool().map(drop);
        }
        for (key, region) in part.map()? {
            let Ok(id) = key.text.parse::<i64>() else {
                let message = format!("derpMap: region id {} is not a number", quote(&key.text));
                return Err(Diagnostic::new(key.place, message));
            };
            if region.is_null() {
                continue;
            }
            if !CUSTOM_REGIONS.contains(&id) {
                let message = format!("derpMap: custom region id {id} is not within 900-999");
                return Err(Diagnostic::new(key.place, message));
            }
            check_region(id, region)?;
        }
        Ok(())
    })?;
    Ok(part.raw())
}

fn check_region(id: i64, region: Part<'_>) -> Result<(), Diagnostic> {
    let fields = [
        "RegionID",
        "RegionCode",
        "RegionName",
        "Latitude",
        "Longitude",
        "Avoid",
        "Nodes",
    ];
    region.members(&fields, |name, part| match name {
        "RegionID" if part.raw() != id.to_string() => {
            let message = format!("derpMap: RegionID {} differs from its key {id}", part.raw());
            Err(Diagnostic::new(part.place(), message))
        }
        "RegionCode" | "RegionName" => part.text().map(drop),
        "Avoid" => part.bool().map(drop),
        "Nodes" => part.list()?.into_iter().try_for_each(check_node),
        _ => Ok(()),
    })
}

fn check_node(node: Part<'_>) -> Result<(), Diagnostic> {
    let fields = [
        "Name",
        "RegionID",
        "HostName",
        "CertName",
        "IPv4",
        "IPv6",
        "STUNPort",
        "STUNOnly",
        "DERPPort",
        "InsecureForTests",
        "STUNTestIP",
        "CanPort80",
    ];
    node.members(&fields, |name, part| match name {
        "Name" | "HostName" | "CertName" | "IPv4" | "IPv6" => part.text().map(drop),
        "STUNOnly" => part.bool().map(drop),
        _ => Ok(()),
    })
}

/// Checks `OneCGNATRoute`.
pub(crate) fn one_cgnat_route(part: Part<'_>) -> Result<String, Diagnostic> {
    let text = part.text()?;
    match text.text.as_str() {
        "" | "mac-always" | "mac-never" => Ok(text.text),
        other => {
            let message = format!("OneCGNATRoute: {} is not a known value", quote(other));
            Err(Diagnostic::new(text.place, message))
        }
    }
}
