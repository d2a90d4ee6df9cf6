//! How the custom posture attributes of a tailnet are used: which keys there are, in which spellings
//! and with which types of values. A key has one spelling and one type in a tailnet; whether a
//! change keeps to that is asked here, and costs nothing for the devices that it does not touch.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_model::device::Attribute;
use imbl::HashMap;

/// A spelling of a key and the type of a value, with the number of devices that have both.
type Uses = BTreeMap<(String, &'static str), usize>;

/// Uses by key in lower case.
#[derive(Debug, Clone, Default)]
pub(crate) struct AttributeIndex(HashMap<String, Arc<Uses>>);

impl AttributeIndex {
    /// Follows a change of one device's attributes.
    pub(crate) fn follow(
        &mut self,
        old: &BTreeMap<String, Attribute>,
        new: &BTreeMap<String, Attribute>,
    ) {
        if old.is_empty() && new.is_empty() {
            return;
        }
        let is_other = |key: &str, kind: &str, map: &BTreeMap<String, Attribute>| {
            map.get(key)
                .is_none_or(|attribute| attribute.value.type_name() != kind)
        };
        for (key, attribute) in old {
            let kind = attribute.value.type_name();
            if is_other(key, kind, new) {
                self.count(key, kind, false);
            }
        }
        for (key, attribute) in new {
            let kind = attribute.value.type_name();
            if is_other(key, kind, old) {
                self.count(key, kind, true);
            }
        }
    }

    fn count(&mut self, key: &str, kind: &'static str, is_more: bool) {
        let lower = key.to_ascii_lowercase();
        let mut uses = self.0.get(&lower).cloned().unwrap_or_default();
        let own = Arc::make_mut(&mut uses);
        let count = own.entry((key.to_owned(), kind)).or_default();
        if is_more {
            *count += 1;
        } else {
            *count = count.saturating_sub(1);
            if *count == 0 {
                own.remove(&(key.to_owned(), kind));
            }
        }
        if uses.is_empty() {
            self.0.remove(&lower);
        } else {
            self.0.insert(lower, uses);
        }
    }

    /// Spellings and types in which a key is used, whatever its case.
    pub(crate) fn uses(&self, key: &str) -> impl Iterator<Item = (&str, &'static str)> {
        let uses = self.0.get(&key.to_ascii_lowercase());
        uses.into_iter()
            .flat_map(|uses| uses.keys().map(|(key, kind)| (key.as_str(), *kind)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_model::device::AttributeValue;
    use proptest::prelude::*;

    fn attributes(pairs: &[(u8, u8)]) -> BTreeMap<String, Attribute> {
        let keys = ["custom:a", "custom:A", "custom:b"];
        pairs
            .iter()
            .map(|(key, kind)| {
                let value = match kind % 3 {
                    0 => AttributeValue::Bool(true),
                    1 => AttributeValue::Number(i64::from(*kind)),
                    _ => AttributeValue::String(kind.to_string()),
                };
                let attribute = Attribute {
                    value,
                    expires: None,
                };
                (keys[usize::from(key % 3)].to_owned(), attribute)
            })
            .collect()
    }

    proptest! {
        /// The index after any changes is the index of what is there in the end.
        #[test]
        fn following_changes_equals_counting(
            steps in proptest::collection::vec(
                (0usize..4, proptest::collection::vec((any::<u8>(), any::<u8>()), 0..4)), 0..24)
        ) {
            let mut index = AttributeIndex::default();
            let mut devices = vec![BTreeMap::new(); 4];
            for (device, pairs) in steps {
                let new = attributes(&pairs);
                index.follow(&devices[device], &new);
                devices[device] = new;
            }
            let mut expected: BTreeMap<String, Uses> = BTreeMap::new();
            for (key, attribute) in devices.iter().flatten() {
                let uses = expected.entry(key.to_ascii_lowercase()).or_default();
                *uses.entry((key.clone(), attribute.value.type_name())).or_default() += 1;
            }
            let found: BTreeMap<String, Uses> =
                index.0.iter().map(|(key, uses)| (key.clone(), (**uses).clone())).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
