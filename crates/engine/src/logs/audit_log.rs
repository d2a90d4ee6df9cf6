//! The audit log, read: by time, actor, target and event.
//!
//! Source: official OpenAPI document, `listConfigurationAuditLogs`;
//! `docs/protocol/api-behaviour.md`, section 7.1.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use bowline_model::audit::{ActorRef, AuditEvent};
use bowline_model::event::Name;
use bowline_model::id::TailnetId;
use bowline_model::record;
use bowline_netmap::snapshot::Snapshot;
use bowline_store::{AuditEntry, Condition, Error, Trouble};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::{Refusal, StoreFailure};

/// Rows that are read at once.
const PAGE: usize = 500;

/// Whose events are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActorFilter {
    /// Of the actor with this id.
    Id(String),
    /// Of those in whose login name or display name this is, in any case.
    Name(String),
}

/// Which events are wanted. Of each list one entry must match; an empty one matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Who acted.
    pub actors: Vec<ActorFilter>,
    /// Texts of which one is a part of the target: of its id, name, type or property, in any case.
    pub targets: Vec<String>,
    /// Names: `TARGET.ACTION` or `TARGET.ACTION.PROPERTY`.
    pub events: BTreeSet<String>,
}

/// A place in the log: behind the event with this time and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditPlace {
    /// When the event happened.
    pub at: Timestamp,
    /// Its number in the tailnet's chain, from 1 and without gaps.
    pub number: u64,
}

/// An event of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedEvent {
    /// Its place.
    pub place: AuditPlace,
    /// Its hash in the chain: 64 hexadecimal digits.
    pub hash: String,
    /// Who acted, as people know them.
    pub actor: ActorNames,
    /// What happened. A policy file is there as its text, as long as that is kept.
    pub event: AuditEvent,
}

/// An actor, as people know them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ActorNames {
    /// Their id; empty where they have none.
    pub id: String,
    /// Login name of a user.
    pub login: String,
    /// What they are called.
    pub display: String,
    /// Tags of a device.
    pub tags: Vec<String>,
}

impl ActorNames {
    fn of(actor: &ActorRef, view: &Snapshot) -> Self {
        let named = |id: String, display: &str| Self {
            id,
            display: display.to_owned(),
            ..Self::default()
        };
        match actor {
            ActorRef::User { id, login, .. } => {
                let user = view.user(*id);
                let display = user.map_or(login.as_str(), |user| user.display_name.as_str());
                Self {
                    login: login.clone(),
                    ..named(id.stable(), display)
                }
            }
            ActorRef::OAuthClient { id, .. } => named(id.stable(), "OAuth client"),
            ActorRef::FederatedIdentity { id, .. } => named(id.stable(), "Federated identity"),
            ActorRef::Device { id, name } => {
                let device = view.device(*id);
                let tags = device.map(|entry| entry.device.tags.iter().map(ToString::to_string));
                Self {
                    tags: tags.into_iter().flatten().collect(),
                    ..named(id.stable(), name)
                }
            }
            ActorRef::AuthKey { id } => named(id.stable(), "Auth key"),
            ActorRef::Operator => named(String::new(), "Operator of the server"),
            ActorRef::System => named(String::new(), "Bowline"),
        }
    }
}

impl AuditFilter {
    fn wants(&self, actor: &ActorNames, event: &AuditEvent) -> bool {
        let any = |texts: &[&str], wanted: &str| {
            let wanted = wanted.to_lowercase();
            texts
                .iter()
                .any(|text| text.to_lowercase().contains(&wanted))
        };
        let is_actor = |filter: &ActorFilter| match filter {
            ActorFilter::Id(id) => *id == actor.id,
            ActorFilter::Name(name) => any(&[&actor.login, &actor.display], name),
        };
        let target = &event.target;
        let property = target.property.as_deref().unwrap_or_default();
        let is_target =
            |wanted: &String| any(&[&target.id, &target.name, &target.kind, property], wanted);
        (self.actors.is_empty() || self.actors.iter().any(is_actor))
            && (self.targets.is_empty() || self.targets.iter().any(is_target))
            && (self.events.is_empty() || self.events.contains(&event.name()))
    }
}

impl Engine {
    /// Reads the audit log of the actor's tailnet from `start` to `end`, both included, oldest first,
    /// behind a place if there is one. Each event that is wanted is shown to `take`, until it says that
    /// it has enough.
    ///
    /// Who may read it is the requirement of whoever asks.
    ///
    /// # Errors
    /// `NotFound` without the tailnet; when the database cannot be read.
    pub async fn read_audit_log<T>(
        &self,
        actor: &Actor,
        (start, end): (Timestamp, Timestamp),
        behind: Option<AuditPlace>,
        filter: &AuditFilter,
        mut take: impl FnMut(LoggedEvent) -> ControlFlow<T> + Send,
    ) -> Result<Option<T>, Refusal> {
        actor.check()?;
        let tailnet = actor.tailnet;
        let view = self.snapshot(tailnet).ok_or(Refusal::NotFound)?;
        let to = end
            .checked_add(SignedDuration::from_micros(1))
            .unwrap_or(Timestamp::MAX);
        let mut after = (start, 0);
        if let Some(place) = behind.filter(|place| place.at >= start) {
            after = (place.at, place.number);
        }
        loop {
            let page = self.0.store.audit_after(tailnet, after, to, PAGE).await;
            let page = page.map_err(unreadable)?;
            let is_last = page.len() < PAGE;
            for entry in page {
                after = (entry.event.at, entry.number);
                let mut logged = decode(&entry, &view)?;
                if !filter.wants(&logged.actor, &logged.event) {
                    continue;
                }
                if logged.event.name() == Name::TailnetUpdateAcl.to_string() {
                    self.with_text(tailnet, &mut logged.event.old).await?;
                    self.with_text(tailnet, &mut logged.event.new).await?;
                }
                if let ControlFlow::Break(enough) = take(logged) {
                    return Ok(Some(enough));
                }
            }
            if is_last {
                return Ok(None);
            }
        }
    }

    /// Puts the text of a policy file in the place of its version.
    async fn with_text(&self, tailnet: TailnetId, value: &mut Value) -> Result<(), Refusal> {
        let version = value.get("version").and_then(Value::as_str);
        if let Some(version) = version
            && let Some(text) = self
                .0
                .store
                .text(tailnet, version)
                .await
                .map_err(unreadable)?
        {
            *value = Value::String(text.body.into());
        }
        Ok(())
    }
}

fn decode(entry: &AuditEntry, view: &Snapshot) -> Result<LoggedEvent, StoreFailure> {
    let event: AuditEvent = record::decode(&entry.event.body)
        .map_err(|error| StoreFailure::Unavailable(Trouble::new(Condition::Damaged, error)))?;
    Ok(LoggedEvent {
        place: AuditPlace {
            at: entry.event.at,
            number: entry.number,
        },
        hash: bowline_store::hex(&entry.hash),
        actor: ActorNames::of(&event.actor, view),
        event,
    })
}

fn unreadable(error: Error) -> StoreFailure {
    match error {
        Error::Unavailable(trouble) => StoreFailure::Unavailable(trouble),
        other @ Error::Malformed(_) => {
            StoreFailure::Unavailable(Trouble::new(Condition::Failed, other))
        }
    }
}
