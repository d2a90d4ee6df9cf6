//! What a device's own user is told is wrong with it. A limit that took effect is never silent.
//!
//! Source: tailscale/tailscale `tailcfg/tailcfg.go`, `MapResponse.DisplayMessages` and `.Health`.

use std::collections::BTreeMap;

use bowline_model::user::Hold;
use bowline_wire::capability::{CapabilityVersion, DISPLAY_MESSAGES};
use bowline_wire::hostinfo::readable;
use serde::Serialize;

use crate::chunk::Entry;
use crate::json::field;

/// The most characters of names that a message has.
const NAMES_MAX: usize = 200;

/// One message. Shown as long as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Message {
    /// One line, without a full stop.
    title: &'static str,
    /// Sentences.
    text: String,
    /// `high`, `medium` or `low`.
    severity: &'static str,
}

/// All messages of a device, by an id that is the same as long as the message is about the same.
pub(crate) fn messages(entry: &Entry) -> BTreeMap<&'static str, Message> {
    let mut messages = BTreeMap::new();
    let device = &entry.device;
    match entry.hold {
        Some(Hold::Suspended) => {
            messages.insert(
                "bowline-user-suspended",
                Message {
                    title: "The user of this device is suspended",
                    text: "An administrator suspended the user of this device. It has no connections until that user is restored.".to_owned(),
                    severity: "high",
                },
            );
        }
        Some(Hold::NeedsApproval) => {
            messages.insert(
                "bowline-user-needs-approval",
                Message {
                    title: "The user of this device waits for approval",
                    text:
                        "This device has no connections until an administrator approves its user."
                            .to_owned(),
                    severity: "high",
                },
            );
        }
        None => {}
    }
    if !device.refused_tags.is_empty() {
        let refused: Vec<&str> = device.refused_tags.iter().map(String::as_str).collect();
        let tags = names(&refused);
        let text = format!(
            "This device asks for tags that it cannot have: {tags}. It stays as it was. Ask for other tags, or have an administrator let it have these."
        );
        messages.insert(
            "bowline-tags-refused",
            Message {
                title: "Requested tags are not permitted",
                text,
                severity: "medium",
            },
        );
    }
    if entry.live.multiple_connections {
        messages.insert(
            "bowline-state-copied",
            Message {
                title: "Another machine uses this device's key",
                text: "Two machines are connected with the same node key: the state of one was copied to the other, and they take the connection from each other. Log out on the one that is the copy, delete its state, and log in there anew.".to_owned(),
                severity: "high",
            },
        );
    }
    let shortened = entry.shortened();
    if !shortened.is_empty() {
        let text = format!(
            "The coordination server left out or shortened a part of what this device reports, because it is over a limit or not of the expected kind: {}.",
            names(&shortened)
        );
        messages.insert(
            "bowline-report-shortened",
            Message {
                title: "Part of this device's report is left out",
                text,
                severity: "low",
            },
        );
    }
    messages
}

fn names(all: &[&str]) -> String {
    let text = readable(&all.join(", "));
    match text.char_indices().nth(NAMES_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Appends what makes the client know the new messages instead of the old ones: nothing where they are
/// the same.
pub(crate) fn push_change(
    text: &mut String,
    old: &BTreeMap<&'static str, Message>,
    new: &BTreeMap<&'static str, Message>,
    version: CapabilityVersion,
) {
    if old == new {
        return;
    }
    if version < DISPLAY_MESSAGES {
        let all: Vec<&str> = new.values().map(|message| message.text.as_str()).collect();
        return field(text, "Health", &all);
    }
    let gone = old.keys().filter(|id| !new.contains_key(*id));
    let changed = new
        .iter()
        .filter(|(id, message)| old.get(*id) != Some(message));
    let changes: BTreeMap<&str, Option<&Message>> = changed
        .map(|(id, message)| (*id, Some(message)))
        .chain(gone.map(|id| (*id, None)))
        .collect();
    field(text, "DisplayMessages", &changes);
}
