//! Making tailnets.

use bowline_model::audit::Target;
use bowline_model::credential::Credential;
use bowline_model::dns::Dns;
use bowline_model::id::{TailnetId, UserId};
use bowline_model::kind::ObjectId;
use bowline_model::policy_file::PolicyFile;
use bowline_model::tailnet::{Settings, Tailnet, is_name, name_for_owner};
use bowline_model::user::{Role, Status, User, is_login_name};
use bowline_netmap::snapshot::Snapshot;
use bowline_store::{Batch, Kind};
use serde_json::{Value, json};

use crate::core::actor::Actor;
use crate::core::draft::{self, Draft};
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};
use crate::core::writer;
use crate::credential::Minted;

/// Longest DNS name of a tailnet, in bytes: the longest label of a device (63) and a dot go in
/// front, and clients panic at each start over a name of more than 253.
/// Source: `tailscale/tailscale util/dnsname/dnsname.go ToFQDN`.
pub const DNS_NAME_MAX: usize = 253 - 63 - 1;
/// Longest base domain, in bytes: a tailnet's own label (`tail1a2b3c`) and a dot go in front.
pub const BASE_DOMAIN_MAX: usize = DNS_NAME_MAX - 10 - 1;

/// A tailnet that was just made.
#[derive(Debug)]
pub struct NewTailnet {
    /// The tailnet.
    pub tailnet: TailnetId,
    /// Its owner.
    pub owner: UserId,
    /// An API access token of the owner, shown once, good for 90 days.
    pub token: Minted,
    /// The token's record.
    pub credential: Credential,
}

impl Engine {
    /// Makes a tailnet with its owner and their first API access token, in one commit.
    ///
    /// `name` is the organisation name; absent: one is made of the owner's login name
    /// ([`name_for_owner`]).
    ///
    /// # Errors
    /// `Invalid` for a login name or tailnet name that is none or is taken.
    pub async fn create_tailnet(
        &self,
        owner: &str,
        name: Option<&str>,
    ) -> Result<NewTailnet, Refusal> {
        if !is_login_name(owner) {
            return Err(Refusal::invalid(format!(
                "{owner:?} is not a login name: expected something like ann@example.com"
            )));
        }
        let made;
        let name = if let Some(name) = name {
            name
        } else {
            made = name_for_owner(owner).ok_or_else(|| {
                Refusal::invalid(format!(
                    "{owner:?} is too long to name a tailnet after: give the tailnet a name of its own, like example.com"
                ))
            })?;
            &made
        };
        if !is_name(name) {
            return Err(Refusal::invalid(format!(
                "{name:?} is not a tailnet name: expected up to 100 letters, digits and \".@-_\", like example.com"
            )));
        }
        let making = self.0.making.clone().lock_owned();
        let making = tokio::time::timeout(self.0.settings.commit_timeout, making)
            .await
            .map_err(|_| StoreFailure::Stalled)?;
        if self.0.directory.name(name).is_some() {
            return Err(Refusal::invalid(format!(
                "a tailnet named {name:?} exists already: choose another name"
            )));
        }
        let now = self.now();
        if crate::core::timekeeper::is_impossible(now) {
            // What it is made with would have expired once the clock is right.
            return Err(Refusal::invalid(format!(
                "the clock shows {now}, which is before this program was made; set it first"
            )));
        }
        let mut noise = [0u8; 16];
        self.0.random.fill(&mut noise);
        let id = TailnetId::new(
            self.0
                .ids
                .next(now, u16::from_le_bytes([noise[0], noise[1]])),
        )
        .ok_or(StoreFailure::Defect("ran out of ids"))?;
        let dns_name = format!(
            "tail{:02x}{:02x}{:02x}.{}",
            noise[2], noise[3], noise[4], self.0.settings.base_domain
        );
        if dns_name.len() > DNS_NAME_MAX {
            return Err(Refusal::invalid(format!(
                "the base domain of this server is too long: it has {} characters, and at most \
                 {BASE_DOMAIN_MAX} leave room for the names of devices",
                self.0.settings.base_domain.len()
            )));
        }
        let tailnet = Tailnet {
            id,
            name: name.to_owned(),
            dns_name,
            created: now,
            settings: Settings {
                devices_key_duration_days: self.0.settings.key_duration_days,
                ..Settings::default()
            },
        };
        let empty = Snapshot::new(tailnet.clone(), self.0.derp_map.clone());
        let mut draft = Draft::new(empty, now, &self.0.ids, &*self.0.random);
        draft.act_as(Actor::operator(id));
        let user = User {
            id: UserId::new(draft.new_id()).ok_or(StoreFailure::Defect("ran out of ids"))?,
            login_name: owner.to_owned(),
            display_name: owner.split('@').next().unwrap_or(owner).to_owned(),
            role: Role::Owner,
            status: Status::Active,
            created: now,
        };
        draft.set_tailnet(tailnet);
        draft.set_dns(Dns::default());
        draft.audit(
            "CREATE",
            Target::tailnet(id, name, "TAILNET"),
            Value::Null,
            json!({"name": name, "owner": owner}),
        );
        draft.put_user(user.clone());
        let (token, credential) =
            crate::credential::mint_token(&mut draft, user.id, "first token", None)?;

        let defect = |_| StoreFailure::Defect("an object cannot be encoded");
        let mut batch = Batch::new(id, 0, draft.random(), now);
        batch.puts = draft.rows().map_err(defect)?.puts;
        if !batch.puts.iter().any(|put| put.kind == Kind::Policy) {
            batch.puts.extend(
                draft::encode(&draft.snapshot, ObjectId::of::<PolicyFile>(id)).map_err(defect)?,
            );
        }
        batch.audit = draft.audit_rows().map_err(defect)?;
        let owner = user.id;
        self.begin_tailnet(draft.snapshot, batch, making).await?;
        Ok(NewTailnet {
            tailnet: id,
            owner,
            token,
            credential,
        })
    }

    /// Stores a tailnet that was just made, and starts its writer. It goes on when the caller has
    /// waited for as long as they may.
    async fn begin_tailnet(
        &self,
        mut snapshot: Snapshot,
        batch: Batch,
        making: tokio::sync::OwnedMutexGuard<()>,
    ) -> Result<(), StoreFailure> {
        let engine = self.clone();
        let task = self.0.tasks.spawn(async move {
            let _making = making;
            let seq = tokio::select! {
                stored = writer::commit(&engine.0, batch) => stored?,
                () = engine.0.abandon.cancelled() => return Err(StoreFailure::Undecided),
            };
            snapshot.seq = seq;
            engine.add(snapshot);
            Ok(())
        });
        match tokio::time::timeout(self.0.settings.commit_timeout, task).await {
            Ok(Ok(made)) => made,
            Ok(Err(_)) => Err(StoreFailure::Defect("making a tailnet panicked")),
            Err(_) => {
                self.0.health.withdrawn(1);
                Err(StoreFailure::Undecided)
            }
        }
    }
}
