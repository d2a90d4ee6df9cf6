//! What falls due of a credential: a reminder that it expires, and its expiry. Some time after its end
//! retention removes it.

use bowline_model::credential::Credential;
use bowline_model::event::{CredentialRef, Event};
use bowline_model::id::KeyId;
use bowline_model::kind::Kind;
use bowline_netmap::snapshot::Snapshot;
use jiff::{SignedDuration, Timestamp};

use crate::core::draft::Draft;
use crate::core::due::{Moments, Rule, Spans};

pub(crate) const RULE: Rule = Rule {
    kind: Kind::Key,
    moments,
    run: |draft, id, _, spans| {
        if let Some(id) = KeyId::new(id) {
            run(draft, id, spans);
        }
    },
};

fn moments(snapshot: &Snapshot, id: u64, spans: Spans) -> Moments {
    let credential = KeyId::new(id).and_then(|id| snapshot.credential(id));
    credential.map_or_else(Moments::default, |credential| Moments {
        due: credential_due(credential, spans),
        told: credential.expired.and(credential.expires),
    })
}

fn credential_due(credential: &Credential, spans: Spans) -> Option<Timestamp> {
    let has_ended = credential.revoked.is_some() || credential.expired.is_some();
    let expires = credential.expires.filter(|_| !has_ended)?;
    Some(reminder(credential, spans).map_or(expires, |at| at.min(expires)))
}

/// When it is told ahead that a credential expires. `None`: it was told, or there is nothing to tell.
fn reminder(credential: &Credential, spans: Spans) -> Option<Timestamp> {
    let expires = credential.expires?;
    let span = SignedDuration::try_from(spans.reminder).ok()?;
    let is_told = credential.expiry_told == Some(expires);
    let has_ended = credential.revoked.is_some() || credential.expired.is_some();
    // Who makes a key for an hour knows that it ends, and nobody renews one that was used up.
    let is_worth_it = !span.is_zero()
        && expires.duration_since(credential.created) > span
        && !credential.is_used_up();
    let is_due = is_worth_it && !is_told && !has_ended;
    is_due.then(|| expires.checked_sub(span).unwrap_or(Timestamp::MIN))
}

fn run(draft: &mut Draft<'_>, id: KeyId, spans: Spans) {
    let now = draft.now();
    draft.changes.touch::<Credential>(id);
    let Some(credential) = draft.view().credential(id).cloned() else {
        return;
    };
    let mut changed = (*credential).clone();
    let expired = expire(draft, &mut changed);
    // Of what has expired meanwhile that alone is told.
    let reminded = !changed.is_expired(now) && remind(draft, &mut changed, spans);
    if expired || reminded {
        draft.put(changed);
    }
}

/// Tells that a credential is about to expire, once for each moment of expiry.
fn remind(draft: &mut Draft<'_>, credential: &mut Credential, spans: Spans) -> bool {
    if reminder(credential, spans).is_none_or(|at| at > draft.now()) {
        return false;
    }
    credential.expiry_told = credential.expires;
    let told = CredentialRef::of(credential);
    tracing::warn!(
        tailnet.id = %draft.view().id(),
        key.id = %credential.id.stable(),
        key.kind = told.name,
        key.description = credential.description,
        expires = credential.expires.map(tracing::field::display),
        "a key expires soon: who needs it makes another one"
    );
    draft.audit(Event::CredentialExpiring {
        credential: told,
        expires: credential.expires,
    });
    true
}

/// Marks a credential that has expired, and takes the mark back where its time has not come after all.
fn expire(draft: &mut Draft<'_>, credential: &mut Credential) -> bool {
    let now = draft.now();
    let is_expired = credential.is_expired(now);
    if credential.revoked.is_some() && is_expired || credential.expired.is_some() == is_expired {
        return false;
    }
    let (told, expires) = (CredentialRef::of(credential), credential.expires);
    draft.audit(if is_expired {
        Event::CredentialExpired {
            credential: told,
            expires,
        }
    } else {
        Event::CredentialRestored {
            credential: told,
            expires,
        }
    });
    credential.expired = is_expired.then_some(now);
    true
}
