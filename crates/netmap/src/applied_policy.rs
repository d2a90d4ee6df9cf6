//! What the policy makes of a tailnet, kept up to date with its snapshot.
//!
//! A snapshot's containers change at once; what the policy says of it is brought up to date when
//! somebody asks, for all changes since the last time together. So a batch of joins is one change
//! of the policy's sets.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bowline_model::device::AttributeValue;
use bowline_model::id::{DeviceId, UserId};
use bowline_model::policy_file::PolicyFile;
use bowline_model::user::{Role, User};
use bowline_policy::{
    self as policy, Budget, ClassId, Compiled, DEFAULT_POLICY, DeviceSet, Limits, Policy, RelayMap,
    RelayNode, RelayRegion, Topology, TopologyChange,
};
use bowline_wire::derp_map::{DerpMap, Region, Relay};
use imbl::{HashMap, OrdSet};

use crate::chunk::{Entry, SIZE};
use crate::devices::Devices;
use crate::filter_names::FilterNames;
use crate::users::Users;
use crate::variant::Variant;

/// From so many devices on that changed at once, an empty net is better built than changed.
const MANY: usize = 64;

/// What is to be looked at again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    pub(crate) devices: OrdSet<DeviceId>,
    pub(crate) users: OrdSet<UserId>,
    pub(crate) policy: Option<PolicyRead>,
}

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.devices.is_empty() && self.users.is_empty() && self.policy.is_none()
    }
}

/// What of a tailnet the policy looks at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) users: &'a Users,
    pub(crate) devices: &'a Devices,
    /// The server's relays.
    pub(crate) relays: &'a Arc<DerpMap>,
}

/// How a viewer sees others: the same for all viewers of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Perspective {
    pub(crate) class: ClassId,
    /// IPv4 addresses are hidden from it.
    pub(crate) without_ipv4: bool,
}

/// A policy applied to a snapshot. The numbers say at which change something was touched last, for
/// comparing two states of one lineage; in another lineage all may differ.
#[derive(Debug)]
pub(crate) struct AppliedPolicy {
    net: Compiled,
    /// Why the policy file is not in force, and nothing is allowed.
    fault: Option<Arc<str>>,
    lineage: Arc<()>,
    number: u64,
    filters: HashMap<ClassId, u64>,
    devices: HashMap<DeviceId, u64>,
    ssh: HashMap<DeviceId, u64>,
    routes: u64,
    names: Arc<FilterNames>,
    derp_map: Arc<DerpMap>,
    /// Devices whose IPv4 address is hidden.
    without_ipv4: OrdSet<DeviceId>,
    /// Devices with approved routes.
    routers: OrdSet<DeviceId>,
    visible: Mutex<HashMap<ClassId, Arc<DeviceSet>>>,
    special: Mutex<HashMap<ClassId, Arc<Special>>>,
}

/// Peers that a class of viewers is shown in another way than most, by slot.
pub(crate) type Special = BTreeMap<usize, Variant>;

impl Clone for AppliedPolicy {
    fn clone(&self) -> Self {
        let visible = self.visible.lock().map(|known| known.clone());
        let special = self.special.lock().map(|known| known.clone());
        Self {
            net: self.net.clone(),
            fault: self.fault.clone(),
            lineage: self.lineage.clone(),
            number: self.number,
            filters: self.filters.clone(),
            devices: self.devices.clone(),
            ssh: self.ssh.clone(),
            routes: self.routes,
            names: self.names.clone(),
            derp_map: self.derp_map.clone(),
            without_ipv4: self.without_ipv4.clone(),
            routers: self.routers.clone(),
            visible: Mutex::new(visible.unwrap_or_default()),
            special: Mutex::new(special.unwrap_or_default()),
        }
    }
}

/// A policy file as it was read.
#[derive(Debug, Clone)]
pub(crate) struct PolicyRead {
    pub(crate) policy: Arc<Policy>,
    /// Why the file itself is not in force.
    pub(crate) fault: Option<Arc<str>>,
}

/// Reads the text of a policy file record. One that cannot be read (a newer version's, say) allows
/// nothing.
pub(crate) fn parse(file: &PolicyFile) -> PolicyRead {
    let text = file.text.as_deref().unwrap_or(DEFAULT_POLICY);
    match Policy::parse_within(text, &Budget::new(Limits::ACCEPTED)) {
        Ok(policy) => PolicyRead {
            policy: Arc::new(policy),
            fault: None,
        },
        Err(errors) => PolicyRead {
            policy: closed(),
            fault: Some(match errors.first() {
                Some(error) => Arc::from(error.message.as_str()),
                None => Arc::from("it cannot be read"),
            }),
        },
    }
}

/// Applies a policy. One that takes more than any policy may allows nothing: it would hold up
/// everything else that the tailnet does, and a part of its rules could allow what others narrow.
fn compile(policy: &Arc<Policy>, topology: &Topology) -> (Compiled, Option<Arc<str>>) {
    let budget = Budget::new(Limits::ACCEPTED);
    match Compiled::new_within(policy.clone(), topology, &budget) {
        Ok(net) => (net, None),
        Err(exhausted) => (
            Compiled::new(closed(), topology),
            Some(Arc::from(exhausted.to_string())),
        ),
    }
}

/// The policy that allows nothing.
fn closed() -> Arc<Policy> {
    match Policy::parse(r#"{"acls": []}"#) {
        Ok(policy) => Arc::new(policy),
        Err(_) => unreachable!("the policy that allows nothing is a policy"),
    }
}

impl AppliedPolicy {
    /// A policy on an empty tailnet.
    pub(crate) fn new(read: PolicyRead, relays: &Arc<DerpMap>) -> Self {
        let (net, fault) = compile(&read.policy, &Topology::default());
        let mut applied = Self {
            names: Arc::new(FilterNames::default().follow(net.rule_prints())),
            net,
            fault: read.fault.or(fault),
            lineage: Arc::default(),
            number: 0,
            filters: HashMap::new(),
            devices: HashMap::new(),
            ssh: HashMap::new(),
            routes: 0,
            derp_map: relays.clone(),
            without_ipv4: OrdSet::new(),
            routers: OrdSet::new(),
            visible: Mutex::default(),
            special: Mutex::default(),
        };
        applied.combine_relays(relays);
        applied
    }

    /// The state after what is pending.
    pub(crate) fn advanced(&self, tailnet: Subject<'_>, pending: &Pending) -> Self {
        let mut next = self.clone();
        next.number += 1;
        let is_fresh = self.net.devices().next().is_none() && pending.devices.len() >= MANY;
        if pending.policy.is_some() || is_fresh {
            if let Some(read) = &pending.policy {
                next.fault.clone_from(&read.fault);
            }
            let policy = pending.policy.as_ref().map(|read| &read.policy);
            next.rebuild(policy.unwrap_or(self.net.policy()), tailnet);
        } else {
            next.apply(tailnet, pending);
        }
        if pending.policy.is_some() {
            next.combine_relays(tailnet.relays);
        }
        next
    }

    fn rebuild(&mut self, policy: &Arc<Policy>, tailnet: Subject<'_>) {
        let topology = Topology {
            users: tailnet
                .users
                .iter()
                .map(|user| topology_user(user))
                .collect(),
            devices: tailnet
                .devices
                .iter()
                .filter_map(|entry| topology_device(entry, tailnet.devices))
                .collect(),
            ..Topology::default()
        };
        let (net, fault) = compile(policy, &topology);
        self.net = net;
        self.fault = self.fault.take().or(fault);
        self.lineage = Arc::default();
        self.filters.clear();
        self.devices.clear();
        self.ssh.clear();
        self.names = Arc::new(self.names.follow(self.net.rule_prints()));
        self.visible = Mutex::default();
        self.special = Mutex::default();
        let devices = &topology.devices;
        let ids = |wanted: &dyn Fn(&policy::Device) -> bool| -> OrdSet<DeviceId> {
            let found = devices.iter().filter(|device| wanted(device));
            found
                .filter_map(|device| DeviceId::new(device.id))
                .collect()
        };
        self.routers = ids(&|device| !device.routes.is_empty());
        self.without_ipv4 = if self.net.policy().hides_ipv4() {
            ids(&|device| self.net.ipv4_disabled(device.id))
        } else {
            OrdSet::new()
        };
    }

    fn apply(&mut self, tailnet: Subject<'_>, pending: &Pending) {
        let mut changes = Vec::with_capacity(pending.users.len() + pending.devices.len());
        let (here, gone): (Vec<UserId>, Vec<UserId>) = pending
            .users
            .iter()
            .copied()
            .partition(|id| tailnet.users.get(*id).is_some());
        // A user who leaves makes room for one who comes with the same login name.
        changes.extend(
            gone.into_iter()
                .map(|id| TopologyChange::UserGone(id.get())),
        );
        for user in here.into_iter().filter_map(|id| tailnet.users.get(id)) {
            changes.push(TopologyChange::User(topology_user(user)));
        }
        let mut here = Vec::new();
        let mut routers_changed = false;
        for id in &pending.devices {
            let device = tailnet
                .devices
                .get(*id)
                .and_then(|entry| topology_device(entry, tailnet.devices));
            let routes = device
                .as_ref()
                .is_some_and(|device| !device.routes.is_empty());
            let routed = if routes {
                self.routers.insert(*id).is_some()
            } else {
                self.routers.remove(id).is_some()
            };
            routers_changed |= routes || routed;
            let known = self.net.device(id.get());
            let stays = |device: &policy::Device| known.is_none_or(|old| old.slot == device.slot);
            // Removals come first: they make room for what is added.
            if device.as_ref().is_none_or(|device| !stays(device)) {
                changes.push(TopologyChange::DeviceGone(id.get()));
            }
            here.extend(device.map(|device| TopologyChange::Device(Box::new(device))));
        }
        changes.append(&mut here);
        let impact = self.net.apply_all(changes);
        let number = self.number;
        if impact.routes || routers_changed {
            self.routes = number;
        }
        for class in &impact.filters {
            self.filters.insert(*class, number);
        }
        if let (Ok(visible), Ok(special)) = (self.visible.get_mut(), self.special.get_mut()) {
            for class in &impact.visibility {
                visible.remove(class);
                special.remove(class);
            }
        }
        let hidden = self.without_ipv4.clone();
        let hides = self.net.policy().hides_ipv4();
        for id in impact.devices.iter().filter_map(|id| DeviceId::new(*id)) {
            if self.net.device(id.get()).is_none() {
                self.devices.remove(&id);
                self.ssh.remove(&id);
                self.without_ipv4.remove(&id);
                continue;
            }
            self.devices.insert(id, number);
            if hides && self.net.ipv4_disabled(id.get()) {
                self.without_ipv4.insert(id);
            } else {
                self.without_ipv4.remove(&id);
            }
            // A router that another device's change moves is in here too.
            if self.routers.contains(&id) {
                self.routes = number;
            }
        }
        for id in &pending.devices {
            if self.net.device(id.get()).is_none() {
                self.devices.remove(id);
                self.ssh.remove(id);
                self.without_ipv4.remove(id);
            }
        }
        if (self.routes == number || !hidden.ptr_eq(&self.without_ipv4))
            && let Ok(special) = self.special.get_mut()
        {
            special.clear();
        }
        for id in impact.ssh.iter().filter_map(|id| DeviceId::new(*id)) {
            // Only those are told that listen.
            if tailnet
                .devices
                .get(id)
                .is_some_and(|entry| entry.device.facts.ssh)
            {
                self.ssh.insert(id, number);
            }
        }
        self.forget_classes();
    }

    /// Classes that are gone leave nothing behind for long.
    fn forget_classes(&mut self) {
        let living = self.net.classes().count();
        let net = &self.net;
        let is_gone = |class: &ClassId| net.members(*class).is_none();
        if self.filters.len() > 2 * living + MANY {
            let gone: Vec<_> = self
                .filters
                .keys()
                .filter(|class| is_gone(class))
                .copied()
                .collect();
            for class in gone {
                self.filters.remove(&class);
            }
        }
        if let Ok(visible) = self.visible.get_mut()
            && visible.len() > 2 * living + MANY
        {
            visible.retain(|class, _| !is_gone(class));
        }
        if let Ok(special) = self.special.get_mut()
            && special.len() > 2 * living + MANY
        {
            special.retain(|class, _| !is_gone(class));
        }
    }

    fn combine_relays(&mut self, relays: &Arc<DerpMap>) {
        let own = self.net.policy().settings().derp_map.as_ref();
        let combined = own.map_or_else(|| relays.clone(), |own| Arc::new(combine(relays, own)));
        if *combined != *self.derp_map {
            self.derp_map = combined;
        }
    }

    /// Why the policy file is not in force, and nothing is allowed.
    pub(crate) const fn fault(&self) -> Option<&Arc<str>> {
        self.fault.as_ref()
    }

    /// The policy on the tailnet.
    pub(crate) const fn net(&self) -> &Compiled {
        &self.net
    }

    /// The server's relays, with what the policy says of them.
    pub(crate) const fn derp_map(&self) -> &Arc<DerpMap> {
        &self.derp_map
    }

    /// The name of the part of packet filters that a place of the policy is in.
    pub(crate) fn filter_name(&self, place: usize) -> String {
        self.names.get(place)
    }

    /// Devices whose IPv4 address is hidden, by id.
    pub(crate) const fn without_ipv4(&self) -> &OrdSet<DeviceId> {
        &self.without_ipv4
    }

    /// How a device sees others; `None` where the policy does not know it.
    pub(crate) fn perspective(&self, device: DeviceId) -> Option<Perspective> {
        Some(Perspective {
            class: self.net.class_of(device.get())?,
            without_ipv4: self.without_ipv4.contains(&device),
        })
    }

    /// The slots that a class sees. Made once, also for later states in which it is the same.
    pub(crate) fn visible_to(&self, class: ClassId) -> Arc<DeviceSet> {
        if let Ok(known) = self.visible.lock()
            && let Some(set) = known.get(&class)
        {
            return set.clone();
        }
        let set = Arc::new(self.net.visible_to(class).unwrap_or_default());
        if let Ok(mut known) = self.visible.lock() {
            known.insert(class, set.clone());
        }
        set
    }

    /// How a class is shown the peers that it is shown in another way than most. Made once, also
    /// for later states in which it is the same. `viewer` is one of the class: what routes a viewer
    /// is told of is a matter of its class.
    pub(crate) fn special_of(
        &self,
        class: ClassId,
        viewer: DeviceId,
        devices: &Devices,
    ) -> Arc<Special> {
        if let Ok(known) = self.special.lock()
            && let Some(special) = known.get(&class)
        {
            return special.clone();
        }
        let seen = self.visible_to(class);
        let slot_of = |peer: &DeviceId| {
            let slot = devices.slot(*peer)?;
            let word = u32::try_from(slot / SIZE).map_or(0, |at| seen.word(at));
            (word >> (slot % SIZE) & 1 == 1).then_some(slot)
        };
        let mut special = Special::new();
        for peer in &self.routers {
            let Some(slot) = slot_of(peer) else {
                continue;
            };
            let routes = self.net.allowed_routes(viewer.get(), peer.get());
            if !routes.is_empty() {
                special.entry(slot).or_default().routes = routes.into();
            }
        }
        for slot in self.without_ipv4.iter().filter_map(slot_of) {
            special.entry(slot).or_default().without_ipv4 = true;
        }
        let special = Arc::new(special);
        if let Ok(mut known) = self.special.lock() {
            known.insert(class, special.clone());
        }
        special
    }

    fn is_of(&self, lineage: &Self) -> bool {
        Arc::ptr_eq(&self.lineage, &lineage.lineage)
    }

    /// Whether the packet filter of a class may be another than in an earlier state.
    pub(crate) fn filter_differs(&self, earlier: &Self, class: ClassId) -> bool {
        !self.is_of(earlier) || self.filters.get(&class) != earlier.filters.get(&class)
    }

    /// Whether what a device is told of itself may be another.
    pub(crate) fn device_differs(&self, earlier: &Self, device: DeviceId) -> bool {
        !self.is_of(earlier)
            || self.devices.get(&device) != earlier.devices.get(&device)
            || (self.routes_differ(earlier)
                && (self.routers.contains(&device) || earlier.routers.contains(&device)))
    }

    /// Whether a device's SSH policy may be another.
    pub(crate) fn ssh_differs(&self, earlier: &Self, device: DeviceId) -> bool {
        !self.is_of(earlier) || self.ssh.get(&device) != earlier.ssh.get(&device)
    }

    /// Whether somebody may be told of other routes.
    pub(crate) fn routes_differ(&self, earlier: &Self) -> bool {
        !self.is_of(earlier) || self.routes != earlier.routes
    }
}

fn topology_user(user: &User) -> policy::User {
    policy::User {
        id: user.id.get(),
        login: user.login_name.clone(),
        role: match user.role {
            Role::Owner => policy::Role::Owner,
            Role::Admin => policy::Role::Admin,
            Role::NetworkAdmin => policy::Role::NetworkAdmin,
            Role::ItAdmin => policy::Role::ItAdmin,
            Role::BillingAdmin => policy::Role::BillingAdmin,
            Role::Auditor => policy::Role::Auditor,
            Role::Member => policy::Role::Member,
        },
    }
}

/// A device as policies know it. One that waits for approval, or whose user may not use the network,
/// is not there at all, and one whose key has expired routes nothing.
fn topology_device(entry: &Entry, devices: &Devices) -> Option<policy::Device> {
    let device = &entry.device;
    if !entry.is_shown() {
        return None;
    }
    let tags = || device.tags.iter().map(ToString::to_string).collect();
    let owner = match device.owner() {
        Some(user) => policy::Owner::User(user.get()),
        None => policy::Owner::Tags(tags()),
    };
    let routes: Vec<_> = if device.expired {
        Vec::new()
    } else {
        device.active_routes().copied().collect()
    };
    Some(policy::Device {
        id: device.id.get(),
        name: device.name.clone(),
        // Ids grow.
        joined: device.id.get(),
        owner,
        addresses: device.addresses().to_vec(),
        advertised: device.facts.advertised_routes.clone(),
        attributes: attributes(device),
        services: Vec::new(),
        // Asked of routers only: others are not to be looked at each time they come and go.
        online: entry.live.online && !routes.is_empty(),
        routes,
        slot: devices
            .slot(device.id)
            .and_then(|slot| u32::try_from(slot).ok()),
    })
}

#[expect(
    clippy::cast_precision_loss,
    reason = "integers of attributes are at most 2^53 - 1"
)]
fn attributes(device: &bowline_model::device::Device) -> policy::Attributes {
    let custom = device.attributes.iter();
    let custom = custom.map(|(key, attribute)| (key.clone(), attribute.value.clone()));
    let all = device.reported_attributes().into_iter().chain(custom);
    all.map(|(key, value)| {
        let value = match value {
            AttributeValue::Bool(flag) => policy::AttributeValue::Bool(flag),
            AttributeValue::Number(number) => policy::AttributeValue::Number(number as f64),
            AttributeValue::String(text) => policy::AttributeValue::String(text),
        };
        (key, value)
    })
    .collect()
}

/// The server's relays with a policy's: its regions are added, and one that is `null` is taken
/// away. A map without a region is of no use to clients: then the server's stays.
fn combine(relays: &DerpMap, own: &RelayMap) -> DerpMap {
    let mut combined = relays.clone();
    if own.omit_default_regions {
        combined.regions.clear();
    }
    for (id, region) in &own.regions {
        match region {
            Some(region) => combined.regions.insert(*id, own_region(*id, region)),
            None => combined.regions.remove(id),
        };
    }
    if combined.regions.is_empty() {
        return relays.clone();
    }
    combined
}

fn own_region(id: u32, region: &RelayRegion) -> Region {
    // The policy's reader knows that it is a number.
    let number = |text: &Option<String>| serde_json::from_str(text.as_deref()?).ok();
    Region {
        id,
        code: region.code.clone(),
        name: region.name.clone(),
        latitude: number(&region.latitude),
        longitude: number(&region.longitude),
        avoid: region.avoid,
        nodes: region
            .nodes
            .iter()
            .map(|node| own_relay(id, node))
            .collect(),
    }
}

fn own_relay(region: u32, node: &RelayNode) -> Relay {
    Relay {
        name: node.name.clone(),
        region_id: region,
        host_name: node.host_name.clone(),
        cert_name: node.cert_name.clone(),
        ipv4: node.ipv4.clone(),
        ipv6: node.ipv6.clone(),
        stun_port: node.stun_port,
        derp_port: node.derp_port,
        stun_only: node.stun_only,
        can_port80: node.can_port80,
        insecure_for_tests: node.insecure_for_tests,
    }
}
