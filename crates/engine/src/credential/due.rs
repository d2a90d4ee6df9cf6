//! What falls due of a credential: its expiry, and its removal some time after its end.

use bowline_model::credential::Credential;
use bowline_model::event::{CredentialRef, Event};
use bowline_model::id::KeyId;
use bowline_model::kind::Kind;
use bowline_netmap::snapshot::Snapshot;
use jiff::{SignedDuration, Timestamp};

use crate::core::draft::Draft;
use crate::core::due::{Moments, Rule, Silence};

/// How long a revoked or expired credential can still be read.
const CREDENTIAL_RETENTION: SignedDuration = SignedDuration::from_hours(90 * 24);

pub(crate) const RULE: Rule = Rule {
    kind: Kind::Key,
    moments,
    run: |draft, id, _, _| {
        if let Some(id) = KeyId::new(id) {
            run(draft, id);
        }
    },
};

fn moments(snapshot: &Snapshot, id: u64, _: Silence) -> Moments {
    let credential = KeyId::new(id).and_then(|id| snapshot.credential(id));
    credential.map_or_else(Moments::default, |credential| Moments {
        due: credential_due(credential),
        told: credential.expired.and(credential.expires),
    })
}

fn credential_due(credential: &Credential) -> Option<Timestamp> {
    match credential.revoked.or(credential.expired) {
        Some(ended) => ended.checked_add(CREDENTIAL_RETENTION).ok(),
        None => credential.expires,
    }
}

fn run(draft: &mut Draft<'_>, id: KeyId) {
    let now = draft.now();
    draft.changes.touch::<Credential>(id);
    let Some(credential) = draft.view().credential(id).cloned() else {
        return;
    };
    let is_expired = credential.is_expired(now);
    let ended = credential.revoked.is_some() || credential.expired.is_some();
    if ended && credential_due(&credential).is_some_and(|due| due <= now) {
        draft.remove::<Credential>(id);
        return;
    }
    if credential.revoked.is_some() && is_expired || credential.expired.is_some() == is_expired {
        return;
    }
    let (told, expires) = (CredentialRef::of(&credential), credential.expires);
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
    draft.put(Credential {
        expired: is_expired.then_some(now),
        ..(*credential).clone()
    });
}
