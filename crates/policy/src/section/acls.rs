//! `acls`: network access rules of the older form.

use super::{Target, check_self, destination, posture_names, postures::Postures, sources};
use crate::decode::{Part, Text};
use crate::diagnostic::{Diagnostic, Place};
use crate::hujson::quote;
use crate::port::{self, PortRange};
use crate::selector::Names;

/// An `acls` rule.
#[derive(Debug, Clone)]
pub(crate) struct Acl {
    pub(crate) place: Place,
    pub(crate) src: Vec<Target>,
    /// Destinations in file order, each with its ports.
    pub(crate) dst: Vec<(Target, Vec<PortRange>)>,
    /// Destinations as written, with their ports.
    pub(crate) dst_texts: Vec<String>,
    pub(crate) protocol: Option<u8>,
    /// Names of the rule's own postures; `None` where the default applies.
    pub(crate) postures: Option<Vec<String>>,
}

/// Reads and checks one rule.
pub(crate) fn read(part: Part<'_>, names: &Names, postures: &Postures) -> Result<Acl, Diagnostic> {
    let place = part.place();
    let (mut action, mut protocol) = (None, None);
    let (mut src, mut dst): (Vec<Text>, Vec<Text>) = (Vec::new(), Vec::new());
    let mut posture: Option<Vec<Text>> = None;
    let (mut old_style, mut new_style) = (false, false);
    part.members(
        &[
            "action",
            "src",
            "dst",
            "users",
            "ports",
            "proto",
            "srcPosture",
        ],
        |name, part| {
            match name {
                "action" => action = Some(part.text()?),
                "src" | "users" => src = part.texts()?,
                "dst" | "ports" => dst = part.texts()?,
                "proto" => protocol = Some(part.text()?),
                _ => posture = Some(part.texts()?),
            }
            old_style |= matches!(name, "users" | "ports");
            new_style |= matches!(name, "src" | "dst");
            Ok(())
        },
    )?;
    if old_style && new_style {
        return Err(Diagnostic::new(
            place,
            "cannot mix users/ports with src/dst in one rule",
        ));
    }
    let action = action.unwrap_or(Text {
        text: String::new(),
        place,
    });
    if action.text != "accept" {
        let message = format!("action={} is not supported", quote(&action.text));
        return Err(Diagnostic::new(action.place, message));
    }
    let number = match &protocol {
        Some(text) if !text.text.is_empty() => {
            let parsed = port::parse_protocol(&text.text);
            Some(parsed.map_err(|error| Diagnostic::new(text.place, error))?)
        }
        _ => None,
    };
    let src = sources(names, &src)?;
    let mut targets = Vec::with_capacity(dst.len());
    for text in &dst {
        let wrong = |host: &str, error: String| {
            Diagnostic::new(text.place, format!("dst={}: {error}", quote(host)))
        };
        let (host, ports) =
            port::split_host_port(&text.text).map_err(|error| wrong(&text.text, error))?;
        let ports = port::parse_list(ports).map_err(|error| wrong(&text.text, error))?;
        if number.is_some_and(|number| !port::has_ports(number))
            && ports.iter().any(|range| *range != PortRange::ALL)
        {
            let reason = "only TCP, UDP and SCTP have ports; use '*'".to_owned();
            return Err(wrong(&text.text, reason));
        }
        part.budget()
            .elements(1, ports.len().saturating_mul(size_of::<PortRange>()))?;
        targets.push((destination(names, text, host)?, ports));
    }
    let destinations = targets.iter().map(|(target, _)| target);
    check_self(place, &src, destinations, true)?;
    let postures = posture
        .map(|list| posture_names(&list, postures))
        .transpose()?;
    Ok(Acl {
        place,
        src,
        dst: targets,
        dst_texts: dst.into_iter().map(|text| text.text).collect(),
        protocol: number,
        postures,
    })
}
