//! Which selectors and sources a device is in, and keeping the sets up to date.

use super::wire::hash;
use super::{Compiled, Touched, user_of};
use crate::budget::Budget;
use crate::program::{AtomId, Program, SourceDef, SourceId, touch};
use crate::range;
use crate::section::postures::Attributes;
use crate::selector::{Role, Selector};
use crate::set::{DeviceSet, Slot};
use crate::topology::{Device, DeviceId, Owner, is_exit_route};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// A device and where it stands.
#[derive(Debug, Clone)]
pub(super) struct DeviceState {
    pub(super) device: Arc<Device>,
    /// Its addresses as text, in the same order.
    pub(super) strings: Vec<Arc<str>>,
    /// Hashes of those texts.
    pub(super) hashes: Vec<u128>,
    pub(super) standing: Standing,
    pub(super) class: super::ClassId,
}

/// What decides everything that a policy says about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Selectors that the device touches, ascending, and how.
    pub(super) atoms: Arc<[(AtomId, u8)]>,
    /// Which postures hold. Shared-in devices pass all.
    pub(super) postures: Arc<[bool]>,
    /// Approved routes but the exit routes, sorted.
    pub(super) subnets: Arc<[IpNet]>,
    /// Approved exit node.
    pub(super) exit: bool,
    /// Other devices' addresses are inside the subnets.
    pub(super) covers: bool,
}

/// The devices and addresses of a rule's sources.
#[derive(Debug, Clone, Default)]
pub(super) struct SourceState {
    /// Devices that are listed with their addresses.
    pub(super) named: DeviceSet,
    /// Devices that are sources themselves.
    pub(super) own: DeviceSet,
    /// Those, and routers whose subnets are sources.
    pub(super) touch: DeviceSet,
    /// Sum of the hashes of the addresses of `named`.
    pub(super) sum: u128,
    /// Texts that do not come from devices, sorted, and the sum of their hashes.
    pub(super) fixed: Arc<[Arc<str>]>,
    pub(super) fixed_sum: u128,
    pub(super) wire: OnceLock<Arc<[Arc<str>]>>,
    pub(super) principals: OnceLock<Arc<[Arc<str>]>>,
    /// The devices that its rules let it reach.
    pub(super) reach: OnceLock<Arc<DeviceSet>>,
}

impl Standing {
    /// How the device touches a selector; 0 if not at all.
    pub(super) fn flags(&self, atom: AtomId) -> u8 {
        let found = self.atoms.binary_search_by_key(&atom, |(known, _)| *known);
        found
            .ok()
            .and_then(|at| self.atoms.get(at))
            .map_or(0, |(_, flags)| *flags)
    }

    /// Whether one of the postures holds.
    pub(super) fn passes(&self, postures: &[usize]) -> bool {
        let holds = |posture: &usize| self.postures.get(*posture).copied().unwrap_or(false);
        postures.is_empty() || postures.iter().any(holds)
    }
}

/// A device's part in a source.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) named: bool,
    pub(super) own: bool,
    pub(super) touch: bool,
}

impl Program {
    /// The part of a device that stands so in a source.
    pub(super) fn part(&self, def: &SourceDef, standing: &Standing) -> Part {
        let mut part = Part::default();
        for atom in &def.atoms {
            let flags = standing.flags(*atom);
            part.own |= flags & touch::OWN != 0;
            part.touch |= flags & touch::ROUTED != 0;
            if flags & touch::OWN != 0 && self.atom(*atom).is_some_and(is_identity) {
                part.named = true;
            }
        }
        // A posture narrows the devices one by one, so that each has to be listed. It does not
        // apply to what is behind subnet routers.
        if !def.postures.is_empty() {
            part.own &= standing.passes(&def.postures);
            part.named = part.own;
        }
        part.touch |= part.own;
        part
    }
}

/// Whether a selector stands for devices, and so for their addresses.
pub(super) const fn is_identity(selector: &Selector) -> bool {
    use crate::selector::Autogroup;
    match selector {
        Selector::User(_) | Selector::Domain(_) | Selector::Group(_) | Selector::Tag(_) => true,
        Selector::Auto(group) => matches!(
            group,
            Autogroup::Member | Autogroup::Tagged | Autogroup::Role(_) | Autogroup::Shared
        ),
        Selector::Everything | Selector::Prefix(_) | Selector::IpSet(_) | Selector::Service(_) => {
            false
        }
    }
}

impl Compiled {
    pub(super) fn put_device(&mut self, device: Device, touched: &mut Touched<'_>) {
        if touched.budget.elements(16, 0).is_err() || !touched.budget.allows_bytes(DEVICE) {
            return;
        }
        let slot = match self.slots.get(&device.id) {
            Some(slot) => *slot,
            None => match device.slot {
                Some(slot) => {
                    while self.devices.len() <= slot as usize {
                        self.devices.push_back(None);
                    }
                    slot
                }
                None => self.free.pop_back().unwrap_or_else(|| {
                    self.devices.push_back(None);
                    u32::try_from(self.devices.len() - 1).unwrap_or(u32::MAX)
                }),
            },
        };
        let old = self.state(slot).cloned();
        if old.as_ref().is_some_and(|old| *old.device == device) {
            return;
        }
        touched.gone.remove(&device.id);
        self.slots.insert(device.id, slot);
        let device = Arc::new(device);
        let old_device = old.as_deref().map(|old| Arc::clone(&old.device));
        self.index_device(slot, old_device.as_deref(), Some(&device), touched);
        self.place(slot, old, Some(Arc::clone(&device)), touched);
        self.index_routes(slot, old_device.as_deref(), Some(&device), touched);
        self.evaluate_coverers(slot, old_device.as_deref(), Some(&device), touched);
    }

    pub(super) fn remove_device(&mut self, id: DeviceId, touched: &mut Touched<'_>) {
        let Some(slot) = self.slots.remove(&id) else {
            return;
        };
        let old = self.state(slot).cloned();
        let old_device = old.as_deref().map(|old| Arc::clone(&old.device));
        self.index_device(slot, old_device.as_deref(), None, touched);
        self.place(slot, old, None, touched);
        self.index_routes(slot, old_device.as_deref(), None, touched);
        self.evaluate_coverers(slot, old_device.as_deref(), None, touched);
        if old_device.is_none_or(|device| device.slot.is_none()) {
            self.free.push_back(slot);
        }
        touched.gone.insert(id);
    }

    /// Evaluates a device that did not change itself.
    pub(super) fn evaluate_again(&mut self, slot: Slot, touched: &mut Touched<'_>) {
        let old = self.state(slot).cloned();
        let device = old.as_ref().map(|old| Arc::clone(&old.device));
        self.place(slot, old, device, touched);
    }

    /// Updates who owns what and which address is whose.
    fn index_device(
        &mut self,
        slot: Slot,
        old: Option<&Device>,
        new: Option<&Device>,
        touched: &mut Touched<'_>,
    ) {
        let owner = |device: Option<&Device>| device.and_then(|device| user_of(&device.owner));
        let (old_owner, new_owner) = (owner(old), owner(new));
        if let Some(user) = old_owner {
            let set = self.user_devices.entry(user).or_default();
            set.remove(slot);
            touched.users.insert(user);
        }
        if let Some(user) = new_owner {
            self.user_devices.entry(user).or_default().insert(slot);
            touched.users.insert(user);
        }
        for address in old.into_iter().flat_map(|device| &device.addresses) {
            if self.addresses.get(address) == Some(&slot) {
                self.addresses.remove(address);
            }
        }
        for address in new.into_iter().flat_map(|device| &device.addresses) {
            self.addresses.insert(*address, slot);
        }
    }

    /// Evaluates the routers in whose subnets a device's addresses are, if that can have changed.
    fn evaluate_coverers(
        &mut self,
        changed: Slot,
        old: Option<&Device>,
        new: Option<&Device>,
        touched: &mut Touched<'_>,
    ) {
        let same =
            |old: &Device, new: &Device| old.addresses == new.addresses && old.owner == new.owner;
        if old.zip(new).is_some_and(|(old, new)| same(old, new)) {
            return;
        }
        let both = old.into_iter().chain(new);
        let addresses: Vec<IpAddr> = both
            .flat_map(|device| device.addresses.iter().copied())
            .collect();
        self.evaluate_routers_of(changed, &addresses, touched);
    }

    /// Evaluates the routers in whose subnets these addresses are.
    pub(super) fn evaluate_routers_of(
        &mut self,
        changed: Slot,
        addresses: &[IpAddr],
        touched: &mut Touched<'_>,
    ) {
        let covering: Vec<IpNet> = self
            .tailnet_routes
            .iter()
            .filter(|route| addresses.iter().any(|address| route.contains(address)))
            .copied()
            .collect();
        for route in covering {
            self.refresh_route(route);
            touched.routes = true;
            let routers = self.routes.get(&route).map(|route| route.routers.clone());
            for router in routers.unwrap_or_default() {
                if router.slot != changed {
                    self.evaluate_again(router.slot, touched);
                }
            }
        }
    }

    /// Replaces a device's record, and moves it between sets and classes accordingly.
    fn place(
        &mut self,
        slot: Slot,
        old: Option<Arc<DeviceState>>,
        device: Option<Arc<Device>>,
        touched: &mut Touched<'_>,
    ) {
        let old_standing = old.as_deref().map(|old| old.standing.clone());
        let strings: Vec<Arc<str>> = device.as_deref().map_or_else(Vec::new, |device| {
            device
                .addresses
                .iter()
                .map(|address| Arc::from(address.to_string()))
                .collect()
        });
        let standing = device
            .as_deref()
            .map(|device| self.stand(slot, device, touched.budget));
        let readdressed = old.as_deref().is_some_and(|old| old.strings != strings);
        let old_device = old.as_deref().map(|old| Arc::clone(&old.device));
        let same = standing == old_standing;
        if readdressed && let Some(standing) = &standing {
            // Whoever is told addresses of devices with these selectors is told others.
            touched
                .atoms
                .extend(standing.atoms.iter().map(|(atom, _)| *atom));
        }
        if (readdressed || !same)
            && let Some(user) = device.as_deref().and_then(|device| user_of(&device.owner))
        {
            touched.users.insert(user);
        }
        touched.devices.insert(slot);
        if !same {
            self.move_between_atoms(slot, old_standing.as_ref(), standing.as_ref(), touched);
        }
        let old_class = old.as_deref().map(|old| old.class);
        let key = match (&standing, &device) {
            (Some(standing), Some(device)) => Some(self.class_key(slot, device, standing)),
            _ => None,
        };
        let class = self.move_between_classes(slot, old_class, key, touched.budget);
        let state = standing.zip(device).map(|(standing, device)| {
            let hashes = strings.iter().map(|text| hash(text)).collect();
            Arc::new(DeviceState {
                device,
                strings,
                hashes,
                standing,
                class,
            })
        });
        let changes = DeviceChange {
            slot,
            old: old.as_deref(),
            new: state.as_deref(),
            everything: !same || readdressed || old_device.is_none() || state.is_none(),
        };
        self.move_between_sources(&changes, touched);
        if let Some(place) = self.devices.get_mut(slot as usize) {
            *place = state;
        }
    }

    fn move_between_atoms(
        &mut self,
        slot: Slot,
        old: Option<&Standing>,
        new: Option<&Standing>,
        touched: &mut Touched<'_>,
    ) {
        let mut flags: BTreeMap<AtomId, (u8, u8)> = BTreeMap::new();
        for (atom, bits) in old.into_iter().flat_map(|old| old.atoms.iter()) {
            flags.entry(*atom).or_default().0 = *bits;
        }
        for (atom, bits) in new.into_iter().flat_map(|new| new.atoms.iter()) {
            flags.entry(*atom).or_default().1 = *bits;
        }
        for (atom, (old, new)) in flags {
            if old == new {
                continue;
            }
            let Some(state) = self.atoms.get_mut(atom as usize).map(Arc::make_mut) else {
                continue;
            };
            let moved = state.touch.set(slot, new != 0);
            if state.routed.set(slot, new & touch::ROUTED != 0) || moved {
                touched.atoms.insert(atom);
            }
        }
    }

    fn move_between_sources(&mut self, changes: &DeviceChange<'_>, touched: &mut Touched<'_>) {
        if !changes.everything {
            return;
        }
        let program = Arc::clone(&self.program);
        let standings = [changes.old, changes.new];
        let atoms = standings
            .iter()
            .flatten()
            .flat_map(|state| state.standing.atoms.iter());
        let mut sources: Vec<SourceId> = atoms
            .filter_map(|(atom, _)| program.sources_of_atom.get(*atom as usize))
            .flatten()
            .copied()
            .collect();
        sources.sort_unstable();
        sources.dedup();
        for id in sources {
            let Some(def) = program.source(id) else {
                continue;
            };
            let Some(literals) = program.literals.get(id as usize) else {
                continue;
            };
            // Each selector is looked up in where the device stands, before and after.
            if touched
                .budget
                .elements(2 + def.atoms.len().saturating_mul(2), 0)
                .is_err()
            {
                break;
            }
            let part = |state: Option<&DeviceState>| {
                state
                    .map(|state| program.part(def, &state.standing))
                    .unwrap_or_default()
            };
            let sum = |state: Option<&DeviceState>, part: Part| {
                let Some(state) = state.filter(|_| part.named) else {
                    return 0u128;
                };
                let pairs = state.device.addresses.iter().zip(&state.hashes);
                pairs
                    .filter(|(address, _)| !literals.contains(address))
                    .fold(0u128, |sum, (_, hash)| sum.wrapping_add(*hash))
            };
            let (old, new) = (part(changes.old), part(changes.new));
            let (old_sum, new_sum) = (sum(changes.old, old), sum(changes.new, new));
            let retagged = new.named && tag_count(changes.old) != tag_count(changes.new);
            if old == new && old_sum == new_sum && !retagged {
                continue;
            }
            let Some(state) = self.sources.get_mut(id as usize).map(Arc::make_mut) else {
                continue;
            };
            let _ = touched.budget.bytes(MEMBERSHIP);
            let slot = changes.slot;
            let listed = state.named.set(slot, new.named);
            state.own.set(slot, new.own);
            if state.touch.set(slot, new.touch) || old.own != new.own {
                touched.sources.insert(id);
            }
            if listed || old_sum != new_sum || retagged {
                state.sum = state.sum.wrapping_sub(old_sum).wrapping_add(new_sum);
                let texts = |state: Option<&'_ DeviceState>, part: Part| {
                    state
                        .filter(|_| part.named)
                        .map(|state| state.strings.clone())
                };
                let removed = texts(changes.old, old).unwrap_or_default();
                let added = texts(changes.new, new).unwrap_or_default();
                let foreign = changes.old.is_some_and(|old| {
                    old.device.addresses.iter().any(|address| {
                        self.addresses
                            .get(address)
                            .is_some_and(|owner| *owner != slot)
                    })
                });
                let patches = touched.patches.entry(id).or_default();
                *patches += 1;
                // A long list is patched rather than sorted again, unless much of it changes.
                let patched = match state.wire.get() {
                    Some(wire) if *patches <= PATCHES && !foreign => {
                        Some(super::wire::patch(wire, &state.fixed, &removed, &added))
                    }
                    _ => None,
                };
                state.wire = patched.map_or_else(OnceLock::new, OnceLock::from);
                state.principals = OnceLock::new();
                touched.wires.insert(id);
            }
        }
    }

    /// Evaluates everything that a policy can ask of a device.
    fn stand(&self, slot: Slot, device: &Device, budget: &Budget) -> Standing {
        let mut atoms = Vec::new();
        self.identity_atoms(&device.owner, &mut atoms);
        let matchers = &self.program.matchers;
        atoms.extend(matchers.everything.iter().map(|atom| (*atom, touch::OWN)));
        for address in &device.addresses {
            self.address_atoms(*address, &mut atoms);
        }
        for service in &device.services {
            atoms.extend(
                matchers
                    .services
                    .get(service)
                    .map(|atom| (*atom, touch::OWN)),
            );
        }
        let mut subnets: Vec<IpNet> = device
            .routes
            .iter()
            .copied()
            .filter(|route| !is_exit_route(*route))
            .collect();
        subnets.sort_unstable();
        subnets.dedup();
        let mut covers = false;
        for subnet in &subnets {
            covers |= self.route_atoms(*subnet, Some(slot), &mut atoms);
            if !budget.allows(4) {
                break;
            }
        }
        let exit = device.routes.iter().any(|route| is_exit_route(*route));
        if exit {
            atoms.extend(matchers.internet.map(|atom| (atom, touch::EXIT)));
        }
        // Sorted here, and gone through by whatever follows.
        let _ = budget.elements(atoms.len().saturating_mul(4), 0);
        let _ = budget.bytes(atoms.len().saturating_mul(size_of::<(AtomId, u8)>()));
        // Some nanoseconds for each posture, and as much again for each value in its lists.
        let _ = budget.elements(self.program.posture_steps, 0);
        let _ = budget.bytes(2 * self.program.postures.len());
        atoms.sort_unstable();
        let mut merged: Vec<(AtomId, u8)> = Vec::with_capacity(atoms.len());
        for (atom, flags) in atoms {
            match merged.last_mut() {
                Some((last, all)) if *last == atom => *all |= flags,
                _ => merged.push((atom, flags)),
            }
        }
        Standing {
            atoms: merged.into(),
            postures: self.postures_of(&device.owner, &device.attributes),
            subnets: subnets.into(),
            exit,
            covers,
        }
    }

    pub(super) fn postures_of(&self, owner: &Owner, attributes: &Attributes) -> Arc<[bool]> {
        let shared = user_of(owner)
            .and_then(|id| self.users.get(&id))
            .is_some_and(|user| user.role == Role::Shared);
        let postures = self.program.postures.iter();
        postures
            .map(|(_, posture)| shared || posture.failure(attributes).is_none())
            .collect()
    }

    /// The selectors of an owner.
    pub(super) fn identity_atoms(&self, owner: &Owner, atoms: &mut Vec<(AtomId, u8)>) {
        let matchers = &self.program.matchers;
        match owner {
            Owner::Tags(tags) => {
                atoms.extend(matchers.tagged.map(|atom| (atom, touch::OWN)));
                let tags = tags.iter().filter_map(|tag| matchers.tags.get(tag));
                atoms.extend(tags.map(|atom| (*atom, touch::OWN)));
            }
            Owner::User(id) => {
                if let Some(user) = self.users.get(id) {
                    self.user_atoms(&user.login, user.role, atoms);
                }
            }
        }
    }

    pub(super) fn user_atoms(&self, login: &str, role: Role, atoms: &mut Vec<(AtomId, u8)>) {
        let matchers = &self.program.matchers;
        let login = login.to_lowercase();
        let named = matchers.logins.get(&login).into_iter().flatten();
        atoms.extend(named.map(|atom| (*atom, touch::OWN)));
        // Whichever are fewer: those that the directory has, or those that the policy names.
        let groups = &matchers.directory_groups;
        if self.groups.len() < groups.len() {
            let mine = self.groups.iter();
            let mine = mine.filter(|(_, members)| members.contains(&login));
            let named = mine.filter_map(|(name, _)| groups.get(name));
            atoms.extend(named.map(|atom| (*atom, touch::OWN)));
        } else {
            for (name, atom) in groups {
                let members = self.groups.get(name);
                if members.is_some_and(|members| members.contains(&login)) {
                    atoms.push((*atom, touch::OWN));
                }
            }
        }
        if role == Role::Shared {
            atoms.extend(matchers.shared.map(|atom| (atom, touch::OWN)));
            return;
        }
        let domain = login.rsplit_once('@').map_or("", |(_, domain)| domain);
        atoms.extend(matchers.domains.get(domain).map(|atom| (*atom, touch::OWN)));
        atoms.extend(matchers.member.map(|atom| (atom, touch::OWN)));
        let roles = matchers
            .roles
            .iter()
            .filter(|(wanted, _)| wanted.includes(role));
        atoms.extend(roles.map(|(_, atom)| (*atom, touch::OWN)));
    }

    /// The addresses and prefixes that an address is in.
    pub(super) fn address_atoms(&self, address: IpAddr, atoms: &mut Vec<(AtomId, u8)>) {
        let matchers = &self.program.matchers;
        let flag = if address.is_ipv4() {
            touch::V4
        } else {
            touch::V6
        };
        atoms.extend(matchers.addresses.get(&address).map(|atom| (*atom, flag)));
        let wider = matchers.prefixes.around(IpNet::from(address));
        atoms.extend(wider.map(|atom| (atom, flag)));
    }

    /// The selectors that a subnet route overlaps. Whether devices other than `router` are in it.
    pub(super) fn route_atoms(
        &self,
        route: IpNet,
        router: Option<Slot>,
        atoms: &mut Vec<(AtomId, u8)>,
    ) -> bool {
        let matchers = &self.program.matchers;
        atoms.extend(matchers.everything.iter().map(|atom| (*atom, touch::ROUTE)));
        let prefixes = matchers.prefixes.overlapping(route);
        atoms.extend(prefixes.map(|atom| (atom, touch::ROUTE)));
        let inside = matchers
            .addresses
            .range(route.network()..=route.broadcast());
        atoms.extend(inside.map(|(_, atom)| (*atom, touch::ROUTE)));
        if let Some(internet) = matchers.internet
            && range::internet().overlaps(route)
        {
            atoms.push((internet, touch::ROUTE));
        }
        if !range::in_tailnet(route) {
            return false;
        }
        let mut covers = false;
        for (_, slot) in self.addresses.range(route.network()..=route.broadcast()) {
            if Some(*slot) == router {
                continue;
            }
            let Some(state) = self.state(*slot) else {
                continue;
            };
            covers = true;
            let mut identity = Vec::new();
            self.identity_atoms(&state.device.owner, &mut identity);
            atoms.extend(identity.into_iter().map(|(atom, _)| (atom, touch::ROUTE)));
        }
        covers
    }
}

/// Estimated memory of a device, and of a device in one source with its addresses in the source's
/// list, in bytes.
const DEVICE: usize = 1200;
const MEMBERSHIP: usize = 24;

/// After so many changes at once, a source's texts are collected anew.
const PATCHES: u32 = 8;

/// How many tags a device has; SSH policies name it as often.
fn tag_count(state: Option<&DeviceState>) -> usize {
    match state.map(|state| &state.device.owner) {
        Some(Owner::Tags(tags)) => tags.len(),
        _ => 0,
    }
}

/// A device before and after a change.
struct DeviceChange<'a> {
    slot: Slot,
    old: Option<&'a DeviceState>,
    new: Option<&'a DeviceState>,
    /// Something that sources depend on is different.
    everything: bool,
}
