//! Sources as they are sent: sorted texts, each once.

use super::Compiled;
use crate::budget::Budget;
use crate::program::SourceId;
use crate::range;
use crate::selector::{Autogroup, Selector};
use crate::set::{DeviceSet, Slot};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, OnceLock};

/// Estimated memory of a text, in bytes.
const TEXT: usize = 80;

/// A hash of a text that is the same in every process.
pub(super) fn hash(text: &str) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, text).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

/// A source's texts after those of one device have changed. `fixed` ones stay.
pub(super) fn patch(
    wire: &[Arc<str>],
    fixed: &[Arc<str>],
    removed: &[Arc<str>],
    added: &[Arc<str>],
) -> Arc<[Arc<str>]> {
    let mut list = wire.to_vec();
    if list.first().is_some_and(|text| **text == *"*") {
        return list.into();
    }
    for text in removed {
        if fixed.binary_search(text).is_err()
            && let Ok(at) = list.binary_search(text)
        {
            list.remove(at);
        }
    }
    for text in added {
        if let Err(at) = list.binary_search(text) {
            list.insert(at, Arc::clone(text));
        }
    }
    list.into()
}

impl Compiled {
    /// A number that is the same for sources that are the same on the wire.
    pub(super) fn fingerprint(&self, source: SourceId) -> u128 {
        self.source_state(source)
            .map_or(0, |state| state.sum.wrapping_add(state.fixed_sum))
    }

    /// The same number for these devices alone.
    pub(super) fn fingerprint_of(&self, devices: impl Iterator<Item = Slot>) -> u128 {
        let states = devices.filter_map(|slot| self.state(slot));
        let hashes = states.flat_map(|state| state.hashes.iter());
        hashes.fold(0u128, |sum, hash| sum.wrapping_add(*hash))
    }

    /// Recomputes the texts of all sources that do not come from devices.
    pub(super) fn refresh_fixed_wires(&mut self, budget: &Budget) {
        for id in (0..).take(self.sources.len()) {
            self.refresh_fixed_wire(id, budget);
        }
    }

    pub(super) fn refresh_fixed_wire(&mut self, id: SourceId, budget: &Budget) {
        let mut texts = self.fixed_texts(id, budget);
        texts.sort_unstable();
        texts.dedup();
        let sum = texts
            .iter()
            .fold(0u128, |sum, text| sum.wrapping_add(hash(text)));
        if let Some(state) = self.sources.get_mut(id as usize).map(Arc::make_mut) {
            state.fixed = texts.into();
            state.fixed_sum = sum;
            state.wire = OnceLock::new();
        }
    }

    fn fixed_texts(&self, id: SourceId, budget: &Budget) -> Vec<Arc<str>> {
        let Some(def) = self.program.source(id) else {
            return Vec::new();
        };
        let matchers = &self.program.matchers;
        let conditional = !def.postures.is_empty();
        if !conditional
            && matchers
                .danger_all
                .is_some_and(|atom| def.atoms.contains(&atom))
        {
            return vec![Arc::from("*")];
        }
        let mut texts: Vec<Arc<str>> = Vec::new();
        for atom in &def.atoms {
            let selector = self.program.atom(*atom);
            let count = match selector {
                Some(Selector::Prefix(_)) => 1,
                Some(Selector::Everything | Selector::Auto(Autogroup::DangerAll)) => {
                    range::TAILNET_RANGES.len() + self.routes.len()
                }
                _ => 0,
            };
            if budget.elements(1 + 8 * count, 0).is_err() || !budget.allows_bytes(count * TEXT) {
                break;
            }
            match selector {
                // Under a posture, addresses of the tailnet are listed device by device.
                Some(Selector::Prefix(prefix)) if conditional && range::in_tailnet(*prefix) => {}
                Some(Selector::Prefix(prefix)) => texts.push(range::show(*prefix).into()),
                Some(Selector::Everything | Selector::Auto(Autogroup::DangerAll)) => {
                    if !conditional {
                        texts.extend(range::TAILNET_RANGES.iter().map(|text| Arc::from(*text)));
                    }
                    // A subnet with addresses of devices in it would let in those that fail.
                    let subnets = self.routes.keys().filter(|route| {
                        !conditional || !range::in_tailnet(**route) || range::is_4via6(**route)
                    });
                    texts.extend(subnets.map(|route| Arc::from(range::show(*route))));
                }
                Some(Selector::Service(name)) => {
                    let addresses = self
                        .services
                        .get(name)
                        .into_iter()
                        .flat_map(|list| list.iter());
                    texts.extend(addresses.map(|address| Arc::from(address.to_string())));
                }
                _ => {}
            }
        }
        texts
    }

    /// A source's texts as they are sent: sorted, each once.
    pub(super) fn wire(&self, source: SourceId) -> Arc<[Arc<str>]> {
        let Some(state) = self.source_state(source) else {
            return Arc::from([]);
        };
        let build = || {
            if state.fixed.first().is_some_and(|text| **text == *"*") {
                return Arc::clone(&state.fixed);
            }
            self.wire_of(&state.named, &state.fixed)
        };
        Arc::clone(state.wire.get_or_init(build))
    }

    /// The addresses of devices, and other texts: sorted, each once.
    pub(super) fn wire_of(&self, devices: &DeviceSet, fixed: &[Arc<str>]) -> Arc<[Arc<str>]> {
        let states = devices.iter().filter_map(|slot| self.state(slot));
        let own = states.flat_map(|state| state.strings.iter());
        let mut texts: Vec<Arc<str>> = own.chain(fixed).cloned().collect();
        texts.sort_unstable();
        texts.dedup();
        texts.into()
    }
}
