//! Webhooks: endpoints that are told of events, what waits to be told, and what could not be.
//!
//! An endpoint ([`WebhookEndpoint`]) is a hot record. A notice ([`Notice`]) is one event that endpoints
//! are to be told of; notices of a tailnet are a log in the order of their ids. How far each endpoint
//! has been told is its [`Progress`], and what it was never told an [`Undelivered`]. These three are in
//! the database only.
//!
//! Source: official OpenAPI document, `Webhook`; `docs/protocol/api-behaviour.md`, section 6.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::WebhookEvent;
use crate::id::{NoticeId, TailnetId, WebhookId};
use crate::kind::{Cold, Kind, Stored};
use crate::record::{RawJson, Record};
use crate::secret::SecretHash;

/// The most endpoints of one tailnet. Each of them costs a request for each event.
pub const ENDPOINTS_MAX: usize = 20;
/// The longest URL of an endpoint, in bytes.
pub const URL_MAX: usize = 2048;

/// An endpoint that is told of events. Its secret is not in it: that is sealed in the database, since
/// every request is signed with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookEndpoint {
    /// Its id. The credential id in its secret's text has the same number.
    pub id: WebhookId,
    /// Where requests go to, `https://…`.
    pub url: String,
    /// The product whose incoming webhook it is. Absent: it takes the official JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// What it is told of, as its maker said it: a category stays a category.
    pub subscriptions: BTreeSet<Subscription>,
    /// Login name of the user who made it. Empty: no user did.
    #[serde(default)]
    pub creator: String,
    /// When it was made.
    pub created: Timestamp,
    /// When its subscriptions or its secret were changed last; at first, when it was made.
    pub updated: Timestamp,
    /// Hash of its secret's whole text, by which a secret that was found is known.
    pub hash: SecretHash,
    /// Until when requests are signed with the former secret too. Absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_until: Option<Timestamp>,
}

impl WebhookEndpoint {
    /// Whether it is told of events of this type that concern others than itself.
    pub fn is_told_of(&self, event: WebhookEvent) -> bool {
        self.subscriptions.iter().any(|one| one.includes(event))
    }
}

impl Record for WebhookEndpoint {
    const VERSION: u32 = 1;
}

impl Stored for WebhookEndpoint {
    const KIND: Kind = Kind::Webhook;
    const NAME: &'static str = "webhook";
    const TABLE: &'static str = "webhooks";
    type Id = WebhookId;

    fn id(&self, _: TailnetId) -> WebhookId {
        self.id
    }
}

/// A product whose incoming webhooks take a form of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Slack.
    Slack,
    /// Mattermost.
    Mattermost,
    /// Google Chat.
    GoogleChat,
    /// Discord.
    Discord,
}

impl Provider {
    /// All of them, in the order of the official document.
    pub const ALL: [Self; 4] = [
        Self::Slack,
        Self::Mattermost,
        Self::GoogleChat,
        Self::Discord,
    ];

    /// The API's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Mattermost => "mattermost",
            Self::GoogleChat => "googlechat",
            Self::Discord => "discord",
        }
    }

    /// Reads the API's word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == text)
    }
}

/// What an endpoint asks to be told of: events of one type, or of a category, with those that come to
/// it later. Its text is the official name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Subscription {
    /// Events of this type.
    Event(WebhookEvent),
    /// `categoryTailnetManagement`: everything about devices, users and the policy file.
    TailnetManagement,
    /// `categoryDeviceMisconfigurations`: devices that cannot do what they are set up for.
    DeviceMisconfigurations,
}

impl Subscription {
    /// The official name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event(event) => event.as_str(),
            Self::TailnetManagement => "categoryTailnetManagement",
            Self::DeviceMisconfigurations => "categoryDeviceMisconfigurations",
        }
    }

    /// All of them: the types in the order of the official document, then the categories.
    pub fn all() -> impl Iterator<Item = Self> {
        WebhookEvent::ALL
            .into_iter()
            .map(Self::Event)
            .chain([Self::TailnetManagement, Self::DeviceMisconfigurations])
    }

    /// Reads an official name. `None`: there is nothing of this name that can be subscribed to.
    pub fn parse(text: &str) -> Option<Self> {
        Self::all().find(|one| one.as_str() == text)
    }

    /// Whether events of this type are meant by it.
    pub fn includes(self, event: WebhookEvent) -> bool {
        match self {
            Self::Event(own) => own == event,
            Self::TailnetManagement => event.is_management(),
            Self::DeviceMisconfigurations => event.is_misconfiguration(),
        }
    }
}

impl fmt::Display for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Subscription> for String {
    fn from(subscription: Subscription) -> Self {
        subscription.as_str().to_owned()
    }
}

/// A text that is not a subscription.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a webhook event that can be subscribed to")]
pub struct NotASubscription(String);

impl TryFrom<String> for Subscription {
    type Error = NotASubscription;

    fn try_from(text: String) -> Result<Self, NotASubscription> {
        Self::parse(&text).ok_or(NotASubscription(text))
    }
}

/// One event that endpoints are to be told of, as they are told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// Its id. Notices of a tailnet are in the order of their ids.
    pub id: NoticeId,
    /// Who is told.
    pub to: BTreeSet<WebhookId>,
    /// When the event happened.
    pub at: Timestamp,
    /// Official name of its type.
    pub event: String,
    /// Organisation name of the tailnet at that time.
    pub tailnet: String,
    /// What happened, for people, in a line.
    pub message: String,
    /// What it is about, as a JSON object; `null`: there is nothing to be said.
    pub data: RawJson,
    /// Members of `data` that are large texts, with the SHA-256 by which each is kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub texts: BTreeMap<String, String>,
    /// The endpoint, where it is deleted by the change that it is told of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub farewell: Option<Farewell>,
    /// When it is forgotten, told or not.
    pub expires: Timestamp,
}

/// What is left of a deleted endpoint, to tell it so. Its secret is kept until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Farewell {
    /// Its URL.
    pub url: String,
    /// Its provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
}

impl Record for Notice {
    const VERSION: u32 = 1;
}

impl Stored for Notice {
    const KIND: Kind = Kind::Notice;
    const NAME: &'static str = "notice";
    const TABLE: &'static str = "webhook_notices";
    type Id = NoticeId;

    fn id(&self, _: TailnetId) -> NoticeId {
        self.id
    }
}

impl Cold for Notice {
    fn expires(&self) -> Option<Timestamp> {
        Some(self.expires)
    }
}

/// How far an endpoint has been told, and how the last attempts went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The endpoint.
    pub endpoint: WebhookId,
    /// Every notice for it up to this id was delivered or given up.
    pub after: NoticeId,
    /// How many attempts failed since the last that did not.
    #[serde(default)]
    pub failures: u32,
    /// Not before this is another attempt made. Absent: at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// Why the last attempt failed. Absent: it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When something was delivered last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Timestamp>,
}

impl Progress {
    /// Of an endpoint that was told nothing and is told what comes after a notice.
    pub const fn of_new(endpoint: WebhookId, after: NoticeId) -> Self {
        Self {
            endpoint,
            after,
            failures: 0,
            retry_at: None,
            error: None,
            delivered: None,
        }
    }
}

impl Record for Progress {
    const VERSION: u32 = 1;
}

impl Stored for Progress {
    const KIND: Kind = Kind::Progress;
    const NAME: &'static str = "progress";
    const TABLE: &'static str = "webhook_progress";
    type Id = WebhookId;

    fn id(&self, _: TailnetId) -> WebhookId {
        self.endpoint
    }
}

impl Cold for Progress {
    /// It goes with its endpoint.
    fn expires(&self) -> Option<Timestamp> {
        None
    }
}

/// A notice that an endpoint was not told, and is not going to be unless somebody replays it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Undelivered {
    /// Its own id: a notice may be undelivered at several endpoints.
    pub id: NoticeId,
    /// The endpoint.
    pub endpoint: WebhookId,
    /// The notice.
    pub notice: NoticeId,
    /// Official name of the event's type.
    pub event: String,
    /// When the event happened.
    pub at: Timestamp,
    /// When it was given up.
    pub given_up: Timestamp,
    /// Why the last attempt failed.
    pub error: String,
    /// When it is forgotten, with its notice.
    pub expires: Timestamp,
}

impl Record for Undelivered {
    const VERSION: u32 = 1;
}

impl Stored for Undelivered {
    const KIND: Kind = Kind::Undelivered;
    const NAME: &'static str = "undelivered";
    const TABLE: &'static str = "webhook_undelivered";
    type Id = NoticeId;

    fn id(&self, _: TailnetId) -> NoticeId {
        self.id
    }
}

impl Cold for Undelivered {
    fn expires(&self) -> Option<Timestamp> {
        Some(self.expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_reads_back_and_nothing_else_does() {
        for one in Subscription::all() {
            assert_eq!(Subscription::parse(one.as_str()), Some(one));
        }
        for text in ["", "test", "webhookDeleted", "NodeCreated", "category"] {
            assert_eq!(Subscription::parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_type_that_can_be_subscribed_to_is_in_one_category() {
        for event in WebhookEvent::ALL {
            let categories = [
                Subscription::TailnetManagement,
                Subscription::DeviceMisconfigurations,
            ];
            let including = categories.into_iter().filter(|one| one.includes(event));
            assert_eq!(including.count(), 1, "{event:?}");
        }
        for own in [
            WebhookEvent::Test,
            WebhookEvent::WebhookUpdated,
            WebhookEvent::WebhookDeleted,
        ] {
            assert!(!Subscription::all().any(|one| one.includes(own)), "{own:?}");
        }
    }
}
