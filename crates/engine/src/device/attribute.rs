//! Custom posture attributes of devices.
//!
//! Source: `docs/protocol/api-behaviour.md`, section 5.2.

use std::collections::{BTreeMap, HashMap};

use bowline_model::device::{Attribute, AttributeValue, Device, integer};
use bowline_model::event::{DeviceRef, Event};
use bowline_model::id::DeviceId;
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::Policy;
use jiff::Timestamp;
use serde_json::Value;

use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::Refusal;

/// Longest key, with its namespace.
const KEY_MAX: usize = 128;
/// Longest string value.
const STRING_MAX: usize = 50;
/// Longest comment.
const COMMENT_MAX: usize = 200;
/// The most attributes that one request changes.
pub const EDITS_MAX: usize = 250;
/// The most attributes of one device.
const ATTRIBUTES_MAX: usize = 100;

/// Reads a value as the API has it.
///
/// # Errors
/// `Invalid`.
pub fn parse_value(value: &Value) -> Result<AttributeValue, Refusal> {
    match value {
        Value::Bool(flag) => Ok(AttributeValue::Bool(*flag)),
        Value::Number(_) => integer(value).map(AttributeValue::Number).ok_or_else(|| {
            Refusal::invalid("attribute value must be an integer of at most 2^53-1")
        }),
        Value::String(text) => {
            let fits = text.chars().count() <= STRING_MAX
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.'));
            if fits {
                Ok(AttributeValue::String(text.clone()))
            } else {
                Err(Refusal::invalid(
                    "attribute value must be at most 50 letters, digits, underscores and periods",
                ))
            }
        }
        Value::Null | Value::Array(_) | Value::Object(_) => Err(Refusal::invalid(
            "attribute value must be a string, a number or a boolean",
        )),
    }
}

fn check_key(key: &str) -> Result<(), Refusal> {
    let name = key.strip_prefix("custom:").ok_or_else(|| {
        Refusal::invalid("attribute key must be in the custom namespace: custom:name")
    })?;
    let fits = !name.is_empty()
        && key.len() <= KEY_MAX
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':'));
    if fits {
        return Ok(());
    }
    Err(Refusal::invalid(
        "attribute key must be at most 128 letters, digits, underscores and colons",
    ))
}

/// Refuses a value of another type than the policy's `attrConfig` or the tailnet has for the key,
/// and a key that differs from another one only by case. Asked of the draft when all edits are in
/// it: what counts is the state that they lead to, not their order.
fn check_use(
    declared: &HashMap<&str, &str>,
    snapshot: &Snapshot,
    key: &str,
    kind: &'static str,
) -> Result<(), Refusal> {
    if let Some(wanted) = declared.get(key)
        && *wanted != kind
    {
        return Err(Refusal::invalid(format!(
            "attribute {key} is declared as {wanted} in the policy file, not {kind}"
        )));
    }
    for (other, present) in snapshot.attribute_uses(key) {
        if other != key {
            return Err(Refusal::invalid(format!(
                "attribute {key} differs from {other} only by case"
            )));
        }
        if present != kind {
            return Err(Refusal::invalid(format!(
                "attribute {key} has values of type {present}, not {kind}"
            )));
        }
    }
    Ok(())
}

/// Types that the policy declares for attributes, in the API's words.
fn declared_types(policy: &Policy) -> HashMap<&str, &str> {
    let configured = policy.attribute_config().iter();
    configured
        .map(|declared| {
            let kind = match declared.kind.as_str() {
                "bool" => "boolean",
                kind => kind,
            };
            (declared.name.as_str(), kind)
        })
        .collect()
}

/// A value to set (with its expiry), or `None` to delete.
pub type Edit = Option<(AttributeValue, Option<Timestamp>)>;

impl Engine {
    /// Sets or deletes custom attributes of several devices, all or none.
    ///
    /// # Errors
    /// `Invalid` for a key, value or comment that cannot be, or (with `many`) for a device that is
    /// not there; `NotFound` for a single device that is not there.
    pub async fn edit_attributes(
        &self,
        actor: &Actor,
        edits: Vec<(DeviceId, BTreeMap<String, Edit>)>,
        comment: Option<String>,
    ) -> Result<(), Refusal> {
        let comment = comment.filter(|text| !text.is_empty());
        if comment.as_ref().is_some_and(|text| {
            text.chars().count() > COMMENT_MAX || text.contains(char::is_control)
        }) {
            return Err(Refusal::invalid(
                "comment must be at most 200 characters, none of them a control character",
            ));
        }
        let count: usize = edits.iter().map(|(_, edits)| edits.len()).sum();
        if count > EDITS_MAX {
            return Err(Refusal::invalid(format!(
                "at most {EDITS_MAX} attributes can be changed at once, not {count}: send several requests"
            )));
        }
        for key in edits.iter().flat_map(|(_, edits)| edits.keys()) {
            check_key(key)?;
        }
        self.write(actor, move |draft| {
            let now = draft.now();
            // The file alone is asked, which no change of a device touches.
            let policy = draft.view().compiled_for_people().policy().clone();
            for (id, edits) in &edits {
                let mut device: Device = draft
                    .view()
                    .device(*id)
                    .map(|entry| (*entry.device).clone())
                    .ok_or(Refusal::NotFound)?;
                let mut changed = false;
                for (key, edit) in edits {
                    let old = device.attributes.get(key).cloned();
                    let told = |device: &Device, old, new| Event::DeviceAttribute {
                        device: DeviceRef::of(device),
                        key: key.clone(),
                        old,
                        new,
                        comment: comment.clone(),
                    };
                    let Some((value, expires)) = edit else {
                        // One whose time is over must not come back either.
                        let ended = device.ended_attributes.remove(key);
                        let old = device.attributes.remove(key).or(ended);
                        if old.is_some() {
                            draft.audit(told(&device, old, None));
                            changed = true;
                        }
                        continue;
                    };
                    if expires.is_some_and(|at| at <= now) {
                        return Err(Refusal::invalid("attribute expiry must be in the future"));
                    }
                    let new = Attribute {
                        value: value.clone(),
                        expires: *expires,
                    };
                    if old.as_ref() == Some(&new) {
                        continue;
                    }
                    draft.audit(told(&device, old, Some(new.clone())));
                    device.ended_attributes.remove(key);
                    device.attributes.insert(key.clone(), new);
                    changed = true;
                }
                if device.attributes.len() > ATTRIBUTES_MAX {
                    return Err(Refusal::invalid(format!(
                        "a device can have at most {ATTRIBUTES_MAX} custom attributes"
                    )));
                }
                if changed {
                    draft.put(device);
                }
            }
            let declared = declared_types(&policy);
            for (key, edit) in edits.iter().flat_map(|(_, edits)| edits) {
                if let Some((value, _)) = edit {
                    check_use(&declared, draft.view(), key, value.type_name())?;
                }
            }
            Ok(())
        })
        .await
    }
}
