//! Node attributes: what a policy adds to a node's capabilities.

use super::Compiled;
use crate::program::{AtomId, touch};
use crate::topology::{DeviceId, Owner};
use ipnet::IpNet;
use serde_json::Value;
use std::collections::BTreeMap;

/// Capabilities by name; `None` is `null`.
pub type CapabilityMap = BTreeMap<String, Option<Vec<Value>>>;

const FUNNEL_PORTS: &str = "https://tailscale.com/cap/funnel-ports?ports=443,8443,10000";
const FUNNEL_WITHOUT_HTTPS: &str = "https://tailscale.com/cap/warn-funnel-no-https";

impl Compiled {
    /// Steps that finding a device's capabilities takes at most.
    pub(super) fn attribute_steps(&self) -> usize {
        let entries = self.policy.node_attrs.iter().zip(&self.program.node_attrs);
        let steps = entries.map(|(entry, atoms)| {
            let values = entry.app.iter().flat_map(|(_, values)| values);
            let parsed: usize = values.map(|text| 1 + text.len() / 8).sum();
            atoms.len() + 4 * entry.attributes.len() + parsed
        });
        steps.sum()
    }

    /// The capabilities that the policy gives a device in its own view. `None` if there is no
    /// such device. What every node has, and what follows from settings, is not in it.
    pub fn caps_for(&self, device: DeviceId) -> Option<CapabilityMap> {
        let (_, state) = self.state_of(device)?;
        let mut caps = CapabilityMap::new();
        if self.policy.settings.randomize_client_port {
            caps.insert("randomize-client-port".to_owned(), None);
        }
        for (entry, atoms) in self.policy.node_attrs.iter().zip(&self.program.node_attrs) {
            let targeted = atoms
                .iter()
                .any(|atom| state.standing.flags(*atom) & touch::OWN != 0);
            for attribute in entry.attributes.iter().filter(|_| targeted) {
                caps.insert(attribute.clone(), None);
            }
            for (name, values) in entry.app.iter().filter(|_| targeted) {
                let values = values
                    .iter()
                    .filter_map(|text| serde_json::from_str(text).ok());
                let all = caps
                    .entry(name.clone())
                    .or_default()
                    .get_or_insert_default();
                all.extend(values.filter(|value| self.is_sent(name, value, device)));
            }
        }
        // Only connectors are told about app connectors.
        caps.retain(|name, values| {
            name != APP_CONNECTORS || values.as_ref().is_some_and(|values| !values.is_empty())
        });
        if caps.contains_key("funnel") {
            caps.insert(FUNNEL_PORTS.to_owned(), None);
            if !self.https_enabled {
                caps.insert(FUNNEL_WITHOUT_HTTPS.to_owned(), None);
            }
        }
        Some(caps)
    }

    /// Whether a value of an application's attribute is meant for this device.
    fn is_sent(&self, name: &str, value: &Value, device: DeviceId) -> bool {
        if name != APP_CONNECTORS {
            return true;
        }
        let Some(connectors) = value.get("connectors").and_then(Value::as_array) else {
            return true;
        };
        let Some((_, state)) = self.state_of(device) else {
            return false;
        };
        connectors
            .iter()
            .filter_map(Value::as_str)
            .any(|connector| {
                let tagged = matches!(
                    &state.device.owner,
                    crate::topology::Owner::Tags(tags) if tags.iter().any(|tag| tag.eq_ignore_ascii_case(connector))
                );
                connector == "*" || tagged
            })
    }

    /// The capabilities that peers see on a device.
    pub fn peer_caps(&self, device: DeviceId) -> CapabilityMap {
        let mut caps = CapabilityMap::new();
        if self.is_exit_node(device) {
            caps.insert("suggest-exit-node".to_owned(), None);
        }
        caps
    }

    /// Whether a device's IPv4 address is hidden from it and from its peers, and its peers' IPv4
    /// addresses from it. Routes and filters stay.
    pub fn ipv4_disabled(&self, device: DeviceId) -> bool {
        let hidden = &self.program.without_ipv4;
        self.policy.settings.disable_ipv4
            || self.state_of(device).is_some_and(|(_, state)| {
                let mut own = state.standing.atoms.iter();
                own.any(|(atom, flags)| {
                    flags & touch::OWN != 0 && hidden.binary_search(atom).is_ok()
                })
            })
    }

    /// The pools from which a device that joins gets its IPv4 address; empty for the default one.
    /// Devices that have an address keep it.
    pub fn ip_pools(&self, device: DeviceId) -> Vec<IpNet> {
        let Some((_, state)) = self.state_of(device) else {
            return Vec::new();
        };
        self.pools(|atom| state.standing.flags(atom) & touch::OWN != 0)
    }

    /// The same for a device that is yet to join, by who will own it: it has no address so far
    /// that could make it a target.
    pub fn ip_pools_for(&self, owner: &Owner) -> Vec<IpNet> {
        if self
            .policy
            .node_attrs
            .iter()
            .all(|entry| entry.ip_pool.is_empty())
        {
            return Vec::new();
        }
        let mut atoms = Vec::new();
        self.identity_atoms(owner, &mut atoms);
        let everything = &self.program.matchers.everything;
        let own: std::collections::HashSet<AtomId> =
            atoms.into_iter().map(|(atom, _)| atom).collect();
        self.pools(|atom| everything.contains(&atom) || own.contains(&atom))
    }

    fn pools(&self, is_target: impl Fn(AtomId) -> bool) -> Vec<IpNet> {
        let entries = self.policy.node_attrs.iter().zip(&self.program.node_attrs);
        let targeted = entries.filter(|(_, atoms)| atoms.iter().any(|atom| is_target(*atom)));
        targeted
            .flat_map(|(entry, _)| entry.ip_pool.iter().copied())
            .collect()
    }
}

const APP_CONNECTORS: &str = "tailscale.com/app-connectors";
