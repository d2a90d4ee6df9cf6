//! Calls that were refused because the caller may not make them: they leave an audit event, as the
//! official service has it (`docs/protocol/api-behaviour.md`, section 5.0), so that somebody who tries doors is seen.
//!
//! An event is a row, and somebody who is refused can ask again for ever. So each caller has a few
//! events at once and then one a minute; the next one says how many calls had none.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bowline_model::event::Event;
use bowline_model::id::TailnetId;
use bowline_model::principal::PrincipalId;
use bowline_model::secret::redacted;
use jiff::{SignedDuration, Timestamp};

use crate::core::actor::Actor;
use crate::core::engine::Engine;
use crate::core::failure::Refusal;

/// Events that a caller has at once.
const BURST: u32 = 10;
/// After this time a caller has one more.
const REFILL: SignedDuration = SignedDuration::from_mins(1);
/// The most callers that are counted. One more has no events until others have been quiet.
const CALLERS_MAX: usize = 10_000;
/// How long a caller waits for the event to be stored. The refusal stands without it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest text of a request in an event, in characters.
const REQUEST_MAX: usize = 256;

/// Callers who were refused lately.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<HashMap<(TailnetId, PrincipalId), Bucket>>);

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// When it was full, or would have been.
    empty_since: Timestamp,
    left: u32,
    silent: u64,
}

impl Bucket {
    fn refill(&mut self, now: Timestamp) {
        let steps = now.duration_since(self.empty_since).as_secs() / REFILL.as_secs();
        // A clock that went back gives nothing and takes nothing.
        let steps = u32::try_from(steps).unwrap_or(if steps > 0 { u32::MAX } else { 0 });
        if steps > 0 {
            self.left = self.left.saturating_add(steps).min(BURST);
            self.empty_since = now;
        }
    }
}

impl Refusals {
    /// Whether a refusal of a caller has an event, and of how many before it had none.
    fn admit(&self, caller: (TailnetId, PrincipalId), now: Timestamp) -> Option<u64> {
        let mut callers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= CALLERS_MAX && !callers.contains_key(&caller) {
            callers.retain(|_, bucket| {
                bucket.refill(now);
                bucket.left < BURST || bucket.silent > 0
            });
            if callers.len() >= CALLERS_MAX {
                return None;
            }
        }
        let bucket = callers.entry(caller).or_insert(Bucket {
            empty_since: now,
            left: BURST,
            silent: 0,
        });
        bucket.refill(now);
        if bucket.left == 0 {
            bucket.silent += 1;
            return None;
        }
        bucket.left -= 1;
        Some(std::mem::take(&mut bucket.silent))
    }
}

impl Engine {
    /// Notes that an actor was refused a change for lack of permission: `operation` by its name,
    /// `request` as it was asked, `error` as it was answered. Bounded by caller, see the module.
    pub async fn note_refused(&self, actor: &Actor, operation: &str, request: &str, error: &str) {
        let caller = (actor.tailnet, actor.principal.id());
        let Some(silent) = self
            .0
            .memory
            .get(Refusals::default)
            .admit(caller, self.now())
        else {
            return;
        };
        let event = Event::RequestRefused {
            operation: operation.to_owned(),
            // A path may have a secret where an id belongs.
            request: redacted(request).chars().take(REQUEST_MAX).collect(),
            error: redacted(error).into_owned(),
            unnoted: silent,
        };
        let refused = actor.clone();
        // The server notes it, and in their name: they may not do anything here.
        let server = Actor::system(actor.tailnet).in_group_of(actor);
        let noted = self.write(&server, move |draft| {
            draft.act_as(refused.clone());
            draft.audit(event.clone());
            Ok::<(), Refusal>(())
        });
        match tokio::time::timeout(PATIENCE, noted).await {
            // It is in the writer's queue and is stored when the database can.
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(failure)) => {
                tracing::warn!(%failure, tailnet.id = %actor.tailnet, "a refused call left no audit event");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bowline_model::id::UserId;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn caller(number: u64) -> (TailnetId, PrincipalId) {
        let user = UserId::new(number).unwrap();
        (TailnetId::MIN, PrincipalId::User(user))
    }

    #[test]
    fn a_caller_has_a_few_events_and_then_one_a_minute() {
        let refusals = Refusals::default();
        for _ in 0..BURST {
            assert_eq!(refusals.admit(caller(1), at(0)), Some(0));
        }
        for _ in 0..5 {
            assert_eq!(refusals.admit(caller(1), at(59)), None);
        }
        assert_eq!(
            refusals.admit(caller(2), at(59)),
            Some(0),
            "another's are their own"
        );
        assert_eq!(refusals.admit(caller(1), at(60)), Some(5));
        assert_eq!(refusals.admit(caller(1), at(60)), None);
        // A clock that goes back.
        assert_eq!(refusals.admit(caller(1), at(10)), None);
        let mut admitted = 0;
        for second in 0..86_400 {
            admitted += u64::from(refusals.admit(caller(3), at(second)).is_some());
        }
        assert!(admitted <= 24 * 60 + u64::from(BURST), "{admitted}");
    }

    #[test]
    fn the_number_of_callers_that_are_counted_has_a_bound() {
        let refusals = Refusals::default();
        for number in 1..=CALLERS_MAX as u64 {
            assert!(refusals.admit(caller(number), at(0)).is_some());
        }
        assert_eq!(refusals.admit(caller(20_000), at(0)), None);
        assert_eq!(
            refusals.admit(caller(20_000), at(60)),
            Some(0),
            "the others were quiet"
        );
        assert_eq!(refusals.0.lock().unwrap().len(), 1);
    }
}
