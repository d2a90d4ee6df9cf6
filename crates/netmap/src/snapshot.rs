//! The immutable state of one tailnet.
//!
//! Every container in it is persistent: a copy is a few reference counts, and a change copies the
//! path to what changed. The engine's writer mutates a copy (its draft) and publishes it.

use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use bowline_model::credential::Credential;
use bowline_model::device::{Device, Live};
use bowline_model::dns::Dns;
use bowline_model::id::{DeviceId, KeyId, TailnetId, UserId, WebhookId};
use bowline_model::key::{MachineKey, NodeKey};
use bowline_model::kind::ObjectId;
use bowline_model::policy_file::PolicyFile;
use bowline_model::record::Unknown;
use bowline_model::tailnet::Tailnet;
use bowline_model::user::{Hold, User};
use bowline_model::webhook::WebhookEndpoint;
use bowline_policy::{Compiled, Policy};
use bowline_wire::derp_map::DerpMap;
use imbl::{OrdMap, Vector};

use crate::applied_policy::{self, AppliedPolicy, Pending, Perspective};
use crate::chunk::{Chunk, Entry};
use crate::devices::Devices;
use crate::table::Tables;
use crate::users::Users;

/// One tailnet at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Number of the last change that is in it; 0 before the first.
    pub seq: u64,
    /// Number of this state in this process: the writer raises it with every state that it publishes,
    /// so that soft state and time advance it too.
    pub revision: u64,
    tailnet: Arc<Tailnet>,
    dns: Arc<Dns>,
    policy: Arc<PolicyFile>,
    derp_map: Arc<DerpMap>,
    users: Users,
    tables: Tables,
    /// What the bodies of objects have that this program does not know.
    unknown: OrdMap<ObjectId, Arc<Unknown>>,
    devices: Devices,
    /// What the policy makes of an earlier state, and what has changed since.
    earlier: Arc<AppliedPolicy>,
    pending: Pending,
    /// What it makes of this one, once somebody has asked.
    applied: OnceLock<Arc<AppliedPolicy>>,
}

impl Snapshot {
    /// A tailnet without users, devices or credentials.
    pub fn new(tailnet: Tailnet, derp_map: Arc<DerpMap>) -> Self {
        let policy = PolicyFile::untouched();
        let earlier = Arc::new(AppliedPolicy::new(
            applied_policy::parse(&policy),
            &derp_map,
        ));
        Self {
            seq: 0,
            revision: 0,
            devices: Devices::new(&tailnet.dns_name),
            tailnet: Arc::new(tailnet),
            dns: Arc::default(),
            policy: Arc::new(policy),
            derp_map,
            users: Users::default(),
            tables: Tables::default(),
            unknown: OrdMap::new(),
            earlier,
            pending: Pending::default(),
            applied: OnceLock::new(),
        }
    }

    /// The tailnet's id.
    pub fn id(&self) -> TailnetId {
        self.tailnet.id
    }

    /// The tailnet's record.
    pub fn tailnet(&self) -> &Arc<Tailnet> {
        &self.tailnet
    }

    /// Replaces the tailnet's record. A new MagicDNS suffix renames every device.
    pub fn set_tailnet(&mut self, tailnet: Tailnet) {
        self.devices.set_suffix(&tailnet.dns_name);
        self.tailnet = Arc::new(tailnet);
    }

    /// DNS settings.
    pub fn dns(&self) -> &Arc<Dns> {
        &self.dns
    }

    /// Replaces the DNS settings.
    pub fn set_dns(&mut self, dns: Dns) {
        self.dns = Arc::new(dns);
    }

    /// The policy file.
    pub fn policy(&self) -> &Arc<PolicyFile> {
        &self.policy
    }

    /// Replaces the policy file. One that cannot be read allows nothing.
    pub fn set_policy(&mut self, policy: PolicyFile) {
        let read = applied_policy::parse(&policy);
        self.policy = Arc::new(policy);
        self.pending().policy = Some(read);
    }

    /// Replaces the policy file by one whose text has been read before.
    pub fn set_parsed_policy(&mut self, policy: PolicyFile, parsed: Arc<Policy>) {
        self.policy = Arc::new(policy);
        self.pending().policy = Some(applied_policy::PolicyRead {
            policy: parsed,
            fault: None,
        });
    }

    /// Why the policy file is not in force, in which case nothing is allowed: its text cannot be
    /// read, or it takes more work than a policy may.
    pub fn policy_fault(&self) -> Option<&str> {
        self.applied_policy().fault().map(|fault| &**fault)
    }

    /// The policy applied to this state.
    pub fn compiled(&self) -> &Compiled {
        self.applied_policy().net()
    }

    /// The policy applied to this state, for questions about people and the policy file alone:
    /// devices that changed just now may be missing. Costs nothing where only devices changed, so
    /// that a batch of joins is still one change of the policy's sets.
    pub fn compiled_for_people(&self) -> &Compiled {
        let is_current = self.pending.users.is_empty() && self.pending.policy.is_none();
        if self.applied.get().is_none() && is_current {
            self.earlier.net()
        } else {
            self.compiled()
        }
    }

    /// Applies the policy to this state now, rather than when somebody asks first.
    pub fn apply_policy(&self) {
        let _ = self.applied_policy();
    }

    /// Whether what the policy says of this state is what it said of `other`, one of the same
    /// history: no device or user that it looks at has changed in between.
    pub fn has_policy_state_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.applied_policy(), other.applied_policy())
    }

    pub(crate) fn applied_policy(&self) -> &Arc<AppliedPolicy> {
        self.applied.get_or_init(|| {
            if self.pending.is_empty() {
                self.earlier.clone()
            } else {
                let tailnet = applied_policy::Subject {
                    users: &self.users,
                    devices: &self.devices,
                    relays: &self.derp_map,
                };
                Arc::new(self.earlier.advanced(tailnet, &self.pending))
            }
        })
    }

    /// What the policy is to look at again.
    fn pending(&mut self) -> &mut Pending {
        if let Some(applied) = self.applied.take() {
            self.earlier = applied;
            self.pending = Pending::default();
        }
        &mut self.pending
    }

    /// The relays that devices are told of: the server's, and the policy's.
    pub fn derp_map(&self) -> &Arc<DerpMap> {
        self.applied_policy().derp_map()
    }

    /// A user.
    pub fn user(&self, id: UserId) -> Option<&Arc<User>> {
        self.users.get(id)
    }

    /// A user by login name, without regard to case.
    pub fn user_by_login(&self, login: &str) -> Option<&Arc<User>> {
        self.users.by_login(login)
    }

    /// All users, by id.
    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.iter()
    }

    pub(crate) fn users_map(&self) -> &OrdMap<UserId, Arc<User>> {
        self.users.by_id()
    }

    /// Adds or replaces a user.
    pub fn put_user(&mut self, user: User) {
        self.pending().users.insert(user.id);
        self.set_hold(user.id, user.hold());
        self.users.put(user);
    }

    /// Removes a user.
    pub fn remove_user(&mut self, id: UserId) {
        if self.users.remove(id) {
            self.pending().users.insert(id);
            self.set_hold(id, None);
        }
    }

    /// The devices of a user who may no longer use the network, or may again, are others to everybody.
    fn set_hold(&mut self, user: UserId, hold: Option<Hold>) {
        let devices = self.devices.set_hold(user, hold);
        if !devices.is_empty() {
            self.pending().devices.extend(devices);
        }
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(crate) fn tables_mut(&mut self) -> &mut Tables {
        &mut self.tables
    }

    /// What an object's body has that this program does not know.
    pub(crate) fn unknown(&self, id: ObjectId) -> Option<&Unknown> {
        self.unknown.get(&id).map(|unknown| &**unknown)
    }

    pub(crate) fn set_unknown(&mut self, id: ObjectId, unknown: Unknown) {
        if unknown.is_empty() {
            self.unknown.remove(&id);
        } else {
            self.unknown.insert(id, Arc::new(unknown));
        }
    }

    /// A credential.
    pub fn credential(&self, id: KeyId) -> Option<&Arc<Credential>> {
        self.tables.credentials.get(id)
    }

    /// All credentials, by id.
    pub fn credentials(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.tables.credentials.iter()
    }

    /// How many credentials there are.
    pub fn credential_count(&self) -> usize {
        self.tables.credentials.len()
    }

    /// A webhook endpoint.
    pub fn webhook(&self, id: WebhookId) -> Option<&Arc<WebhookEndpoint>> {
        self.tables.webhooks.get(id)
    }

    /// All webhook endpoints, by id.
    pub fn webhooks(&self) -> impl Iterator<Item = &Arc<WebhookEndpoint>> {
        self.tables.webhooks.iter()
    }

    /// How many webhook endpoints there are.
    pub fn webhook_count(&self) -> usize {
        self.tables.webhooks.len()
    }

    /// How many users there are.
    pub fn user_count(&self) -> usize {
        self.users.len()
    }

    /// A device.
    pub fn device(&self, id: DeviceId) -> Option<&Arc<Entry>> {
        self.devices.get(id)
    }

    /// A device by node key.
    pub fn device_by_node_key(&self, key: &NodeKey) -> Option<&Arc<Entry>> {
        self.devices.by_node_key(key)
    }

    /// The devices of a machine key, by id.
    pub fn devices_by_machine_key(&self, key: MachineKey) -> impl Iterator<Item = &Arc<Entry>> {
        self.devices.by_machine_key(key)
    }

    /// The devices that belong to a user, by id. Those that are tagged belong to their tags.
    pub fn devices_of(&self, user: UserId) -> impl Iterator<Item = &Arc<Entry>> {
        self.devices.of_owner(user)
    }

    /// A device by the first label of its name.
    pub fn device_by_name(&self, name: &str) -> Option<&Arc<Entry>> {
        self.devices.by_name(name)
    }

    /// A device by its IPv4 address.
    pub fn device_by_ipv4(&self, address: Ipv4Addr) -> Option<&Arc<Entry>> {
        self.devices.by_ipv4(address)
    }

    /// Spellings of a custom posture attribute's key, whatever its case, and the types of values that
    /// each has in the tailnet ([`bowline_model::device::AttributeValue::type_name`]). More than one
    /// of them only in a draft.
    pub fn attribute_uses(&self, key: &str) -> impl Iterator<Item = (&str, &'static str)> {
        self.devices.attributes().uses(key)
    }

    /// All devices, by slot.
    pub fn devices(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.devices.iter()
    }

    /// How many devices there are.
    pub fn device_count(&self) -> usize {
        self.devices.len()
    }

    pub(crate) fn chunks(&self) -> &Vector<Arc<Chunk>> {
        self.devices.chunks()
    }

    pub(crate) fn devices_by_slot(&self) -> &Devices {
        &self.devices
    }

    /// Adds or replaces a device's record; its soft state stays (a new device starts offline).
    pub fn put_device(&mut self, device: Device) {
        self.pending().devices.insert(device.id);
        self.devices.put(device);
    }

    /// Replaces a device's soft state.
    pub fn set_live(&mut self, id: DeviceId, live: Live) {
        if let Some(old) = self.device(id).cloned() {
            // Whether a router is there decides who routes; of others the policy asks nothing.
            if old.live.online != live.online && old.device.active_routes().next().is_some() {
                self.pending().devices.insert(id);
            }
            self.devices.set_live(&old.device, live);
        }
    }

    /// Holds a device in the same place in memory as another state does, where both hold the same:
    /// comparing the two states then passes over it.
    pub fn share(&mut self, entry: &Arc<Entry>) {
        self.devices.share(entry);
    }

    /// Removes a device; its addresses and names are free again.
    pub fn remove_device(&mut self, id: DeviceId) {
        if self.devices.remove(id) {
            self.pending().devices.insert(id);
        }
    }

    /// How a device sees others; `None`: it sees nobody.
    pub(crate) fn perspective(&self, viewer: &Entry) -> Option<Perspective> {
        self.applied_policy()
            .perspective(viewer.device.id)
            .filter(|_| viewer.sees_peers())
    }
}
