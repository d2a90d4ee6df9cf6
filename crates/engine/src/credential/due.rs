//! What falls due of a credential: its expiry. Some time after its end retention removes it.

use bowline_model::credential::Credential;
use bowline_model::event::{CredentialRef, Event};
use bowline_model::id::KeyId;
use bowline_model::kind::Kind;
use bowline_netmap::snapshot::Snapshot;
use jiff::Timestamp;

use crate::core::draft::Draft;
use crate::core::due::{Moments, Rule, Silence};

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
    let has_ended = credential.revoked.is_some() || credential.expired.is_some();
    credential.expires.filter(|_| !has_ended)
}

fn run(draft: &mut Draft<'_>, id: KeyId) {
    let now = draft.now();
    draft.changes.touch::<Credential>(id);
    let Some(credential) = draft.view().credential(id).cloned() else {
        return;
    };
    let is_expired = credential.is_expired(now);
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
