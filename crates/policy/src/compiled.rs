//! A policy applied to a tailnet.
//!
//! Selectors are sets of devices, rules refer to selectors, and devices that stand in the same
//! sets form a class. When something about a device changes, its memberships are evaluated again
//! and the sets and classes that are touched by the difference change; nothing else does.

mod access;
mod attributes;
mod class;
mod diff;
mod explain;
mod filter;
mod membership;
mod preview;
mod route;
mod show;
mod ssh;
mod tags;
mod verify;
mod warnings;
mod wire;

pub use attributes::CapabilityMap;
pub use class::ClassId;
pub use diff::{
    AccessChange, AttributeChange, Connection, Described, Diff, Direction, RouteChange, SshChange,
};
pub use explain::{
    End, Explanation, FailedPosture, Named, Pair, Question, Reason, Unanswered, Verdict,
};
pub use filter::{CapGrant, DstPorts, FilterRule};
pub use preview::{Match, PreviewTarget};
pub use ssh::{SshAction, SshDecision, SshPolicyRule};
pub use tags::TagAssigner;

use crate::budget::{Budget, Exhausted};
use crate::policy::Policy;
use crate::program::{AtomId, Program, RuleId, SourceId};
use crate::set::{DeviceSet, Slot};
use crate::topology::{Device, DeviceId, Owner, Topology, TopologyChange, User, UserId};
use class::{Class, ClassKey};
use imbl::{HashMap, OrdMap, Vector};
use ipnet::IpNet;
use membership::{DeviceState, SourceState};
use route::RouteState;
use std::collections::{BTreeSet, HashMap as StdHashMap};
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

/// A policy applied to a tailnet. Copies are cheap and share what is the same, so that a new
/// snapshot is a copy with changes applied.
#[derive(Debug, Clone)]
pub struct Compiled {
    pub(crate) policy: Arc<Policy>,
    pub(crate) program: Arc<Program>,
    users: HashMap<UserId, Arc<User>>,
    logins: HashMap<String, UserId>,
    user_devices: HashMap<UserId, DeviceSet>,
    groups: HashMap<String, Arc<BTreeSet<String>>>,
    services: HashMap<String, Arc<[IpAddr]>>,
    https_enabled: bool,
    slots: HashMap<DeviceId, Slot>,
    devices: Vector<Option<Arc<DeviceState>>>,
    free: Vector<Slot>,
    addresses: OrdMap<IpAddr, Slot>,
    atoms: Vec<Arc<AtomState>>,
    sources: Vec<Arc<SourceState>>,
    /// Approved subnet routes.
    routes: OrdMap<IpNet, Arc<RouteState>>,
    /// Those among them that overlap the addresses of tailnets.
    tailnet_routes: imbl::OrdSet<IpNet>,
    leaders: Arc<Leaders>,
    /// What each user's own devices look like as sources of `autogroup:self` rules.
    own_prints: HashMap<UserId, Arc<BTreeSet<u128>>>,
    users_by_print: HashMap<u128, imbl::OrdSet<UserId>>,
    classes: OrdMap<ClassId, Arc<Class>>,
    class_index: HashMap<Arc<ClassKey>, ClassId>,
    next_class: ClassId,
}

/// Who touches a selector.
#[derive(Debug, Clone, Default)]
struct AtomState {
    /// Devices in the selector, and routers whose subnets overlap it.
    touch: DeviceSet,
    /// Those that have what it names behind them.
    routed: DeviceSet,
    /// Who reaches it by rules without `via`.
    reaching: OnceLock<Arc<DeviceSet>>,
}

/// Which raw rules are sent as one: those with the same sources and protocol.
#[derive(Debug, Default)]
struct Leaders {
    /// The first rule of each rule's group.
    by_rule: Vec<RuleId>,
    /// The first rule of each kind of group.
    by_key: StdHashMap<(u128, Option<u8>), RuleId>,
}

/// What a change may have touched. A class that is not named is as it was; one that is named may
/// be too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Impact {
    /// Devices that changed themselves: class, addresses, capabilities, routes.
    pub devices: BTreeSet<DeviceId>,
    /// Classes whose visible devices may have changed.
    pub visibility: BTreeSet<ClassId>,
    /// Classes whose packet filters may have changed.
    pub filters: BTreeSet<ClassId>,
    /// Routers or exit nodes changed, so that routes in peers' views may have.
    pub routes: bool,
    /// Devices whose SSH policy may have changed.
    pub ssh: BTreeSet<DeviceId>,
}

/// What was touched while changes are applied.
#[derive(Debug)]
struct Touched<'a> {
    /// What applying them may take. Where it does not suffice the sets are not whole.
    budget: &'a Budget,
    devices: BTreeSet<Slot>,
    atoms: BTreeSet<AtomId>,
    /// Sources whose devices changed.
    sources: BTreeSet<SourceId>,
    /// Sources whose addresses changed.
    wires: BTreeSet<SourceId>,
    /// How often the texts of a source were patched.
    patches: StdHashMap<SourceId, u32>,
    /// Users whose set of devices changed, or the addresses of one of them.
    users: BTreeSet<UserId>,
    /// Services whose addresses changed.
    services: bool,
    routes: bool,
    /// There are other subnet routes than before.
    subnets: bool,
    gone: BTreeSet<DeviceId>,
}

impl<'a> Touched<'a> {
    fn new(budget: &'a Budget) -> Self {
        Self {
            budget,
            devices: BTreeSet::new(),
            atoms: BTreeSet::new(),
            sources: BTreeSet::new(),
            wires: BTreeSet::new(),
            patches: StdHashMap::new(),
            users: BTreeSet::new(),
            services: false,
            routes: false,
            subnets: false,
            gone: BTreeSet::new(),
        }
    }
}

impl Compiled {
    /// Applies a policy to a tailnet.
    ///
    /// Takes whatever it takes: for policies that were accepted within a budget.
    pub fn new(policy: Arc<Policy>, topology: &Topology) -> Self {
        Self::build(policy, topology, &Budget::unlimited(), None)
    }

    /// Applies a policy to a tailnet within a budget.
    ///
    /// # Errors
    /// The budget does not suffice.
    pub fn new_within(
        policy: Arc<Policy>,
        topology: &Topology,
        budget: &Budget,
    ) -> Result<Self, Exhausted> {
        let compiled = Self::build(policy, topology, budget, None);
        budget.check().map(|()| compiled)
    }

    /// Where the budget does not suffice, what is made is not whole. With another state, devices
    /// have the same indexes as there.
    fn build(
        policy: Arc<Policy>,
        topology: &Topology,
        budget: &Budget,
        like: Option<&Self>,
    ) -> Self {
        let program = Arc::new(Program::new(&policy, budget));
        let mut compiled = Self {
            users: HashMap::new(),
            logins: HashMap::new(),
            user_devices: HashMap::new(),
            groups: HashMap::new(),
            services: HashMap::new(),
            https_enabled: topology.https_enabled,
            slots: like.map(|like| like.slots.clone()).unwrap_or_default(),
            devices: like
                .map(|like| like.devices.iter().map(|_| None).collect())
                .unwrap_or_default(),
            free: like.map(|like| like.free.clone()).unwrap_or_default(),
            addresses: OrdMap::new(),
            atoms: program.atoms.iter().map(|_| Arc::default()).collect(),
            sources: program.sources.iter().map(|_| Arc::default()).collect(),
            routes: OrdMap::new(),
            tailnet_routes: imbl::OrdSet::new(),
            leaders: Arc::default(),
            own_prints: HashMap::new(),
            users_by_print: HashMap::new(),
            classes: OrdMap::new(),
            class_index: HashMap::new(),
            next_class: 0,
            policy,
            program,
        };
        compiled.refresh_fixed_wires(budget);
        let mut touched = Touched::new(budget);
        for user in &topology.users {
            compiled.put_user(user.clone(), &mut touched);
        }
        for (name, members) in &topology.groups {
            compiled.put_group(name, members, &mut touched);
        }
        for (name, addresses) in &topology.services {
            compiled.put_service(name, addresses, &mut touched);
        }
        for device in &topology.devices {
            compiled.put_device(device.clone(), &mut touched);
        }
        // Nobody has seen anything of this state: there is no impact to find out.
        compiled.refresh_subnets(&mut touched);
        compiled.refresh_prints(&touched);
        compiled.elect_leaders(budget);
        compiled
    }

    /// Applies a change, and says what it may have touched.
    pub fn apply(&mut self, change: TopologyChange) -> Impact {
        self.apply_all([change])
    }

    /// Applies several changes as one.
    pub fn apply_all(&mut self, changes: impl IntoIterator<Item = TopologyChange>) -> Impact {
        let budget = Budget::unlimited();
        let mut touched = Touched::new(&budget);
        for change in changes {
            match change {
                TopologyChange::Device(device) => self.put_device(*device, &mut touched),
                TopologyChange::DeviceGone(id) => self.remove_device(id, &mut touched),
                TopologyChange::User(user) => self.put_user(user, &mut touched),
                TopologyChange::UserGone(id) => self.remove_user(id, &mut touched),
                TopologyChange::Group { name, members } => {
                    self.put_group(&name, &members, &mut touched);
                }
                TopologyChange::Service { name, addresses } => {
                    self.put_service(&name, &addresses, &mut touched);
                }
                TopologyChange::Https(enabled) => {
                    self.https_enabled = enabled;
                    touched.devices.extend(self.slots.values().copied());
                }
            }
        }
        self.update_derived(&mut touched)
    }

    /// The policy.
    pub const fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// A device as the policy knows it.
    pub fn device(&self, id: DeviceId) -> Option<&Device> {
        self.state_of(id).map(|(_, state)| &*state.device)
    }

    /// All devices, in no particular order.
    pub fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().flatten().map(|state| &*state.device)
    }

    /// The devices of a set, in no particular order.
    pub fn ids<'a>(&'a self, set: &'a DeviceSet) -> impl Iterator<Item = DeviceId> + 'a {
        set.iter()
            .filter_map(|slot| self.state(slot))
            .map(|state| state.device.id)
    }

    fn state(&self, slot: Slot) -> Option<&Arc<DeviceState>> {
        self.devices.get(slot as usize).and_then(Option::as_ref)
    }

    fn state_of(&self, id: DeviceId) -> Option<(Slot, &Arc<DeviceState>)> {
        let slot = *self.slots.get(&id)?;
        self.state(slot).map(|state| (slot, state))
    }

    fn atom_state(&self, atom: AtomId) -> Option<&AtomState> {
        self.atoms.get(atom as usize).map(|state| &**state)
    }

    fn source_state(&self, source: SourceId) -> Option<&SourceState> {
        self.sources.get(source as usize).map(|state| &**state)
    }

    /// A user's untagged devices.
    fn devices_of(&self, user: UserId) -> Option<&DeviceSet> {
        self.user_devices.get(&user)
    }

    fn user_of_login(&self, login: &str) -> Option<&Arc<User>> {
        self.users.get(self.logins.get(&login.to_lowercase())?)
    }

    fn put_user(&mut self, user: User, touched: &mut Touched<'_>) {
        let old = self.users.get(&user.id).cloned();
        if old.as_deref() == Some(&user) {
            return;
        }
        if let Some(old) = old {
            self.logins.remove(&old.login.to_lowercase());
        }
        let id = user.id;
        self.logins.insert(user.login.to_lowercase(), id);
        self.users.insert(id, Arc::new(user));
        self.evaluate_devices_of(id, touched);
    }

    fn remove_user(&mut self, id: UserId, touched: &mut Touched<'_>) {
        if let Some(old) = self.users.remove(&id) {
            self.logins.remove(&old.login.to_lowercase());
            self.evaluate_devices_of(id, touched);
        }
    }

    fn evaluate_devices_of(&mut self, id: UserId, touched: &mut Touched<'_>) {
        let slots: Vec<Slot> = self
            .devices_of(id)
            .map(|set| set.iter().collect())
            .unwrap_or_default();
        for slot in slots {
            self.evaluate_again(slot, touched);
            let device = self.state(slot).map(|state| Arc::clone(&state.device));
            if let Some(device) = device {
                self.evaluate_routers_of(slot, &device.addresses, touched);
            }
        }
        touched.users.insert(id);
    }

    fn put_group(&mut self, name: &str, members: &[String], touched: &mut Touched<'_>) {
        let new: BTreeSet<String> = members.iter().map(|login| login.to_lowercase()).collect();
        let old = self.groups.get(name).cloned().unwrap_or_default();
        if new.is_empty() {
            self.groups.remove(name);
        } else {
            self.groups.insert(name.to_owned(), Arc::new(new.clone()));
        }
        if !self.program.matchers.directory_groups.contains_key(name) {
            return;
        }
        for login in new.symmetric_difference(&old) {
            if let Some(user) = self.logins.get(login).copied() {
                self.evaluate_devices_of(user, touched);
            }
        }
    }

    fn put_service(&mut self, name: &str, addresses: &[IpAddr], touched: &mut Touched<'_>) {
        if addresses.is_empty() {
            self.services.remove(name);
        } else {
            self.services.insert(name.to_owned(), addresses.into());
        }
        if let Some(atom) = self.program.matchers.services.get(name) {
            touched.atoms.insert(*atom);
            touched.services = true;
            let sources = self.program.sources_of_atom.get(*atom as usize);
            for source in sources.cloned().unwrap_or_default() {
                self.refresh_fixed_wire(source, touched.budget);
                touched.wires.insert(source);
            }
        }
    }

    /// Brings what is derived up to date after the sets have changed.
    fn update_derived(&mut self, touched: &mut Touched<'_>) -> Impact {
        self.refresh_subnets(touched);
        self.refresh_prints(touched);
        let moved = if touched.wires.is_empty() && !self.leaders.by_rule.is_empty() {
            (BTreeSet::new(), BTreeSet::new())
        } else {
            self.elect_leaders(touched.budget)
        };
        self.impact(touched, &moved.0, &moved.1)
    }

    /// Groups the rules by sources and protocol. Returns the rules whose place changed, and the
    /// kinds of groups that did.
    fn elect_leaders(
        &mut self,
        budget: &Budget,
    ) -> (BTreeSet<RuleId>, BTreeSet<(u128, Option<u8>)>) {
        let mut leaders = Leaders::default();
        // The tables here, and those of what moved.
        if budget.elements(self.program.rules.len(), 120).is_err() {
            return (BTreeSet::new(), BTreeSet::new());
        }
        leaders.by_rule.reserve(self.program.rules.len());
        for (rule, id) in self.program.rules.iter().zip(0..) {
            let leader = match (&rule.allows, rule.is_local()) {
                (crate::program::Allows::Ports(protocol), false) => {
                    let key = (self.fingerprint(rule.source), *protocol);
                    *leaders.by_key.entry(key).or_insert(id)
                }
                _ => id,
            };
            leaders.by_rule.push(leader);
        }
        let old = std::mem::replace(&mut self.leaders, Arc::new(leaders));
        let new = &self.leaders;
        let pairs = new
            .by_rule
            .iter()
            .zip(old.by_rule.iter().map(Some).chain(std::iter::repeat(None)));
        let moved = pairs.zip(0..).filter(|((new, old), _)| Some(*new) != *old);
        let moved = moved.map(|(_, rule)| rule).collect();
        let differs = |mine: &Leaders, theirs: &Leaders| -> Vec<(u128, Option<u8>)> {
            let pairs = mine.by_key.iter();
            pairs
                .filter(|(key, rule)| theirs.by_key.get(*key) != Some(*rule))
                .map(|(key, _)| *key)
                .collect()
        };
        let mut keys: BTreeSet<_> = differs(new, &old).into_iter().collect();
        keys.extend(differs(&old, new));
        (moved, keys)
    }
}

/// The owner, if it is a user.
const fn user_of(owner: &Owner) -> Option<UserId> {
    match owner {
        Owner::User(id) => Some(*id),
        Owner::Tags(_) => None,
    }
}
