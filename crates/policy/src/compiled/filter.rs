//! Packet filters: the rules narrowed to one node, as it is sent them.

use super::Compiled;
use super::class::concerns;
use super::membership::{DeviceState, is_identity};
use crate::port::PortRange;
use crate::program::{Allows, Destination, KUBERNETES, RawRule, RuleId, recorder_tags, touch};
use crate::range;
use crate::section::grants::Capabilities;
use crate::selector::{Autogroup, Selector, tag_name};
use crate::set::{DeviceSet, Slot};
use crate::topology::DeviceId;
use serde::ser::{SerializeMap as _, SerializeStruct as _};
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use std::hash::{Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

/// A rule of a packet filter. Serialised as `tailcfg.FilterRule`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterRule {
    /// Addresses, prefixes, ranges `a-b` or `*`: sorted as texts, each once. Nodes with the same
    /// rule share the list.
    pub src_ips: Arc<[Arc<str>]>,
    /// Destinations in the order of the policy. Empty in rules about capabilities.
    pub dst_ports: Vec<DstPorts>,
    /// Protocol number; `None` allows TCP, UDP and both ICMPs.
    pub ip_proto: Option<u8>,
    /// Capabilities that the sources have on this node. Empty in rules about ports.
    pub cap_grants: Vec<CapGrant>,
}

/// A destination of a [`FilterRule`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DstPorts {
    /// Address, prefix, range `a-b` or `*`.
    #[serde(rename = "IP")]
    pub ip: Arc<str>,
    /// Ports.
    pub ports: PortRange,
}

/// Capabilities on some addresses of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapGrant {
    /// Prefixes, sorted as texts.
    pub dsts: Vec<String>,
    /// Capability names with their values as compact JSON; `None` is `null`.
    pub cap_map: Capabilities,
}

impl Serialize for FilterRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rule = serializer.serialize_struct("FilterRule", 4)?;
        rule.serialize_field("SrcIPs", &self.src_ips)?;
        if !self.dst_ports.is_empty() {
            rule.serialize_field("DstPorts", &self.dst_ports)?;
        }
        if let Some(protocol) = self.ip_proto {
            rule.serialize_field("IPProto", &[protocol])?;
        }
        if !self.cap_grants.is_empty() {
            rule.serialize_field("CapGrant", &self.cap_grants)?;
        }
        rule.end()
    }
}

impl Serialize for CapGrant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        struct Caps<'a>(&'a Capabilities);
        impl Serialize for Caps<'_> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(Some(self.0.len()))?;
                for (name, values) in self.0.iter() {
                    let raw = |text: &Arc<str>| {
                        serde_json::value::RawValue::from_string(text.to_string())
                            .map_err(serde::ser::Error::custom)
                    };
                    let list = values.as_ref().map(|list| list.iter().map(raw).collect());
                    let list: Option<Vec<_>> = list.transpose()?;
                    map.serialize_entry(&**name, &list)?;
                }
                map.end()
            }
        }
        let mut grant = serializer.serialize_struct("CapGrant", 2)?;
        grant.serialize_field("Dsts", &self.dsts)?;
        grant.serialize_field("CapMap", &Caps(&self.cap_map))?;
        grant.end()
    }
}

/// A raw rule on its way to a node: where it is sent, and which it is.
struct Incoming<'a> {
    /// The rule whose place it takes. Rules with the same place are sent as one.
    place: RuleId,
    id: RuleId,
    rule: &'a RawRule,
    /// Sources of a rule for `autogroup:self`, which are this node's alone.
    own_sources: Option<DeviceSet>,
}

impl Compiled {
    /// The packet filter of a device, or `None` if there is no such device. No rule at all means
    /// that everything is denied.
    pub fn filters_for(&self, device: DeviceId) -> Option<Vec<FilterRule>> {
        let placed = self.placed_filters_for(device)?;
        Some(placed.into_iter().map(|(_, rule)| rule).collect())
    }

    /// The same, each rule with its place in the policy: an index into
    /// [`rule_prints`](Self::rule_prints). Places ascend; several rules can have the same.
    pub fn placed_filters_for(&self, device: DeviceId) -> Option<Vec<(usize, FilterRule)>> {
        let (slot, state) = self.state_of(device)?;
        let mut out: Vec<(usize, FilterRule)> = Vec::new();
        let mut last_place = None;
        for incoming in self.incoming(state) {
            let rule = incoming.rule;
            let src_ips = match &incoming.own_sources {
                Some(devices) => self.wire_of(devices, &[]),
                None => self.wire(rule.source),
            };
            match &rule.allows {
                Allows::Ports(protocol) => {
                    if src_ips.is_empty() {
                        continue;
                    }
                    let mut dst_ports = Vec::new();
                    for entry in &rule.entries {
                        self.destinations(slot, state, rule, entry, &mut dst_ports);
                    }
                    if dst_ports.is_empty() {
                        continue;
                    }
                    match out.last_mut() {
                        Some((_, merged)) if last_place == Some(incoming.place) => {
                            merged.dst_ports.append(&mut dst_ports);
                        }
                        _ => out.push((
                            incoming.place as usize,
                            FilterRule {
                                src_ips,
                                dst_ports,
                                ip_proto: *protocol,
                                cap_grants: Vec::new(),
                            },
                        )),
                    }
                    last_place = Some(incoming.place);
                }
                Allows::Capabilities(capabilities) => {
                    let grants = rule
                        .entries
                        .iter()
                        .filter_map(|entry| self.cap_grant(state, rule, entry, capabilities));
                    let cap_grants: Vec<CapGrant> = grants.collect();
                    if !cap_grants.is_empty() {
                        let rule = FilterRule {
                            src_ips,
                            dst_ports: Vec::new(),
                            ip_proto: None,
                            cap_grants,
                        };
                        out.push((incoming.place as usize, rule));
                    }
                }
            }
        }
        Some(out)
    }

    /// What each place of the policy's rules says, as a number: the same for the same rule of
    /// another policy, wherever it stands there. Only what the file says counts, not who is in its
    /// selectors now.
    pub fn rule_prints(&self) -> Vec<u64> {
        let program = &self.program;
        // Rules share sources, and a source can have very many selectors.
        let of_source = |source: &crate::program::SourceDef| {
            let mut hasher = std::hash::DefaultHasher::new();
            for atom in &source.atoms {
                program.atom(*atom).hash(&mut hasher);
            }
            for posture in &source.postures {
                let named = program.postures.get(*posture);
                named.map(|(name, _)| name).hash(&mut hasher);
            }
            hasher.finish()
        };
        let sources: Vec<u64> = program.sources.iter().map(of_source).collect();
        let print = |rule: &RawRule| {
            // The same in every run, so that tests do not depend on it.
            let mut hasher = std::hash::DefaultHasher::new();
            let selector = |atom: &crate::program::AtomId, hasher: &mut _| {
                program.atom(*atom).hash(hasher);
            };
            sources.get(rule.source as usize).hash(&mut hasher);
            for entry in &rule.entries {
                selector(&entry.atom, &mut hasher);
                entry.ports.hash(&mut hasher);
            }
            rule.via.iter().for_each(|atom| selector(atom, &mut hasher));
            match &rule.allows {
                Allows::Ports(protocol) => protocol.hash(&mut hasher),
                Allows::Capabilities(capabilities) => capabilities.hash(&mut hasher),
            }
            (rule.own_devices, rule.companion_of.is_some()).hash(&mut hasher);
            hasher.finish()
        };
        program.rules.iter().map(print).collect()
    }

    /// The rules that concern a node, in the order in which they are sent.
    fn incoming(&self, state: &DeviceState) -> Vec<Incoming<'_>> {
        let Some(class) = self.class(state.class) else {
            return Vec::new();
        };
        let program = &self.program;
        let mut list: Vec<Incoming<'_>> = Vec::new();
        // Rules for `autogroup:self` and through routers exist on this node only, but are sent as
        // one with others that have the same sources here.
        let mut places: HashMap<(u128, Option<u8>), RuleId> = HashMap::new();
        let mut local: Vec<(Incoming<'_>, u128)> = Vec::new();
        if let Some(devices) = class.key.user.and_then(|user| self.devices_of(user)) {
            for id in &program.own_rules {
                let Some(rule) = program.rule(*id) else {
                    continue;
                };
                let Some(source) = self.source_state(rule.source) else {
                    continue;
                };
                let sources = devices.intersection(&source.own);
                if sources.is_empty() || !self.is_companion_target(rule, state) {
                    continue;
                }
                let print = self.fingerprint_of(sources.iter());
                let own_sources = Some(sources);
                local.push((
                    Incoming {
                        place: *id,
                        id: *id,
                        rule,
                        own_sources,
                    },
                    print,
                ));
            }
        }
        let incoming = self.incoming_rules(class);
        for id in &incoming {
            let Some(rule) = program.rule(*id).filter(|rule| rule.is_local()) else {
                continue;
            };
            let print = self.fingerprint(rule.source);
            local.push((
                Incoming {
                    place: *id,
                    id: *id,
                    rule,
                    own_sources: None,
                },
                print,
            ));
        }
        for (incoming, print) in &local {
            if let Allows::Ports(protocol) = incoming.rule.allows {
                let key = (*print, protocol);
                let shared = self
                    .leaders
                    .by_key
                    .get(&key)
                    .copied()
                    .unwrap_or(incoming.id);
                let place = places.entry(key).or_insert(shared);
                *place = incoming.id.min(*place);
            }
        }
        for (mut incoming, print) in local {
            if let Allows::Ports(protocol) = incoming.rule.allows {
                incoming.place = places
                    .get(&(print, protocol))
                    .copied()
                    .unwrap_or(incoming.id);
            }
            list.push(incoming);
        }
        for id in &incoming {
            let Some(rule) = program.rule(*id).filter(|rule| !rule.is_local()) else {
                continue;
            };
            let mut place = self
                .leaders
                .by_rule
                .get(*id as usize)
                .copied()
                .unwrap_or(*id);
            if let Allows::Ports(protocol) = rule.allows
                && !places.is_empty()
            {
                let key = (self.fingerprint(rule.source), protocol);
                place = places.get(&key).map_or(place, |local| place.min(*local));
            }
            list.push(Incoming {
                place,
                id: *id,
                rule,
                own_sources: None,
            });
        }
        list.sort_by_key(|incoming| (incoming.place, incoming.id));
        list
    }

    /// A companion of a capability goes to the sources of the original alone.
    fn is_companion_target(&self, rule: &RawRule, state: &DeviceState) -> bool {
        rule.companion_of.is_none_or(|source| {
            let def = self.program.source(source);
            def.is_some_and(|def| self.program.part(def, &state.standing).own)
        })
    }

    fn destinations(
        &self,
        slot: Slot,
        state: &DeviceState,
        rule: &RawRule,
        entry: &Destination,
        out: &mut Vec<DstPorts>,
    ) {
        let mut push = |ip: &Arc<str>| {
            let ports = entry.ports.iter().copied();
            out.extend(ports.map(|ports| DstPorts {
                ip: Arc::clone(ip),
                ports,
            }));
        };
        if rule.own_devices {
            state.strings.iter().for_each(push);
            return;
        }
        if !concerns(rule, entry.atom, &state.standing) {
            return;
        }
        let flags = state.standing.flags(entry.atom);
        match self.program.atom(entry.atom) {
            Some(Selector::Everything) => push(&Arc::from("*")),
            Some(Selector::Prefix(prefix)) => push(&range::show(*prefix).into()),
            Some(Selector::Auto(Autogroup::Internet)) => {
                for (first, last) in range::internet().each() {
                    push(&format!("{first}-{last}").into());
                }
            }
            Some(Selector::Service(name)) => {
                let addresses = self
                    .services
                    .get(name)
                    .into_iter()
                    .flat_map(|list| list.iter());
                addresses.for_each(|address| push(&address.to_string().into()));
            }
            Some(selector) if is_identity(selector) && rule.via.is_empty() => {
                if flags & touch::OWN != 0 {
                    state.strings.iter().for_each(&mut push);
                }
                if flags & touch::ROUTE != 0 {
                    self.covered(slot, state, entry, &mut push);
                }
            }
            _ => {}
        }
    }

    /// Addresses of other devices in a selector that lie in the node's subnets.
    fn covered(
        &self,
        slot: Slot,
        state: &DeviceState,
        entry: &Destination,
        push: &mut impl FnMut(&Arc<str>),
    ) {
        let subnets = &state.standing.subnets;
        let mut slots: Vec<Slot> = subnets
            .iter()
            .filter(|subnet| range::in_tailnet(**subnet))
            .flat_map(|subnet| self.addresses.range(subnet.network()..=subnet.broadcast()))
            .map(|(_, slot)| *slot)
            .filter(|other| *other != slot)
            .collect();
        let joined = |slot: &Slot| {
            self.state(*slot)
                .map(|state| (state.device.joined, state.device.id))
        };
        slots.sort_by_key(joined);
        slots.dedup();
        for other in slots.into_iter().filter_map(|slot| self.state(slot)) {
            if other.standing.flags(entry.atom) & touch::OWN == 0 {
                continue;
            }
            for (address, text) in other.device.addresses.iter().zip(&other.strings) {
                if subnets.iter().any(|subnet| subnet.contains(address)) {
                    push(text);
                }
            }
        }
    }

    fn cap_grant(
        &self,
        state: &DeviceState,
        rule: &RawRule,
        entry: &Destination,
        capabilities: &Capabilities,
    ) -> Option<CapGrant> {
        // Through a router nothing but packets goes.
        if !rule.via.is_empty() {
            return None;
        }
        let flags = if rule.own_devices {
            touch::OWN
        } else {
            state.standing.flags(entry.atom)
        };
        let mut dsts: Vec<String> = Vec::new();
        match self.program.atom(entry.atom) {
            Some(Selector::Service(name)) if flags & touch::OWN != 0 => {
                let addresses = self
                    .services
                    .get(name)
                    .into_iter()
                    .flat_map(|list| list.iter());
                dsts.extend(addresses.map(|address| single(*address)));
            }
            selector => {
                for address in &state.device.addresses {
                    let family = if address.is_ipv4() {
                        touch::V4
                    } else {
                        touch::V6
                    };
                    if flags & family != 0 {
                        dsts.push(single(*address));
                    }
                }
                if let Some(Selector::Prefix(prefix)) = selector
                    && flags & touch::ROUTE != 0
                {
                    dsts.push(prefix.to_string());
                }
            }
        }
        if dsts.is_empty() {
            return None;
        }
        dsts.sort_unstable();
        dsts.dedup();
        let cap_map = self.with_recorders(rule, capabilities);
        Some(CapGrant { dsts, cap_map })
    }

    /// Names recorders by their addresses, as those who read the capability expect.
    fn with_recorders(&self, rule: &RawRule, capabilities: &Capabilities) -> Capabilities {
        if rule.recorders.is_empty() {
            return Arc::clone(capabilities);
        }
        let replace = |value: &Arc<str>| -> Arc<str> {
            let tags = recorder_tags(value);
            let parsed = serde_json::from_str::<serde_json::Value>(value);
            let Ok(serde_json::Value::Object(mut object)) = parsed else {
                return Arc::clone(value);
            };
            if tags.is_empty() {
                return Arc::clone(value);
            }
            let atoms = tags.into_iter().filter_map(|tag| {
                self.program
                    .index
                    .get(&Selector::Tag(tag_name(&tag)))
                    .copied()
            });
            let addresses = self.recorder_addresses(atoms);
            object.remove("recorder");
            object.insert("recorderAddrs".to_owned(), addresses.into());
            serde_json::Value::Object(object).to_string().into()
        };
        capabilities
            .iter()
            .map(|(name, values)| {
                let values = values.as_ref().map(|values| match &**name {
                    KUBERNETES => values.iter().map(replace).collect(),
                    _ => values.clone(),
                });
                (Arc::clone(name), values)
            })
            .collect()
    }
}

/// An address as prefix: `/32` or `/128`.
fn single(address: IpAddr) -> String {
    ipnet::IpNet::from(address).to_string()
}
