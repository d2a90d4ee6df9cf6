//! Issuers' keys: fetched when a token needs them, kept, and fetched again when they are old or a token
//! names one that is not among them.
//!
//! Each issuer has its turn: one request at a time asks it, the others wait for the outcome. No turn is
//! shared, so an issuer that does not answer keeps nobody waiting but those who show its tokens.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bowline_model::id::TailnetId;
use bowline_outbound::{Answer, Client, Failure, Limits, Request};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::time::timeout;

use crate::core::engine::Engine;

use super::keys::KeySet;

/// How long keys are used before newer ones are asked for, at most and at least: between them the
/// issuer says it (`Cache-Control: max-age`).
const FRESH_MAX: SignedDuration = SignedDuration::from_hours(1);
const FRESH_MIN: SignedDuration = SignedDuration::from_mins(5);
/// How long keys are used where the issuer does not answer.
const STALE_MAX: SignedDuration = SignedDuration::from_hours(24);
/// Pause between two requests for the keys of an issuer for the same cause, whoever shows which tokens.
const PAUSE: SignedDuration = SignedDuration::from_secs(30);
/// How long both documents of an issuer may take together. Clients wait for ten seconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// Issuers that are asked at once for the sake of one tailnet.
const ASKED_AT_ONCE: u32 = 4;
/// Issuers whose keys are kept.
const ISSUERS_MAX: usize = 1000;
const DISCOVERY_BYTES: usize = 64 << 10;
const KEYS_BYTES: usize = 256 << 10;

/// Why there are no keys of an issuer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unavailable {
    #[error("its {0} cannot be had")]
    Request(&'static str, #[source] Failure),
    #[error("its {0} is answered with status {1}")]
    Status(&'static str, u16),
    #[error("its {0} cannot be read")]
    Malformed(&'static str),
    #[error("its discovery document is that of another issuer")]
    OtherIssuer,
    #[error("it took too long")]
    Time,
    #[error("it did not answer a moment ago")]
    Pause,
    #[error("too many issuers of this tailnet do not answer")]
    Busy,
}

const DISCOVERY: &str = "discovery document";
const KEYS: &str = "key document (JWKS)";

/// All issuers that were asked.
#[derive(Default)]
pub(super) struct Issuers {
    entries: Mutex<HashMap<String, Arc<Issuer>>>,
    asked: Mutex<HashMap<TailnetId, u32>>,
}

/// What is known of an issuer.
struct Issuer {
    keys: ArcSwapOption<KeySet>,
    /// Held by whoever asks it.
    turn: tokio::sync::Mutex<Turn>,
    used: Mutex<Timestamp>,
}

/// When an issuer was asked last.
#[derive(Default)]
struct Turn {
    asked: Option<Timestamp>,
    /// The same for the sake of a key that was not among those that are kept.
    looked: Option<Timestamp>,
    /// Whether the last answer was none.
    has_failed: bool,
}

/// Why an issuer is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// There are no keys, or old ones.
    Age,
    /// A token names a key that is not among them.
    UnknownKey,
}

impl Turn {
    /// Whether it may be asked again. Whoever changes its key a moment after its keys were fetched is
    /// believed at once; tokens that name keys at random bring about one request in a pause.
    fn is_over(&self, now: Timestamp, cause: Cause) -> bool {
        // A clock that was set back does not lengthen the pause.
        let is_past = |last: Option<Timestamp>| {
            last.is_none_or(|last| now < last || PAUSE <= now.duration_since(last))
        };
        match cause {
            Cause::Age => is_past(self.asked),
            Cause::UnknownKey => is_past(self.looked) && (!self.has_failed || is_past(self.asked)),
        }
    }
}

/// A request for keys that is on its way; counted until it is dropped.
struct Asking<'a> {
    issuers: &'a Issuers,
    tailnet: TailnetId,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let mut asked = lock(&self.issuers.asked);
        if let Some(count) = asked.get_mut(&self.tailnet) {
            *count -= 1;
            if *count == 0 {
                asked.remove(&self.tailnet);
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Issuers {
    /// The keys of an issuer: those that are kept, or new ones.
    pub(super) async fn keys(
        &self,
        engine: &Engine,
        tailnet: TailnetId,
        url: &str,
    ) -> Result<Arc<KeySet>, Unavailable> {
        let issuer = self.issuer(url, engine.now());
        if let Some(keys) = issuer.fresh(engine.now()) {
            return Ok(keys);
        }
        let mut turn = issuer.turn.lock().await;
        if let Some(keys) = issuer.fresh(engine.now()) {
            return Ok(keys);
        }
        let asked = self
            .ask(engine, tailnet, url, &issuer, &mut turn, Cause::Age)
            .await;
        let now = engine.now();
        asked.or_else(|error| {
            let kept = issuer.keys.load_full();
            kept.filter(|kept| is_within(kept.fetched, kept.fetched + STALE_MAX, now))
                .ok_or(error)
        })
    }

    /// Keys that are newer than these, which have none for a token: those that somebody else fetched
    /// meanwhile, or new ones. `None`: there are none, or the issuer was asked a moment ago.
    pub(super) async fn newer(
        &self,
        engine: &Engine,
        tailnet: TailnetId,
        url: &str,
        than: &Arc<KeySet>,
    ) -> Option<Arc<KeySet>> {
        let issuer = self.issuer(url, engine.now());
        let mut turn = issuer.turn.lock().await;
        let kept = issuer.keys.load_full();
        if let Some(kept) = kept.filter(|kept| !Arc::ptr_eq(kept, than)) {
            return Some(kept);
        }
        self.ask(engine, tailnet, url, &issuer, &mut turn, Cause::UnknownKey)
            .await
            .ok()
    }

    async fn ask(
        &self,
        engine: &Engine,
        tailnet: TailnetId,
        url: &str,
        issuer: &Issuer,
        turn: &mut Turn,
        cause: Cause,
    ) -> Result<Arc<KeySet>, Unavailable> {
        let now = engine.now();
        if !turn.is_over(now, cause) {
            return Err(Unavailable::Pause);
        }
        let _asking = self.begin(tailnet).ok_or(Unavailable::Busy)?;
        // Before it is asked: whoever gives up waiting leaves the pause behind.
        turn.asked = Some(now);
        turn.has_failed = true;
        if cause == Cause::UnknownKey {
            turn.looked = Some(now);
        }
        let keys = timeout(PATIENCE, fetch(&engine.settings().outbound, url, now))
            .await
            .unwrap_or(Err(Unavailable::Time))?;
        let keys = Arc::new(keys);
        turn.has_failed = false;
        issuer.keys.store(Some(keys.clone()));
        Ok(keys)
    }

    fn begin(&self, tailnet: TailnetId) -> Option<Asking<'_>> {
        let mut asked = lock(&self.asked);
        let count = asked.entry(tailnet).or_default();
        if *count >= ASKED_AT_ONCE {
            return None;
        }
        *count += 1;
        Some(Asking {
            issuers: self,
            tailnet,
        })
    }

    fn issuer(&self, url: &str, now: Timestamp) -> Arc<Issuer> {
        let mut entries = lock(&self.entries);
        if let Some(issuer) = entries.get(url) {
            *lock(&issuer.used) = now;
            return issuer.clone();
        }
        if entries.len() >= ISSUERS_MAX {
            let oldest = entries
                .iter()
                .min_by_key(|(_, issuer)| *lock(&issuer.used))
                .map(|(url, _)| url.clone());
            if let Some(oldest) = oldest {
                entries.remove(&oldest);
            }
        }
        let issuer = Arc::new(Issuer {
            keys: ArcSwapOption::empty(),
            turn: tokio::sync::Mutex::default(),
            used: Mutex::new(now),
        });
        entries.insert(url.to_owned(), issuer.clone());
        issuer
    }
}

impl Issuer {
    fn fresh(&self, now: Timestamp) -> Option<Arc<KeySet>> {
        self.keys
            .load_full()
            .filter(|keys| is_within(keys.fetched, keys.fresh_until, now))
    }
}

/// Whether a moment lies in a stretch of time. Before its beginning the clock was set back, and nobody
/// knows how old the keys are.
fn is_within(begin: Timestamp, end: Timestamp, now: Timestamp) -> bool {
    begin <= now && now < end
}

async fn fetch(client: &Client, issuer: &str, now: Timestamp) -> Result<KeySet, Unavailable> {
    #[derive(Deserialize)]
    struct Discovery {
        issuer: String,
        jwks_uri: String,
    }
    let url = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let answer = get(client, &url, DISCOVERY, DISCOVERY_BYTES).await?;
    let discovery: Discovery =
        serde_json::from_slice(&answer.body).map_err(|_| Unavailable::Malformed(DISCOVERY))?;
    if discovery.issuer != issuer {
        return Err(Unavailable::OtherIssuer);
    }
    if !discovery.jwks_uri.starts_with("https://") {
        return Err(Unavailable::Malformed(DISCOVERY));
    }
    let answer = get(client, &discovery.jwks_uri, KEYS, KEYS_BYTES).await?;
    let fresh = max_age(&answer).map_or(FRESH_MAX, |age| age.clamp(FRESH_MIN, FRESH_MAX));
    KeySet::read(&answer.body, now, now + fresh).ok_or(Unavailable::Malformed(KEYS))
}

async fn get(
    client: &Client,
    url: &str,
    what: &'static str,
    answer_bytes: usize,
) -> Result<Answer, Unavailable> {
    let url = url.parse().map_err(|_| Unavailable::Malformed(what))?;
    let limits = Limits {
        connect: PATIENCE,
        whole: PATIENCE,
        answer_bytes,
    };
    let answer = client
        .send(Request::get(url, limits))
        .await
        .map_err(|error| Unavailable::Request(what, error))?;
    if answer.status != 200 {
        return Err(Unavailable::Status(what, answer.status.as_u16()));
    }
    Ok(answer)
}

/// How long an answer may be kept, as it says.
fn max_age(answer: &Answer) -> Option<SignedDuration> {
    let directives = answer.headers.get("cache-control")?.to_str().ok()?;
    let age = directives
        .split(',')
        .find_map(|directive| directive.trim().strip_prefix("max-age="))?;
    age.parse::<u32>()
        .ok()
        .map(|seconds| SignedDuration::from_secs(seconds.into()))
}
