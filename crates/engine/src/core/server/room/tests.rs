//! A room keeps its limits, and the places count what is in it.

use bowline_model::audit::{ActorRef, EventGroup};
use bowline_model::id::{DeviceId, TailnetId, WaitingSessionId};
use bowline_model::waiting::{SshSession, WaitingSession};

use super::*;
use crate::SystemRandom;
use crate::core::clock::Ids;
use crate::core::server::draft::ServerDraft;
use crate::core::server::state::{AllPlaces, ServerState};

type Group = <WaitingSession as Waits>::Group;

fn at(minutes: i64) -> Timestamp {
    "2026-12-01T00:00:00Z".parse::<Timestamp>().unwrap() + jiff::SignedDuration::from_mins(minutes)
}

/// A session number `number` of a tailnet, between two devices of its own.
fn session(number: u64, tailnet: u64) -> WaitingSession {
    let device = |number| DeviceId::new(number).unwrap();
    WaitingSession {
        id: WaitingSessionId::new(number).unwrap(),
        session: SshSession {
            tailnet: TailnetId::new(tailnet).unwrap(),
            source: device(number),
            target: device(number + 1000),
            user: "root".to_owned(),
        },
        since: at(0),
        expires: at(60),
        decided: None,
    }
}

/// Room for three, of each tailnet two.
const LIMITS: Limits<Group> = Limits {
    records: 3,
    share: |_| 2,
    asker: usize::MAX,
};

struct Made<'a> {
    draft: ServerDraft<'a>,
}

impl Made<'_> {
    fn enter(&mut self, entry: WaitingSession) {
        self.draft.enter(entry, &LIMITS);
    }

    fn decide(&mut self, number: u64) {
        let id = WaitingSessionId::new(number).unwrap();
        let decided = |waiting| WaitingSession {
            decided: Some(true),
            ..waiting
        };
        assert!(self.draft.change::<WaitingSession>(id, decided));
    }

    fn numbers(&self) -> Vec<u64> {
        self.draft.view().sessions.numbers().collect()
    }
}

fn with_draft(now: Timestamp, state: ServerState, run: impl FnOnce(&mut Made<'_>)) -> ServerState {
    let ids = Ids::default();
    let places = AllPlaces::of(&state);
    let draft = ServerDraft::new(state, places, now, &ids, &SystemRandom);
    let mut made = Made { draft };
    run(&mut made);
    made.draft.view().clone()
}

fn empty() -> ServerState {
    ServerState::new(Arc::new(CodeKey::new(&[1; 32])))
}

#[test]
fn in_a_full_room_the_oldest_of_the_largest_group_makes_room_and_what_is_decided_before_it() {
    with_draft(at(0), empty(), |made| {
        made.enter(session(1, 1));
        made.enter(session(2, 2));
        made.enter(session(3, 2));
        made.enter(session(4, 3));
        assert_eq!(made.numbers(), [1, 3, 4], "one of the many");
        made.decide(4);
        made.enter(session(5, 3));
        assert_eq!(made.numbers(), [1, 3, 5]);
        // A group at its limit loses its own.
        made.enter(session(6, 3));
        made.enter(session(7, 3));
        assert_eq!(made.numbers(), [3, 6, 7]);
    });
}

#[test]
fn whose_time_is_over_is_not_found_and_makes_room() {
    let state = with_draft(at(0), empty(), |made| {
        for number in 1..=3 {
            made.enter(session(number, number));
        }
    });
    let room = &state.sessions;
    let key = session(2, 2).session;
    assert!(room.by_key(&key, at(59)).is_some() && room.by_key(&key, at(60)).is_none());
    assert_eq!((room.all(at(59)).count(), room.all(at(60)).count()), (3, 0));
    assert_eq!(room.next_expiry(), Some(at(60)));
    let after = with_draft(at(60), state.clone(), |made| {
        let late = WaitingSession {
            expires: at(120),
            ..session(4, 4)
        };
        made.enter(late);
        assert_eq!(made.numbers(), [4]);
    });
    // A state that readers hold stays as it was.
    assert_eq!((state.sessions.len(), after.sessions.len()), (3, 1));
}

#[test]
fn a_record_is_found_by_its_code_for_as_long_as_it_is_there() {
    let state = with_draft(at(0), empty(), |made| made.enter(session(1, 1)));
    let code = state.code(session(1, 1).code().unwrap()).to_string();
    let found = state.sessions.by_code(&code, at(1)).unwrap();
    assert_eq!(found.record, session(1, 1));
    assert!(state.sessions.by_code(&code, at(60)).is_none());
    let gone = with_draft(at(1), state, |made| made.draft.remove::<WaitingSession>(1));
    assert!(gone.sessions.by_code(&code, at(1)).is_none());
    assert!(gone.sessions.by_code.is_empty() && gone.sessions.by_expiry.is_empty());
}

#[test]
fn what_came_and_went_in_one_draft_is_not_written() {
    let state = with_draft(at(0), empty(), |made| made.enter(session(1, 1)));
    with_draft(at(1), state.clone(), |made| {
        made.draft
            .begin_change(ActorRef::System, EventGroup::new([0; 16]));
        for number in 2..10 {
            made.enter(session(number, 1));
        }
        let transaction = made.draft.transaction(&state).unwrap().unwrap();
        let puts: Vec<u64> = transaction.batch.puts.iter().map(|put| put.id).collect();
        let deletes: Vec<u64> = transaction.batch.deletes.iter().map(|one| one.id).collect();
        assert_eq!((puts, deletes), (vec![8, 9], vec![1]));
    });
}

/// The law of the state: what is built from rows is what the changes made that wrote them.
#[test]
fn a_state_that_is_read_from_rows_is_the_one_that_changes_made() {
    let mut state = empty();
    let mut dice = 1_u64;
    for number in 1..400 {
        let mut next = |sides: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (dice >> 33) % sides
        };
        // Few keys, so that several wait under one.
        let entry = WaitingSession {
            expires: at(60 + i64::try_from(number).unwrap()),
            session: session(next(4) + 1, next(3) + 1).session,
            ..session(number, 1)
        };
        let (now, older) = (at(i64::try_from(next(30) + number / 2).unwrap()), next(5));
        state = with_draft(now, state, |made| {
            let all = made.numbers();
            match all.get(usize::try_from(older).unwrap()) {
                Some(decided) if next(2) == 0 => made.decide(*decided),
                Some(gone) => made.draft.remove::<WaitingSession>(*gone),
                None => {}
            }
            made.draft.enter(
                entry,
                &Limits {
                    records: 9,
                    share: |_| 4,
                    ..LIMITS
                },
            );
        });
        let mut read = empty();
        for (kind, number) in state.all() {
            let put = state.row(kind, number).unwrap().unwrap();
            let row = bowline_store::Row {
                kind,
                id: number,
                seq: 1,
                body: put.body,
            };
            read.put_row(&row).unwrap();
        }
        let (ours, theirs) = (&state.sessions, &read.sessions);
        assert_eq!(ours.records, theirs.records);
        assert!(ours.by_key == theirs.by_key && ours.by_expiry == theirs.by_expiry);
        assert!(ours.by_code == theirs.by_code, "{number}");
    }
    assert!(state.sessions.len() > 3);
}
