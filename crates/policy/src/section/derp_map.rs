//! `derpMap`: relays of the tailnet's own, and which of the server's are not used.
//!
//! What is checked here is what devices are told: clients read the whole map or nothing, and one
//! that has no relay never starts. Names of fields match without regard to case, as in all
//! sections. Source: `tailscale/tailscale` `tailcfg/derpmap.go`, `DERPMap`, `DERPRegion`,
//! `DERPNode`.

use crate::decode::{Part, Text};
use crate::diagnostic::Diagnostic;
use crate::hujson::quote;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

/// What a policy says of relays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayMap {
    /// The server's regions are not used.
    pub omit_default_regions: bool,
    /// Regions by id; `None` takes the server's region of that id away.
    pub regions: BTreeMap<u32, Option<RelayRegion>>,
}

/// A region of a policy: relays that are meshed with each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayRegion {
    /// Short code.
    pub code: String,
    /// Name that people see.
    pub name: String,
    /// Degrees north, as the JSON number that was written.
    pub latitude: Option<String>,
    /// Degrees east, as the JSON number that was written.
    pub longitude: Option<String>,
    /// Clients do not choose it as their home.
    pub avoid: bool,
    /// Its relays; never empty.
    pub nodes: Vec<RelayNode>,
}

/// A relay of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RelayNode {
    /// Unique over all regions. Made from the region's id where it is not given.
    pub name: String,
    /// Host name; never empty.
    pub host_name: String,
    /// Expected name in the certificate; empty: the host name.
    pub cert_name: String,
    /// An address; empty: ask DNS; `none`: no IPv4.
    pub ipv4: String,
    /// An address; empty: ask DNS; `none`: no IPv6.
    pub ipv6: String,
    /// UDP port for STUN; 0: 3478; -1: none.
    pub stun_port: i32,
    /// It answers STUN and relays nothing.
    pub stun_only: bool,
    /// TCP port; 0: 443.
    pub derp_port: u16,
    /// The certificate is not checked.
    pub insecure_for_tests: bool,
    /// It answers on port 80.
    pub can_port80: bool,
}

/// Ids that regions of policies may have.
const CUSTOM_REGIONS: std::ops::RangeInclusive<u32> = 900..=999;
/// The most relays of one region. Every device is told of all.
const NODES_MAX: usize = 100;
/// The longest text, in bytes; host names have no more.
const TEXT_MAX: usize = 253;

fn wrong<T>(place: crate::Place, message: impl AsRef<str>) -> Result<T, Diagnostic> {
    Err(Diagnostic::new(
        place,
        format!("derpMap: {}", message.as_ref()),
    ))
}

/// Reads and checks the section.
pub(crate) fn read(part: Part<'_>) -> Result<RelayMap, Diagnostic> {
    let mut map = RelayMap::default();
    let mut names = BTreeSet::new();
    part.members(&["OmitDefaultRegions", "Regions"], |field, part| {
        if field == "OmitDefaultRegions" {
            map.omit_default_regions = part.bool()?;
            return Ok(());
        }
        map.regions.clear();
        names.clear();
        for (key, value) in part.map()? {
            let id = region_id(&key)?;
            let region = if value.is_null() {
                None
            } else {
                if !CUSTOM_REGIONS.contains(&id) {
                    let message = format!("custom region id {id} is not within 900-999");
                    return wrong(key.place, message);
                }
                Some(region(id, value, &mut names)?)
            };
            map.regions.insert(id, region);
        }
        Ok(())
    })?;
    if map.omit_default_regions && map.regions.values().all(Option::is_none) {
        let message = "with OmitDefaultRegions there must be a region: clients without a relay \
                       never start";
        return wrong(part.place(), message);
    }
    Ok(map)
}

fn region_id(key: &Text) -> Result<u32, Diagnostic> {
    let id = key.text.parse::<u32>().ok();
    // One number, one key: another spelling would be a second entry for the same region.
    match id.filter(|id| *id > 0 && id.to_string() == key.text) {
        Some(id) => Ok(id),
        None => wrong(
            key.place,
            format!("region id {} is not a number", quote(&key.text)),
        ),
    }
}

fn region(
    id: u32,
    part: Part<'_>,
    names: &mut BTreeSet<String>,
) -> Result<RelayRegion, Diagnostic> {
    let mut region = RelayRegion::default();
    let fields = [
        "RegionID",
        "RegionCode",
        "RegionName",
        "Latitude",
        "Longitude",
        "Avoid",
        "Nodes",
    ];
    part.members(&fields, |field, part| {
        match field {
            "RegionID" => same_region(id, part, "its key")?,
            "RegionCode" => region.code = short(part)?,
            "RegionName" => region.name = short(part)?,
            "Latitude" => region.latitude = part.number(-90.0, 90.0)?,
            "Longitude" => region.longitude = part.number(-180.0, 180.0)?,
            "Avoid" => region.avoid = part.bool()?,
            _ => {
                region.nodes.clear();
                for part in part.list()? {
                    if region.nodes.len() == NODES_MAX {
                        let message = format!("region {id} has more than {NODES_MAX} nodes");
                        return wrong(part.place(), message);
                    }
                    region.nodes.push(node(id, region.nodes.len(), part)?);
                }
            }
        }
        Ok(())
    })?;
    if region.nodes.is_empty() {
        let message = format!("region {id} has no nodes; to take a region away, write null");
        return wrong(part.place(), message);
    }
    for node in &region.nodes {
        if !names.insert(node.name.clone()) {
            let message = format!("two nodes are named {}", quote(&node.name));
            return wrong(part.place(), message);
        }
    }
    Ok(region)
}

/// A region's id that stands inside the region too. 0 is absence, as in Go.
fn same_region(id: u32, part: Part<'_>, what: &str) -> Result<(), Diagnostic> {
    let given = part.integer(0, i64::from(u32::MAX))?;
    if given == 0 || given == i64::from(id) {
        return Ok(());
    }
    wrong(
        part.place(),
        format!("RegionID {given} differs from {what} {id}"),
    )
}

fn node(id: u32, index: usize, part: Part<'_>) -> Result<RelayNode, Diagnostic> {
    let mut node = RelayNode::default();
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
        "CanPort80",
    ];
    part.members(&fields, |field, part| {
        match field {
            "Name" => node.name = short(part)?,
            "RegionID" => same_region(id, part, "its region")?,
            "HostName" => node.host_name = host_name(part)?,
            "CertName" => node.cert_name = short(part)?,
            "IPv4" => node.ipv4 = address::<Ipv4Addr>(part, "IPv4")?,
            "IPv6" => node.ipv6 = address::<Ipv6Addr>(part, "IPv6")?,
            "STUNPort" => node.stun_port = port(part, -1)?,
            "STUNOnly" => node.stun_only = part.bool()?,
            "DERPPort" => node.derp_port = port(part, 0)?,
            "InsecureForTests" => node.insecure_for_tests = part.bool()?,
            _ => node.can_port80 = part.bool()?,
        }
        Ok(())
    })?;
    if node.host_name.is_empty() {
        let message = format!("a node of region {id} has no HostName");
        return wrong(part.place(), message);
    }
    if node.name.is_empty() {
        node.name = format!("{id}-{}", index + 1);
    }
    Ok(node)
}

fn port<T: TryFrom<i64> + Default>(part: Part<'_>, first: i64) -> Result<T, Diagnostic> {
    let number = part.integer(first, i64::from(u16::MAX))?;
    Ok(T::try_from(number).unwrap_or_default())
}

fn short(part: Part<'_>) -> Result<String, Diagnostic> {
    let text = part.text()?;
    let fits = text.text.len() <= TEXT_MAX && !text.text.chars().any(char::is_control);
    if fits {
        Ok(text.text)
    } else {
        let shown = quote(&text.text);
        wrong(
            text.place,
            format!("{shown} is longer than {TEXT_MAX} bytes or has control characters"),
        )
    }
}

fn host_name(part: Part<'_>) -> Result<String, Diagnostic> {
    let text = short(part)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if text.bytes().all(fits) {
        Ok(text)
    } else {
        wrong(
            part.place(),
            format!("HostName {} is not a host name", quote(&text)),
        )
    }
}

fn address<A: std::str::FromStr>(part: Part<'_>, family: &str) -> Result<String, Diagnostic> {
    let text = short(part)?;
    if text.is_empty() || text == "none" || text.parse::<A>().is_ok() {
        return Ok(text);
    }
    let shown = quote(&text);
    wrong(
        part.place(),
        format!("{shown} is not an {family} address, and not \"none\""),
    )
}
