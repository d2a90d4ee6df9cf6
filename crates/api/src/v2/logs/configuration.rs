//! `GET /tailnet/{tailnet}/logging/configuration`: list configuration audit logs.
//!
//! Source: official OpenAPI document, `listConfigurationAuditLogs`;
//! `docs/protocol/api-behaviour.md`, sections 7.1 and 7.2.

use std::ops::ControlFlow;

use bowline_engine::logs::audit_log::{ActorFilter, AuditFilter, AuditPlace, LoggedEvent};
use bowline_model::audit::{ActorRef, Origin};
use bowline_model::event::Name;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::{Call, FromQuery, Pairs};
use crate::error::ApiError;
use crate::text::{Time, exact_time, parse_time};

/// The most events of an answer.
const EVENTS_MAX: usize = 100_000;
/// The most bytes of their JSON.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// The most values of a filter.
const VALUES_MAX: usize = 100;

/// Which events are listed.
#[derive(Debug, JsonSchema)]
#[schemars(rename_all = "camelCase")]
pub(crate) struct Wanted {
    /// Not before this, in RFC 3339.
    #[schemars(with = "String")]
    start: Timestamp,
    /// Not after this, in RFC 3339.
    #[schemars(with = "String")]
    end: Timestamp,
    /// Who acted: an id, or `~` and a part of a login name or display name. Several: one of them.
    #[schemars(with = "Option<Vec<String>>")]
    actor: Vec<ActorFilter>,
    /// A part of the target's id, name, type or property. Several: one of them.
    #[schemars(with = "Option<Vec<String>>")]
    target: Vec<String>,
    /// Name of an event, `TARGET.ACTION` or `TARGET.ACTION.PROPERTY`. Several: one of them.
    #[schemars(with = "Option<Vec<String>>")]
    event: std::collections::BTreeSet<String>,
    /// The most events of the answer, 1 to 100000. Without it all are there, or none.
    #[schemars(with = "Option<u32>")]
    limit: Option<usize>,
    /// `nextCursor` of the answer before.
    #[schemars(with = "Option<String>")]
    cursor: Option<AuditPlace>,
}

/// A place as a text: the time in microseconds since 1970, and the number.
fn cursor(place: AuditPlace) -> String {
    format!("{}-{}", place.at.as_microsecond(), place.number)
}

fn parse_cursor(text: &str) -> Option<AuditPlace> {
    let (at, number) = text.rsplit_once('-')?;
    Some(AuditPlace {
        at: Timestamp::from_microsecond(at.parse().ok()?).ok()?,
        number: number.parse().ok()?,
    })
}

impl FromQuery for Wanted {
    fn read(pairs: Pairs) -> Result<Self, ApiError> {
        let time = |name: &str, text: &str| {
            parse_time(text).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "invalid {name} {text:?}: expected an RFC 3339 time, like 2030-01-02T15:04:05Z"
                ))
            })
        };
        let (mut start, mut end) = (None, None);
        let mut wanted = Self {
            start: Timestamp::MIN,
            end: Timestamp::MAX,
            actor: Vec::new(),
            target: Vec::new(),
            event: std::collections::BTreeSet::new(),
            limit: None,
            cursor: None,
        };
        for (key, value) in pairs {
            // Lists come as repeated parameters, and from some clients with commas.
            let values = || value.split(',').filter(|value| !value.is_empty());
            match key.as_str() {
                "start" => start = Some(time("start", &value)?),
                "end" => end = Some(time("end", &value)?),
                "actor" => wanted.actor.extend(values().map(|one| {
                    one.strip_prefix('~').map_or_else(
                        || ActorFilter::Id(one.to_owned()),
                        |name| ActorFilter::Name(name.to_owned()),
                    )
                })),
                "target" => wanted.target.extend(values().map(str::to_owned)),
                "event" => {
                    for name in values() {
                        if !Name::ALL.iter().any(|one| one.to_string() == name) {
                            return Err(ApiError::bad_request(format!("unknown event {name:?}")));
                        }
                        wanted.event.insert(name.to_owned());
                    }
                }
                "limit" => {
                    let limit = value.parse().ok().filter(|n| (1..=EVENTS_MAX).contains(n));
                    wanted.limit = Some(limit.ok_or_else(|| {
                        ApiError::bad_request(format!("limit must be 1 to {EVENTS_MAX}"))
                    })?);
                }
                "cursor" => {
                    let place = parse_cursor(&value);
                    wanted.cursor = Some(place.ok_or_else(|| {
                        ApiError::bad_request(format!("invalid cursor {value:?}"))
                    })?);
                }
                _ => {}
            }
        }
        let missing = |name| ApiError::bad_request(format!("{name} is required"));
        wanted.start = start.ok_or_else(|| missing("start"))?;
        wanted.end = end.ok_or_else(|| missing("end"))?;
        if wanted.start > wanted.end {
            return Err(ApiError::bad_request("start must not be after end"));
        }
        for count in [wanted.actor.len(), wanted.target.len(), wanted.event.len()] {
            if count > VALUES_MAX {
                return Err(ApiError::bad_request(format!(
                    "a filter has at most {VALUES_MAX} values"
                )));
            }
        }
        Ok(wanted)
    }
}

/// Configuration audit logs of a time.
#[derive(JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(
    dead_code,
    reason = "the answer's form; what is sent is written event by event"
)]
pub(crate) struct AuditLogs {
    /// Version of this form: `1.1`.
    version: String,
    /// Name of the tailnet.
    tailnet: String,
    /// Id of the tailnet.
    tailnet_id: String,
    /// The events, oldest first.
    logs: Vec<ConfigurationAuditLog>,
    /// With `limit`: where the next answer begins. Absent: there are no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

// Source: official OpenAPI document, `ConfigurationAuditLog`.
/// An event of the audit log.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ConfigurationAuditLog {
    event_time: Time,
    /// Always `CONFIG`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Always the zero time: no event waits.
    deferred_at: &'static str,
    /// The same for all events of one request.
    #[serde(rename = "eventGroupID")]
    event_group_id: String,
    /// Where it came from: `CONFIG_API`, `CONTROL` or `NODE`.
    #[schemars(with = "String")]
    origin: Origin,
    actor: AuditActor,
    target: AuditTarget,
    /// What was done.
    action: String,
    /// The value before.
    #[serde(skip_serializing_if = "Value::is_null")]
    old: Value,
    /// The value after.
    #[serde(skip_serializing_if = "Value::is_null")]
    new: Value,
    /// More about it, such as a reason that the caller gave.
    #[serde(skip_serializing_if = "Option::is_none")]
    action_details: Option<String>,
    /// Why it was not done.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Its number in the chain of the tailnet's events, from 1 and without gaps.
    number: u64,
    /// Its hash in that chain: SHA-256, 64 hexadecimal digits.
    hash: String,
}

/// Who acted.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AuditActor {
    /// Id of the user, device or credential; empty where there is none.
    id: String,
    /// `USER`, `NODE`, `OAUTH_CLIENT` or `AUTOMATED_WORKER`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Login name at that time.
    login_name: String,
    display_name: String,
    /// Tags of a device, as they are now.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
}

/// What it was done to.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct AuditTarget {
    id: String,
    /// Name at that time.
    name: String,
    #[serde(rename = "type")]
    kind: String,
    /// The property that changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    property: Option<String>,
    /// Whether it is an ephemeral device.
    #[serde(skip_serializing_if = "Option::is_none")]
    is_ephemeral: Option<bool>,
}

impl ConfigurationAuditLog {
    fn new(logged: LoggedEvent) -> Self {
        let LoggedEvent {
            place,
            actor,
            event,
            hash,
        } = logged;
        let kind = match event.actor {
            ActorRef::User { .. } | ActorRef::Operator => "USER",
            ActorRef::OAuthClient { .. } | ActorRef::FederatedIdentity { .. } => "OAUTH_CLIENT",
            ActorRef::Device { .. } | ActorRef::AuthKey { .. } => "NODE",
            ActorRef::System => "AUTOMATED_WORKER",
        };
        Self {
            event_time: exact_time(event.at),
            kind: "CONFIG",
            deferred_at: "0001-01-01T00:00:00Z",
            event_group_id: event.event_group_id.to_string(),
            origin: event.origin,
            actor: AuditActor {
                id: actor.id,
                kind,
                login_name: actor.login,
                display_name: actor.display,
                tags: actor.tags,
            },
            target: AuditTarget {
                id: event.target.id,
                name: event.target.name,
                kind: event.target.kind,
                property: event.target.property,
                is_ephemeral: event.target.is_ephemeral,
            },
            action: event.action,
            old: event.old,
            new: event.new,
            action_details: event.details,
            error: event.error,
            number: place.number,
            hash,
        }
    }
}

/// What comes before and after the events of an answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Frame<'a> {
    version: &'static str,
    tailnet: &'a str,
    tailnet_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl Shape for Frame<'_> {
    type Schema = AuditLogs;
}

/// Why no more events are taken.
enum Enough {
    /// The answer is full; this is the last event in it.
    Full(AuditPlace),
    Failed(serde_json::Error),
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), Wanted>,
) -> Result<Encoded<AuditLogs>, ApiError> {
    let wanted = call.query;
    let snapshot = api.snapshot(call.actor.tailnet)?;
    // Each may be long: they take turns.
    let Ok(_turn) = api.logs_read.acquire().await else {
        return Err(ApiError::starting());
    };
    let filter = AuditFilter {
        actors: wanted.actor,
        targets: wanted.target,
        events: wanted.event,
    };
    let limit = wanted.limit.unwrap_or(EVENTS_MAX);
    let (mut events, mut count, mut last) = (Vec::new(), 0, None);
    let take = |logged: LoggedEvent| {
        let place = logged.place;
        if let Some(last) = last.filter(|_| count == limit || events.len() > BYTES_MAX) {
            return ControlFlow::Break(Enough::Full(last));
        }
        if count > 0 {
            events.push(b',');
        }
        count += 1;
        last = Some(place);
        match serde_json::to_writer(&mut events, &ConfigurationAuditLog::new(logged)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(Enough::Failed(error)),
        }
    };
    let times = (wanted.start, wanted.end);
    let outcome = api
        .engine
        .read_audit_log(&call.actor, times, wanted.cursor, &filter, take)
        .await?;
    let next_cursor = match outcome {
        None => None,
        Some(Enough::Full(last)) if wanted.limit.is_some() => Some(cursor(last)),
        // A part of it would look like all of it to whoever does not know of cursors.
        Some(Enough::Full(_)) => {
            return Err(ApiError::bad_request(
                "too many events: narrow start and end, or page through them with limit and cursor",
            ));
        }
        Some(Enough::Failed(error)) => {
            return Err(ApiError::defect("an audit event cannot be encoded", &error));
        }
    };
    let frame = Frame {
        version: "1.1",
        tailnet: &snapshot.tailnet().name,
        tailnet_id: snapshot.tailnet().id.stable(),
        next_cursor,
    };
    let frame = serde_json::to_vec(&frame)
        .map_err(|error| ApiError::defect("an answer cannot be encoded", &error))?;
    let mut bytes = frame;
    bytes.pop();
    bytes.extend_from_slice(b",\"logs\":[");
    bytes.append(&mut events);
    bytes.extend_from_slice(b"]}");
    Ok(Encoded::before(bytes.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::pairs;

    #[test]
    fn what_is_wanted_has_two_times_and_known_events() {
        let read = |query: &str| Wanted::read(pairs(Some(query)));
        let times = "start=2026-01-02T03:04:05Z&end=2026-01-03T03:04:05%2B01:00";
        let wanted = read(&format!(
            "{times}&actor=~bob&actor=u1CNTRL,u2CNTRL&target=x&event=NODE.CREATE,USER.DELETE&limit=5&cursor=-5-7"
        ))
        .unwrap();
        assert_eq!(wanted.start, "2026-01-02T03:04:05Z".parse().unwrap());
        assert_eq!(wanted.end, "2026-01-03T02:04:05Z".parse().unwrap());
        let id = |id: &str| ActorFilter::Id(id.to_owned());
        assert_eq!(
            wanted.actor,
            [
                ActorFilter::Name("bob".to_owned()),
                id("u1CNTRL"),
                id("u2CNTRL")
            ]
        );
        assert_eq!(wanted.event.len(), 2);
        assert_eq!(wanted.limit, Some(5));
        let place = wanted.cursor.unwrap();
        assert_eq!((place.at.as_microsecond(), place.number), (-5, 7));
        assert_eq!(cursor(place), "-5-7");
        for (query, text) in [
            ("", "start is required"),
            ("start=2026-01-02T03:04:05Z", "end is required"),
            (
                "start=yesterday&end=2026-01-02T03:04:05Z",
                "invalid start \"yesterday\": expected an RFC 3339 time, like 2030-01-02T15:04:05Z",
            ),
            (
                "start=2026-01-02T03:04:06Z&end=2026-01-02T03:04:05Z",
                "start must not be after end",
            ),
            (
                &format!("{times}&event=NODE.FLY"),
                "unknown event \"NODE.FLY\"",
            ),
            (&format!("{times}&limit=0"), "limit must be 1 to 100000"),
            (&format!("{times}&cursor=x"), "invalid cursor \"x\""),
        ] {
            assert_eq!(read(query).unwrap_err().message, text);
        }
        let many = "x,".repeat(101);
        let error = read(&format!("{times}&target={many}")).unwrap_err();
        assert_eq!(error.message, "a filter has at most 100 values");
    }
}
