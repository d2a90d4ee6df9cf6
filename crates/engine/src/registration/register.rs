//! Registration: how a device comes into a tailnet, renews its key and leaves.
//!
//! Source: `docs/protocol/control-protocol.md`, sections 4.2 to 4.6. A lost answer is repeated by the client
//! with the same auth key and machine key but a new node key, so a one-off key stays good for the
//! device that it made until that device has opened a map stream.

use bowline_model::credential::{AuthKey, Credential, Kind, Use};
use bowline_model::device::{Device, REQUEST_TAGS};
use bowline_model::event::{DeviceRef, Event, KeyExpirySet};
use bowline_model::id::{DeviceId, TailnetId};
use bowline_model::secret::{Presented, SecretKind};
use bowline_model::user::Status;
use bowline_store::Column;

use crate::core::actor::Actor;
use crate::core::draft::Draft;
use crate::core::engine::Engine;
use crate::core::failure::StoreFailure;
use crate::device::allowance::allowances;
use crate::device::audit_expiry_enabled;
use crate::device::reported::Report;
use crate::registration::admit::{Admission, Asking, Continued, admit, continued, granted};
use crate::registration::{Registered, Registration, RegistrationRefused};

/// Longest tailnet lock key that is kept, in bytes. Real ones have 70.
const LOCK_KEY_LIMIT: usize = 256;

impl Engine {
    /// Registers, renews or logs out a device.
    ///
    /// # Errors
    /// A refusal with its text for the user, or a failure to store.
    pub async fn register(&self, request: Registration) -> Result<Registered, RegistrationRefused> {
        self.settle_epoch().await;
        if request.lock_key.len() > LOCK_KEY_LIMIT {
            return Err(RegistrationRefused::LockKeyTooLong);
        }
        let known = self.find_device(&request.node_key);
        let keys = [Some(request.node_key), request.old_node_key];
        let is_held_back = || keys.iter().flatten().any(|key| self.is_out_of_order(key));
        if known.is_none() && is_held_back() {
            return Err(StoreFailure::WriterLost.into());
        }
        if let Some((tailnet, _, entry)) = &known {
            let device = &entry.device;
            if device.machine_key != request.machine_key {
                return Err(RegistrationRefused::OtherMachine);
            }
            if let Some(expiry) = request.expiry {
                if expiry <= self.now() {
                    return self.log_out(*tailnet, device.id, request).await;
                }
                if !device.expired && device.effective_expiry().is_none_or(|at| expiry < at) {
                    return self.shorten(*tailnet, device.id, request).await;
                }
            }
            if !device.expired {
                // A restart or reconnect: neither the auth key nor anything else is looked at.
                self.hear(*tailnet, device.id).await;
                return Ok(Registered::In {
                    tailnet: *tailnet,
                    device: device.id,
                });
            }
            if request.auth_key.is_none() {
                return Ok(Registered::KeyExpired);
            }
        } else if request.expiry.is_some_and(|expiry| expiry <= self.now()) {
            return Ok(Registered::LoggedOut); // a device that was deleted leaves
        }
        if request.facts.shortened.contains(REQUEST_TAGS) {
            return Err(RegistrationRefused::TooManyTags);
        }
        let Some(text) = &request.auth_key else {
            return Ok(Registered::NeedsLogin);
        };
        let presented = Presented::parse(text)
            .filter(|presented| presented.kind == SecretKind::Auth)
            .ok_or(RegistrationRefused::UnknownKey)?;
        let tailnet = self
            .0
            .directory
            .credential(presented.id)
            .ok_or(RegistrationRefused::UnknownKey)?;
        // A node key stays in the tailnet that knows it.
        if known
            .as_ref()
            .is_some_and(|(other, _, _)| *other != tailnet)
        {
            return Err(RegistrationRefused::OtherMachine);
        }
        let keeps_hostinfo = self.says_too_often(tailnet, &request);
        let group = self.new_group();
        let later = keeps_hostinfo.then(|| Report {
            hostinfo: Some((request.hostinfo.clone(), request.facts.clone())),
            group: Some(group),
            ..Report::default()
        });
        let actor = Actor::auth_key(tailnet, presented.id).in_group(group);
        let registered = self
            .write(&actor, move |draft| {
                with_auth_key(draft, &request, presented, keeps_hostinfo)
            })
            .await;
        if let (Some(later), Ok(Registered::In { device, .. })) = (later, &registered) {
            self.report(tailnet, *device, later).await;
        }
        match registered {
            // Another tailnet let it in at the same moment.
            Err(RegistrationRefused::Store(StoreFailure::Taken(Column::NodeKey))) => {
                Err(RegistrationRefused::OtherMachine)
            }
            other => other,
        }
    }

    /// Whether a machine that logs in again says something else of itself than before, and has done
    /// so too often to be heard at once: its peers are told of each such change as of a report.
    fn says_too_often(&self, tailnet: TailnetId, request: &Registration) -> bool {
        let Some(handle) = self.handle(tailnet) else {
            return false;
        };
        let snapshot = handle.snapshot();
        let newest = snapshot
            .devices_by_machine_key(request.machine_key)
            .map(|entry| &entry.device)
            .max_by_key(|device| device.id);
        newest.is_some_and(|device| {
            let is_news = device.hostinfo != request.hostinfo || device.facts != request.facts;
            let now = tokio::time::Instant::now();
            let allowances = allowances(&handle);
            is_news && !allowances.try_take(device.id, self.report_rate(), now)
        })
    }

    async fn log_out(
        &self,
        tailnet: TailnetId,
        id: DeviceId,
        request: Registration,
    ) -> Result<Registered, RegistrationRefused> {
        let device = Actor::device(tailnet, id);
        let logged_out = self.write(&device, move |draft| {
            let Some(entry) = draft.view().device(id).cloned() else {
                return Ok(Registered::LoggedOut);
            };
            let device = (*entry.device).clone();
            if device.node_key != request.node_key || (device.expired && !device.ephemeral) {
                return Ok(Registered::LoggedOut);
            }
            if device.ephemeral {
                draft.audit(Event::DeviceDeleted {
                    device: Box::new(device),
                });
                draft.remove::<Device>(id);
            } else {
                let now = draft.now();
                audit_expiry_enabled(draft, &device);
                draft.audit(Event::DeviceKeyExpiry {
                    device: DeviceRef::of(&device),
                    old: device.key_expiry,
                    new: Some(now),
                    why: KeyExpirySet::LoggedOut,
                });
                draft.audit(Event::DeviceLoggedOut {
                    device: DeviceRef::of(&device),
                });
                draft.put(Device {
                    key_expiry: Some(now),
                    key_expiry_disabled: false,
                    key_expiry_disabled_for_tags: false,
                    expired: true,
                    key_ended: true,
                    ..device
                });
            }
            Ok(Registered::LoggedOut)
        });
        match logged_out.await {
            // It was deleted meanwhile.
            Err(RegistrationRefused::DeviceGone) => Ok(Registered::LoggedOut),
            other => other,
        }
    }

    /// The client asks for an earlier expiry than it has; later is not possible.
    async fn shorten(
        &self,
        tailnet: TailnetId,
        id: DeviceId,
        request: Registration,
    ) -> Result<Registered, RegistrationRefused> {
        let device = Actor::device(tailnet, id);
        let shortened = self.write(&device, move |draft| {
            let Some(entry) = draft.view().device(id).cloned() else {
                return Ok(Registered::KeyExpired);
            };
            let device = (*entry.device).clone();
            audit_expiry_enabled(draft, &device);
            draft.audit(Event::DeviceKeyExpiry {
                device: DeviceRef::of(&device),
                old: device.key_expiry,
                new: request.expiry,
                why: KeyExpirySet::Shortened,
            });
            draft.put(Device {
                key_expiry: request.expiry,
                key_expiry_disabled: false,
                key_expiry_disabled_for_tags: false,
                ..device
            });
            Ok(Registered::In {
                tailnet,
                device: id,
            })
        });
        match shortened.await {
            // It was deleted meanwhile: its client makes a new key and logs in.
            Err(RegistrationRefused::DeviceGone) => Ok(Registered::KeyExpired),
            other => other,
        }
    }
}

fn with_auth_key(
    draft: &mut Draft<'_>,
    request: &Registration,
    presented: Presented,
    keeps_hostinfo: bool,
) -> Result<Registered, RegistrationRefused> {
    let tailnet = draft.view().id();
    let credential = draft
        .view()
        .credential(presented.id)
        .cloned()
        .ok_or(RegistrationRefused::UnknownKey)?;
    if !credential.is_presented_by(&presented) {
        return Err(RegistrationRefused::UnknownKey);
    }
    let key = credential
        .auth_key()
        .cloned()
        .ok_or(RegistrationRefused::UnknownKey)?;
    // Two requests of one registration can run one after the other.
    if let Some(entry) = draft.view().device_by_node_key(&request.node_key) {
        if entry.device.machine_key != request.machine_key {
            return Err(RegistrationRefused::OtherMachine);
        }
        if !entry.device.expired {
            return Ok(Registered::In {
                tailnet,
                device: entry.device.id,
            });
        }
    }
    if credential.revoked.is_some() {
        return Err(RegistrationRefused::RevokedKey);
    }
    let mut repeated = None;
    if let Some(used) = key.used.as_ref().filter(|_| !key.reusable) {
        // A lost answer: the same machine, and the device has never got in since. Its node key
        // says that nothing else let it in meanwhile, which would make it as new.
        let device = draft
            .view()
            .device(used.device)
            .filter(|entry| {
                used.machine_key == request.machine_key
                    && entry.device.node_key == used.node_key
                    && entry.device.auth_key == Some(credential.id)
                    && !entry.device.seen
                    && !entry.device.expired
            })
            .map(|entry| (*entry.device).clone());
        repeated = Some(device.ok_or(RegistrationRefused::UsedKey)?);
    } else if credential.is_expired(draft.now()) {
        return Err(RegistrationRefused::ExpiredKey);
    }
    let owner = credential.user;
    let is_good = match owner {
        Some(id) => {
            let user = draft.view().user(id);
            user.is_some_and(|user| user.status == Status::Active)
        }
        // The tailnet's own key: what it lets in belongs to its tags, and nothing belongs to nobody.
        None => !key.tags.is_empty(),
    };
    if !is_good {
        return Err(RegistrationRefused::OwnerGone);
    }
    let admission = Admission {
        user: owner,
        tags: granted(
            draft,
            &request.facts.request_tags,
            &Asking::AuthKey(&credential, &key),
        )?,
        ephemeral: key.ephemeral,
        preauthorized: key.preauthorized,
        auth_key: Some(credential.id),
        keeps_hostinfo,
        registered_by: key.maker.or(owner),
    };
    let old = match repeated {
        Some(device) => Some(device),
        None => match continued(draft, request, &admission)? {
            Continued::As(device) => Some(*device),
            Continued::New => None,
            Continued::SomebodyElse => return Ok(Registered::KeyExpired),
        },
    };
    let device = admit(draft, request, &admission, old)?;
    if !key.reusable {
        let used = Use {
            at: draft.now(),
            machine_key: request.machine_key,
            node_key: request.node_key,
            device,
        };
        let kind = Kind::Auth(AuthKey {
            used: Some(used),
            ..key
        });
        draft.put(Credential {
            kind,
            ..(*credential).clone()
        });
    }
    Ok(Registered::In { tailnet, device })
}
