//! `grants`: access rules for the network and for applications.

use super::{Target, check_self, destination, posture_names, postures::Postures, sources};
use crate::decode::{Part, Text};
use crate::diagnostic::{Diagnostic, Place};
use crate::hujson::quote;
use crate::port::{self, PortRange};
use crate::selector::{Autogroup, Names, Selector, tag_name};
use ipnet::IpNet;
use std::sync::Arc;

/// Capabilities of a grant: names with their values as compact JSON, as written.
pub(crate) type Capabilities = Arc<[(Arc<str>, Option<Vec<Arc<str>>>)]>;

/// Ports of one protocol, in file order.
pub(crate) type PortGroup = (Option<u8>, Vec<PortRange>);

/// A grant.
#[derive(Debug, Clone)]
pub(crate) struct Grant {
    pub(crate) place: Place,
    pub(crate) src: Vec<Target>,
    pub(crate) dst: Vec<Target>,
    /// `ip` entries as written.
    pub(crate) ip_texts: Vec<String>,
    /// `ip` entries by protocol, in the order of first appearance.
    pub(crate) ip: Vec<PortGroup>,
    pub(crate) app: Capabilities,
    pub(crate) via: Vec<Target>,
    /// Names of the rule's own postures; `None` where the default applies.
    pub(crate) postures: Option<Vec<String>>,
}

/// Capabilities of the domain `tailscale.com` that policies may grant.
const OPEN: &[&str] = &["drive", "kubernetes", "relay", "webui", "tsidp", "secrets"];

/// Reads and checks one grant.
pub(crate) fn read(
    part: Part<'_>,
    names: &Names,
    postures: &Postures,
) -> Result<Grant, Diagnostic> {
    let place = part.place();
    let (mut src, mut dst, mut ip, mut via) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut app: Capabilities = Arc::from([]);
    let mut posture: Option<Vec<Text>> = None;
    part.members(
        &["src", "dst", "ip", "app", "via", "srcPosture"],
        |name, part| {
            match name {
                "src" => src = part.texts()?,
                "dst" => dst = part.texts()?,
                "ip" => ip = part.texts()?,
                "app" => app = capabilities(part)?,
                "via" => via = part.texts()?,
                _ => posture = Some(part.texts()?),
            }
            Ok(())
        },
    )?;
    if ip.is_empty() && app.is_empty() {
        return Err(Diagnostic::new(place, "ip and app can not both be empty"));
    }
    let src = sources(names, &src)?;
    let dst = destinations(names, &dst, !app.is_empty())?;
    check_self(place, &src, dst.iter(), false)?;
    let mut groups: Vec<PortGroup> = Vec::new();
    for text in &ip {
        let (protocol, range) =
            port::parse_ip_entry(&text.text).map_err(|error| Diagnostic::new(text.place, error))?;
        if protocol.is_some_and(|number| !port::has_ports(number)) && range != PortRange::ALL {
            let message = format!(
                "{}: only TCP, UDP and SCTP have ports; use '*'",
                quote(&text.text)
            );
            return Err(Diagnostic::new(text.place, message));
        }
        match groups.iter_mut().find(|(known, _)| *known == protocol) {
            Some((_, ranges)) => ranges.push(range),
            None => groups.push((protocol, vec![range])),
        }
    }
    let via = via
        .iter()
        .map(|text| router_tag(names, text))
        .collect::<Result<_, _>>()?;
    let postures = posture
        .map(|list| posture_names(&list, postures))
        .transpose()?;
    let ip_texts = ip.into_iter().map(|text| text.text).collect();
    Ok(Grant {
        place,
        src,
        dst,
        ip_texts,
        ip: groups,
        app,
        via,
        postures,
    })
}

fn destinations(names: &Names, dst: &[Text], app: bool) -> Result<Vec<Target>, Diagnostic> {
    dst.iter()
        .map(|text| {
            let target = destination(names, text, &text.text)?;
            let whole = |prefix: &IpNet| prefix.prefix_len() == 0;
            if matches!(&target.selector, Selector::Prefix(prefix) if whole(prefix)) {
                let message = format!(
                    "dst {}: to allow all IP addresses, use \"*\" or \"autogroup:internet\"",
                    quote(&text.text)
                );
                return Err(Diagnostic::new(text.place, message));
            }
            if app && target.selector == Selector::Auto(Autogroup::Internet) {
                let message = "cannot use app grants with autogroup:internet";
                return Err(Diagnostic::new(text.place, message));
            }
            Ok(target)
        })
        .collect()
}

fn router_tag(names: &Names, text: &Text) -> Result<Target, Diagnostic> {
    if !text.text.starts_with("tag:") {
        return Err(Diagnostic::new(text.place, "via can only be a tag"));
    }
    let tag = tag_name(&text.text);
    if !names.tags.contains(&tag) {
        let message = format!("tag {} not found", quote(&text.text));
        return Err(Diagnostic::new(text.place, message));
    }
    Ok(Target::new(text, Selector::Tag(tag)))
}

fn capabilities(part: Part<'_>) -> Result<Capabilities, Diagnostic> {
    let entries: Result<Vec<_>, Diagnostic> = part
        .map()?
        .into_iter()
        .map(|(name, values)| {
            check_name(&name.text).map_err(|error| Diagnostic::new(name.place, error))?;
            let list = values
                .list()?
                .map(|value| value.raw().map(Arc::from))
                .collect::<Result<_, _>>()?;
            let list = if values.is_null() { None } else { Some(list) };
            Ok((Arc::from(name.text), list))
        })
        .collect();
    Ok(entries?.into())
}

fn check_name(name: &str) -> Result<(), &'static str> {
    let form = "capability name must have the form {domain}/{path}";
    let (domain, path) = name.split_once('/').ok_or(form)?;
    let domain_fits = !domain.is_empty()
        && domain
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    if !domain_fits || path.is_empty() || name.contains("://") {
        return Err(form);
    }
    let open = path
        .strip_prefix("cap/")
        .is_some_and(|last| OPEN.contains(&last));
    if domain.eq_ignore_ascii_case("tailscale.com") && !open {
        return Err("capability name must not be in the tailscale.com domain");
    }
    Ok(())
}
