//! The state: all rooms at one sequence number.

use std::sync::Arc;

use bowline_model::kind::{Kind, Stored as _};
use bowline_model::record::{Body, BodyError};
use bowline_model::waiting::{
    Code, CodeKey, CodeOf, ConfirmedSession, WaitingLogin, WaitingSession,
};
use bowline_store::{Put, Row};
use jiff::Timestamp;

use super::room::{Places, Room, Waits};

/// A record that has a room in the state.
pub(crate) trait InRoom: Waits {
    fn room(state: &ServerState) -> &Room<Self>;
    fn room_mut(state: &mut ServerState) -> &mut Room<Self>;
    fn places(all: &AllPlaces) -> &Places<Self>;
    fn places_mut(all: &mut AllPlaces) -> &mut Places<Self>;
}

/// One line for each kind: its room, its record.
macro_rules! rooms {
    ($($(#[$doc:meta])* $room:ident: $record:ident,)*) => {
        /// What belongs to the server, at one sequence number.
        #[derive(Debug, Clone)]
        pub(crate) struct ServerState {
            /// The newest change; 0 before the first.
            pub(crate) seq: u64,
            codes: Arc<CodeKey>,
            $($(#[$doc])* pub(crate) $room: Room<$record>,)*
        }

        /// The places of all rooms.
        #[derive(Debug)]
        pub(crate) struct AllPlaces {
            $($room: Places<$record>,)*
        }

        $(impl InRoom for $record {
            fn room(state: &ServerState) -> &Room<Self> {
                &state.$room
            }

            fn room_mut(state: &mut ServerState) -> &mut Room<Self> {
                &mut state.$room
            }

            fn places(all: &AllPlaces) -> &Places<Self> {
                &all.$room
            }

            fn places_mut(all: &mut AllPlaces) -> &mut Places<Self> {
                &mut all.$room
            }
        })*

        impl AllPlaces {
            pub(crate) fn of(state: &ServerState) -> Self {
                Self { $($room: Places::of(&state.$room),)* }
            }
        }

        impl ServerState {
            /// Nothing yet.
            pub(crate) fn new(codes: Arc<CodeKey>) -> Self {
                Self { seq: 0, codes, $($room: Room::default(),)* }
            }

            /// Takes a stored row in; rows of tailnets are passed over.
            pub(super) fn put_row(&mut self, row: &Row) -> Result<(), BodyError> {
                $(if row.kind == $record::KIND {
                    self.put(Body::<$record>::decode(&row.body)?);
                })*
                Ok(())
            }

            /// Lets a record go.
            pub(super) fn remove(&mut self, kind: Kind, number: u64) {
                $(if kind == $record::KIND {
                    self.remove_from::<$record>(number);
                })*
            }

            /// The row of a record as it stands; `None` when it is not there.
            pub(super) fn row(&self, kind: Kind, number: u64) -> Result<Option<Put>, BodyError> {
                $(if kind == $record::KIND {
                    let body = self.$room.body(number);
                    return body.map(|body| Ok(Put::new(kind, number, body.encode()?))).transpose();
                })*
                Ok(None)
            }

            /// Whether a record is there.
            pub(crate) fn has(&self, kind: Kind, number: u64) -> bool {
                $((kind == $record::KIND && self.$room.body(number).is_some()) ||)* false
            }

            /// All records, by kind and id.
            pub(super) fn all(&self) -> Vec<(Kind, u64)> {
                let mut all = Vec::new();
                $(all.extend(self.$room.numbers().map(|number| ($record::KIND, number)));)*
                all
            }

            /// When the next record's time is over.
            pub(super) fn next_expiry(&self) -> Option<Timestamp> {
                [$(self.$room.next_expiry(),)*].into_iter().flatten().min()
            }

            /// The records whose time is over.
            pub(super) fn expired(&self, now: Timestamp) -> Vec<(Kind, u64)> {
                let mut all = Vec::new();
                $(all.extend(self.$room.expired(now).into_iter().map(|number| ($record::KIND, number)));)*
                all
            }
        }
    };
}

rooms! {
    /// Devices that wait for somebody to say whose they are.
    logins: WaitingLogin,
    /// SSH sessions that wait to be confirmed.
    sessions: WaitingSession,
    /// SSH sessions that were confirmed.
    confirmed: ConfirmedSession,
}

impl ServerState {
    /// The key that codes are made with.
    pub(crate) fn codes(&self) -> &Arc<CodeKey> {
        &self.codes
    }

    /// The code of something that waits.
    pub(crate) fn code(&self, of: CodeOf) -> Code {
        self.codes.code(of)
    }

    pub(super) fn put<T: InRoom>(&mut self, body: Body<T>) {
        let codes = self.codes.clone();
        T::room_mut(self).put(body, &codes);
    }

    pub(super) fn remove_from<T: InRoom>(&mut self, number: u64) {
        let body = T::room(self).body(number);
        let code = body.and_then(|body| body.record.code());
        let code = code.map(|of| self.codes.code(of));
        let room = T::room_mut(self);
        room.remove(number);
        if let Some(code) = code {
            room.forget_code(code);
        }
    }
}
