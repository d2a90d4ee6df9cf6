//! The draft that a change works on: a copy of the snapshot that notes what was touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use bowline_model::audit::{ActorRef, AuditEvent, Target};
use bowline_model::credential::Credential;
use bowline_model::device::{Device, Live};
use bowline_model::dns::Dns;
use bowline_model::id::{DeviceId, KeyId, UserId};
use bowline_model::policy_file::PolicyFile;
use bowline_model::record::{self, BodyError};
use bowline_model::tailnet::Tailnet;
use bowline_model::user::User;
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::Policy;
use bowline_store::{AuditRow, Column, Delete, Kind, Put};
use jiff::Timestamp;
use serde_json::Value;

use crate::core::clock::{Ids, Random};

/// A change in the making.
pub(crate) struct Draft<'a> {
    pub(crate) snapshot: Snapshot,
    pub(crate) changes: Changes,
    pub(crate) actor: ActorRef,
    now: Timestamp,
    ids: &'a Ids,
    random: &'a dyn Random,
}

/// What a draft has touched.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    /// Rows to write (`true`) or remove, with the closure that touched them last.
    pub(crate) rows: BTreeMap<(u8, u64), (Kind, bool, usize)>,
    pub(crate) audit: Vec<AuditEvent>,
    /// What this closure's events have in common, once there is one.
    pub(crate) audit_group: Option<String>,
    /// Node keys that stopped being good: their relay connections end.
    pub(crate) revoked: Vec<bowline_model::key::NodeKey>,
    /// Closure that runs now.
    pub(crate) job: usize,
    /// Devices whose soft state changed.
    pub(crate) soft: std::collections::BTreeSet<DeviceId>,
    /// Devices whose reported facts changed: durable within a second, not before the answer.
    pub(crate) reported: std::collections::BTreeSet<DeviceId>,
    /// Devices and credentials whose due moments must be looked at again.
    pub(crate) touched_devices: std::collections::BTreeSet<DeviceId>,
    pub(crate) touched_credentials: std::collections::BTreeSet<KeyId>,
    /// Whether all of the snapshot may differ: it was read from the database again.
    pub(crate) everything: bool,
    /// Whether an audit event was noted, and whether a record was touched: one needs the other.
    pub(crate) audited: bool,
    pub(crate) recorded: bool,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(
        snapshot: Snapshot,
        now: Timestamp,
        ids: &'a Ids,
        random: &'a dyn Random,
    ) -> Self {
        Self {
            snapshot,
            changes: Changes::default(),
            actor: ActorRef::System,
            now,
            ids,
            random,
        }
    }

    /// The state so far, this change included.
    pub(crate) fn view(&self) -> &Snapshot {
        &self.snapshot
    }

    /// The time of this change.
    pub(crate) fn now(&self) -> Timestamp {
        self.now
    }

    /// A number for a new id.
    pub(crate) fn new_id(&self) -> u64 {
        let mut noise = [0; 2];
        self.random.fill(&mut noise);
        self.ids.next(self.now, u16::from_le_bytes(noise))
    }

    /// Random bytes.
    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }

    fn record(&mut self, kind: Kind, id: u64, put: bool) {
        self.changes
            .rows
            .insert((kind as u8, id), (kind, put, self.changes.job));
        self.changes.recorded = true;
    }

    /// Writes a device's record.
    pub(crate) fn put_device(&mut self, device: Device) {
        self.record(Kind::Device, device.id.get(), true);
        self.note_device(&device);
        self.snapshot.put_device(device);
    }

    fn note_device(&mut self, device: &Device) {
        self.changes.touched_devices.insert(device.id);
        if let Some(old) = self.snapshot.device(device.id)
            && (old.device.node_key != device.node_key
                || (device.expired && !old.device.expired)
                || (!device.authorized && old.device.authorized))
        {
            self.changes.revoked.push(old.device.node_key);
        }
    }

    /// Replaces a device's record with what the device itself reported: published at once, durable
    /// within a second, without an audit event.
    pub(crate) fn report_device(&mut self, device: Device) {
        self.changes.reported.insert(device.id);
        self.note_device(&device);
        self.snapshot.put_device(device);
    }

    /// Removes a device.
    pub(crate) fn remove_device(&mut self, id: DeviceId) {
        if let Some(entry) = self.snapshot.device(id) {
            self.changes.revoked.push(entry.device.node_key);
        }
        self.record(Kind::Device, id.get(), false);
        self.changes.touched_devices.insert(id);
        self.changes.reported.remove(&id);
        self.snapshot.remove_device(id);
    }

    /// Replaces a device's soft state.
    pub(crate) fn set_live(&mut self, id: DeviceId, live: Live) {
        self.changes.soft.insert(id);
        self.changes.touched_devices.insert(id);
        self.snapshot.set_live(id, live);
    }

    /// Writes a user.
    pub(crate) fn put_user(&mut self, user: User) {
        self.record(Kind::User, user.id.get(), true);
        self.snapshot.put_user(user);
    }

    /// Writes a credential.
    pub(crate) fn put_credential(&mut self, credential: Credential) {
        self.record(Kind::Key, credential.id.get(), true);
        self.changes.touched_credentials.insert(credential.id);
        self.snapshot.put_credential(credential);
    }

    /// Removes a credential that nobody needs to read any more. Its end was audited before.
    pub(crate) fn remove_credential(&mut self, id: KeyId) {
        self.record(Kind::Key, id.get(), false);
        self.changes.audited = true;
        self.changes.touched_credentials.insert(id);
        self.snapshot.remove_credential(id);
    }

    /// Writes the DNS settings.
    pub(crate) fn set_dns(&mut self, dns: Dns) {
        self.record(Kind::Dns, self.snapshot.id().get(), true);
        self.snapshot.set_dns(dns);
    }

    /// Writes the tailnet's record.
    pub(crate) fn set_tailnet(&mut self, tailnet: Tailnet) {
        self.record(Kind::Tailnet, tailnet.id.get(), true);
        self.snapshot.set_tailnet(tailnet);
    }

    /// Writes the policy file.
    pub(crate) fn set_policy(&mut self, policy: PolicyFile) {
        self.record(Kind::Policy, self.snapshot.id().get(), true);
        self.snapshot.set_policy(policy);
    }

    /// Writes a policy file whose text has been read before.
    pub(crate) fn set_parsed_policy(&mut self, file: PolicyFile, policy: Arc<Policy>) {
        self.record(Kind::Policy, self.snapshot.id().get(), true);
        self.snapshot.set_parsed_policy(file, policy);
    }

    /// Notes an audit event: the actor of this change did `action` to `target`.
    pub(crate) fn audit(&mut self, action: &str, target: Target, old: Value, new: Value) {
        self.audit_with(action, target, old, new, None);
    }

    /// The same with the caller's comment.
    pub(crate) fn audit_with(
        &mut self,
        action: &str,
        target: Target,
        old: Value,
        new: Value,
        details: Option<String>,
    ) {
        let event = self.event(action, target, old, new);
        self.changes.audit.push(AuditEvent { details, ..event });
    }

    /// Notes that the actor was refused: nothing changes. `error` is what they were told.
    pub(crate) fn audit_refused(&mut self, target: Target, details: Option<String>, error: &str) {
        let event = self.event("UPDATE", target, Value::Null, Value::Null);
        self.changes.audit.push(AuditEvent {
            details,
            error: Some(error.to_owned()),
            ..event
        });
    }

    fn event(&mut self, action: &str, target: Target, old: Value, new: Value) -> AuditEvent {
        self.changes.audited = true;
        let group = match self.changes.audit_group.take() {
            Some(group) => group,
            None => format!("{:032x}", u128::from_be_bytes(self.random())),
        };
        self.changes.audit_group = Some(group.clone());
        AuditEvent {
            at: self.now,
            origin: self.actor.origin(),
            event_group_id: group,
            actor: self.actor.clone(),
            action: action.to_owned(),
            target,
            old,
            new,
            details: None,
            error: None,
        }
    }

    /// Acts in another name from here on: a registration starts as an auth key.
    pub(crate) fn act_as(&mut self, actor: ActorRef) {
        self.actor = actor;
    }

    /// The rows of this draft for the store, with the closure that each came from.
    pub(crate) fn rows(&self) -> Result<Rows, BodyError> {
        let mut puts = Vec::new();
        let mut jobs = Vec::new();
        let mut deletes = Vec::new();
        for ((_, id), (kind, put, job)) in &self.changes.rows {
            if *put {
                let Some(row) = encode(&self.snapshot, *kind, *id)? else {
                    continue;
                };
                puts.push(row);
                jobs.push(*job);
            } else {
                deletes.push(Delete {
                    kind: *kind,
                    id: *id,
                });
            }
        }
        Ok((puts, jobs, deletes))
    }

    pub(crate) fn audit_rows(&self) -> Result<Vec<AuditRow>, BodyError> {
        self.changes
            .audit
            .iter()
            .map(|event| {
                Ok(AuditRow {
                    id: self.new_id(),
                    at: event.at,
                    body: record::encode(event)?,
                })
            })
            .collect()
    }
}

/// Rows to write, the closure that each came from, and rows to remove.
pub(crate) type Rows = (Vec<Put>, Vec<usize>, Vec<Delete>);

/// The row of one object as it stands in a snapshot; `None` when it is not there.
pub(crate) fn encode(snapshot: &Snapshot, kind: Kind, id: u64) -> Result<Option<Put>, BodyError> {
    Ok(match kind {
        Kind::Tailnet => Some(
            Put::new(kind, id, record::encode(&**snapshot.tailnet())?)
                .with(Column::TailnetName, snapshot.tailnet().name.to_lowercase()),
        ),
        Kind::User => match UserId::new(id).and_then(|id| snapshot.user(id)) {
            Some(user) => Some(
                Put::new(kind, id, record::encode(&**user)?)
                    .with(Column::UserLogin, user.login_name.to_lowercase()),
            ),
            None => None,
        },
        Kind::Device => match DeviceId::new(id).and_then(|id| snapshot.device(id)) {
            Some(entry) => Some(
                Put::new(kind, id, record::encode(&*entry.device)?)
                    .with(Column::NodeKey, entry.device.node_key.to_string())
                    .with(Column::Ipv6, entry.device.ipv6.to_string()),
            ),
            None => None,
        },
        Kind::Key => match KeyId::new(id).and_then(|id| snapshot.credential(id)) {
            Some(credential) => Some(Put::new(kind, id, record::encode(&**credential)?)),
            None => None,
        },
        Kind::Dns => Some(Put::new(kind, id, record::encode(&**snapshot.dns())?)),
        Kind::Policy => Some(Put::new(kind, id, record::encode(&**snapshot.policy())?)),
        Kind::WaitingLogin | Kind::SshCheck | Kind::SshConfirmation => None, // the server's
    })
}
