//! What is remembered of access tokens.

use std::collections::BTreeSet;

use bowline_model::secret::SecretHash;

use super::*;

fn known(id: u64, expires: Timestamp, epoch: u64) -> Known {
    Known {
        tailnet: TailnetId::MIN,
        token: AccessToken {
            id: KeyId::new(id).unwrap(),
            hash: SecretHash::of("secret"),
            parent: KeyId::MIN,
            scopes: Scopes::all(),
            tags: BTreeSet::new(),
            narrows_tags: false,
            created: Timestamp::UNIX_EPOCH,
            expires,
            revoked: None,
        },
        epoch,
    }
}

#[test]
fn a_full_memory_forgets_those_that_expired_and_then_the_oldest() {
    let tokens = KnownTokens::default();
    let now = Timestamp::UNIX_EPOCH;
    let later = now + SignedDuration::from_secs(1);
    let most = u64::try_from(REMEMBERED_MAX).unwrap();
    let held = |id| tokens.get(KeyId::new(id).unwrap(), 1).is_some();
    for id in 1..=most {
        // One in a thousand is over.
        let expires = if id % 1000 == 0 { now } else { later };
        tokens.add(known(id, expires, 1), 0, now);
    }
    assert!(held(1000));
    tokens.add(known(most + 1, later, 1), 0, now);
    assert!(held(1) && held(most + 1) && !held(1000));
    for id in most + 2..=most + 102 {
        tokens.add(known(id, later, 1), 0, now);
    }
    assert!(!held(1) && held(most - 1) && held(most + 102));
    assert!(tokens.tokens.pin().len() < REMEMBERED_MAX * 4 / 5);
}

#[test]
fn what_was_read_before_a_removal_is_not_remembered() {
    let tokens = KnownTokens::default();
    let now = Timestamp::UNIX_EPOCH;
    let later = now + SignedDuration::from_secs(1);
    let id = KeyId::new(7).unwrap();
    let before = tokens.removals();
    tokens.remove(id);
    tokens.add(known(7, later, 1), before, now);
    assert!(tokens.get(id, 1).is_none());
    tokens.add(known(7, later, 1), tokens.removals(), now);
    assert!(tokens.get(id, 1).is_some());
    // Nor what was read before another process had the database.
    assert!(tokens.get(id, 2).is_none());
}
