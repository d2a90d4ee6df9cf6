//! `attrConfig`: the types of custom attributes.

use crate::decode::Part;
use crate::diagnostic::Diagnostic;
use crate::hujson::quote;
use crate::selector::Names;

/// What is known about a custom attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeConfig {
    /// `custom:name`
    pub name: String,
    /// `string`, `bool` or `number`.
    pub kind: String,
    /// Devices may set it themselves.
    pub allow_set_by_node: bool,
    /// Selectors of the devices that get to see it.
    pub broadcast_to_peers: Vec<String>,
}

/// Reads and checks the section.
pub(crate) fn read(part: Part<'_>, names: &Names) -> Result<Vec<AttributeConfig>, Diagnostic> {
    part.map()?
        .into_iter()
        .map(|(name, value)| {
            let context = format!("attrConfig[{}]: ", quote(&name.text));
            if name.text.strip_prefix("custom:").is_none_or(str::is_empty) {
                let message = format!("{context}attribute names must start with 'custom:'");
                return Err(Diagnostic::new(name.place, message));
            }
            let mut config = AttributeConfig {
                name: name.text.clone(),
                kind: "string".to_owned(),
                allow_set_by_node: false,
                broadcast_to_peers: Vec::new(),
            };
            value.members(
                &["type", "allowSetByNode", "broadcastToPeers"],
                |field, part| {
                    match field {
                        "type" => {
                            let kind = part.text()?;
                            if !matches!(kind.text.as_str(), "string" | "bool" | "number") {
                                let message =
                                    format!("{context}{} is not a valid type", quote(&kind.text));
                                return Err(Diagnostic::new(kind.place, message));
                            }
                            config.kind = kind.text;
                        }
                        "allowSetByNode" => {
                            config.allow_set_by_node = part.bool()?;
                            if config.allow_set_by_node {
                                part.warn(|| format!("{context}allowSetByNode has no effect yet"));
                            }
                        }
                        _ => {
                            part.warn(|| format!("{context}broadcastToPeers has no effect yet"));
                            for text in part.texts()? {
                                names.selector(&text.text).map_err(|error| {
                                    Diagnostic::new(text.place, format!("{context}{error}"))
                                })?;
                                config.broadcast_to_peers.push(text.text);
                            }
                        }
                    }
                    Ok(())
                },
            )?;
            Ok(config)
        })
        .collect()
}
