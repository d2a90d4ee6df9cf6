//! The kinds of stored objects: the one list of them, and what each says of itself.
//!
//! A kind is a record that implements [`Stored`] and a line in [`stored_kinds!`](crate::stored_kinds).
//! Tables, statements, loading, the change log, dumps and backups follow from the two. What else a
//! new kind needs is a migration for each engine that makes its table, and `tests/bodies/<kind>.json`,
//! a body with every member; tests walk the list and say what is missing.
//!
//! A **hot** kind is in the snapshot of its tailnet: every read finds it there, and every draft has a
//! copy (of a few reference counts). A **cold** kind ([`Cold`]) is in the database only. It is written
//! in the same transactions, is read from the store when somebody asks, and may have an expiry after
//! which retention removes it. Choose cold for what is made often and read seldom: tokens of an hour,
//! deliveries, old versions of texts.

use std::fmt;

use jiff::Timestamp;

use crate::id::TailnetId;
use crate::record::Record;

/// Hands the list of all kinds to a macro, in four groups. `own`: hot, with a place of its own in the
/// snapshot of its tailnet. `tables`: hot, in a table of that snapshot by id, which has the name that
/// follows. `server`: what belongs to no tailnet. `cold`: in the database only.
#[macro_export]
macro_rules! stored_kinds {
    ($then:ident) => {
        $then! {
            own {
                /// The tailnet itself and its settings.
                Tailnet($crate::tailnet::Tailnet)
                /// A user of one tailnet.
                User($crate::user::User)
                /// A device.
                Device($crate::device::Device)
                /// The DNS configuration of a tailnet.
                Dns($crate::dns::Dns)
                /// A policy file.
                Policy($crate::policy_file::PolicyFile)
            }
            tables {
                /// A credential: auth key, API access token, OAuth client, federated identity, SCIM key.
                Key($crate::credential::Credential) credentials
                /// An endpoint that is told of events.
                Webhook($crate::webhook::WebhookEndpoint) webhooks
            }
            server {
                /// A device that waits for somebody to say whose it is. The server's.
                WaitingLogin($crate::waiting::WaitingLogin)
                /// An SSH session that waits for somebody to confirm it. The server's.
                SshCheck($crate::waiting::WaitingSession)
                /// An SSH session that somebody confirmed. The server's.
                SshConfirmation($crate::waiting::ConfirmedSession)
            }
            cold {
                /// An access token that was made from an OAuth client or a federated identity.
                AccessToken($crate::access_token::AccessToken)
                /// An event that webhook endpoints are to be told of.
                Notice($crate::webhook::Notice)
                /// How far a webhook endpoint has been told.
                Progress($crate::webhook::Progress)
                /// An event that a webhook endpoint was not told.
                Undelivered($crate::webhook::Undelivered)
            }
        }
    };
}

/// A record that has rows of its own, in a table of its own.
pub trait Stored: Record + Clone + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The record's entry in the list of kinds.
    const KIND: Kind;
    /// Its name in the change log and in dumps: one lower-case word. Never changes.
    const NAME: &'static str;
    /// Its table in the database.
    const TABLE: &'static str;
    /// Columns that the database keeps unique, beside the body. In the table each has an index
    /// `<table>_<column>`.
    const COLUMNS: &'static [Column] = &[];
    /// Its id, a number below 2^53.
    type Id: Copy + Ord + fmt::Debug + Into<u64> + TryFrom<u64> + Send + Sync + 'static;

    /// The object's id, unique in the whole server for its kind. What a tailnet has one of goes by
    /// the tailnet's.
    fn id(&self, tailnet: TailnetId) -> Self::Id;

    /// Values of its unique columns. A column that is left out is empty, and clashes with nothing.
    fn columns(&self) -> Vec<(Column, String)> {
        Vec::new()
    }
}

/// A kind whose objects are in the database only.
pub trait Cold: Stored {
    /// When the object is over: from then on nobody finds it, and retention removes it. `None`: never.
    fn expires(&self) -> Option<Timestamp>;
}

/// A column that the database keeps unique, beside the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Name of a [`Kind::Tailnet`], unique in the whole server.
    TailnetName,
    /// Login name of a [`Kind::User`], unique in its tailnet.
    UserLogin,
    /// Node key of a [`Kind::Device`], unique in the whole server.
    NodeKey,
    /// IPv6 address of a [`Kind::Device`], unique in the whole server.
    Ipv6,
}

impl Column {
    /// Its name in the table and in dumps.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TailnetName => "name",
            Self::UserLogin => "login",
            Self::NodeKey => "node_key",
            Self::Ipv6 => "ipv6",
        }
    }

    /// Whether its values are drawn at random, so that a clash is mended by drawing again.
    pub const fn is_drawn(self) -> bool {
        matches!(self, Self::Ipv6)
    }
}

impl fmt::Display for Column {
    /// What people call its values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TailnetName => "name",
            Self::UserLogin => "login name",
            Self::NodeKey => "node key",
            Self::Ipv6 => "IPv6 address",
        })
    }
}

/// One stored object: its kind and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// Its kind.
    pub kind: Kind,
    /// Its number, unique in the whole server for its kind.
    pub number: u64,
}

impl ObjectId {
    /// The object of a record's kind with this id.
    pub fn of<T: Stored>(id: T::Id) -> Self {
        Self {
            kind: T::KIND,
            number: id.into(),
        }
    }

    /// The id, where the object is of this record's kind.
    pub fn get<T: Stored>(self) -> Option<T::Id> {
        (self.kind == T::KIND)
            .then(|| T::Id::try_from(self.number).ok())
            .flatten()
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.number)
    }
}

/// Does something for a kind whose record is known only when the program runs.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it with the kind's record.
    fn visit<T: Stored>(self) -> Self::Output;
}

/// Where a kind's objects are while the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In the snapshot of their tailnet.
    Tailnet,
    /// With the server's own.
    Server,
    /// In the database only.
    Database,
}

/// What a kind says of itself.
#[derive(Debug)]
struct Spec {
    kind: Kind,
    name: &'static str,
    table: &'static str,
    columns: &'static [Column],
    place: Place,
}

impl Spec {
    const fn of<T: Stored>(place: Place) -> Self {
        Self {
            kind: T::KIND,
            name: T::NAME,
            table: T::TABLE,
            columns: T::COLUMNS,
            place,
        }
    }

    const fn cold<T: Cold>() -> Self {
        Self::of::<T>(Place::Database)
    }
}

macro_rules! define {
    (
        own { $($(#[$own_doc:meta])* $own:ident($own_record:ty))* }
        tables { $($(#[$table_doc:meta])* $table:ident($table_record:ty) $name:ident)* }
        server { $($(#[$server_doc:meta])* $server:ident($server_record:ty))* }
        cold { $($(#[$cold_doc:meta])* $cold:ident($cold_record:ty))* }
    ) => {
        /// A kind of stored object. Each has a table of its own.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $($(#[$own_doc])* $own,)*
            $($(#[$table_doc])* $table,)*
            $($(#[$server_doc])* $server,)*
            $($(#[$cold_doc])* $cold,)*
        }

        /// In the order of [`Kind`].
        const SPECS: &[Spec] = &[
            $(Spec::of::<$own_record>(Place::Tailnet),)*
            $(Spec::of::<$table_record>(Place::Tailnet),)*
            $(Spec::of::<$server_record>(Place::Server),)*
            $(Spec::cold::<$cold_record>(),)*
        ];

        impl Kind {
            /// Does something with the record of this kind.
            pub fn visit<V: Visitor>(self, visitor: V) -> V::Output {
                match self {
                    $(Self::$own => visitor.visit::<$own_record>(),)*
                    $(Self::$table => visitor.visit::<$table_record>(),)*
                    $(Self::$server => visitor.visit::<$server_record>(),)*
                    $(Self::$cold => visitor.visit::<$cold_record>(),)*
                }
            }
        }
    };
}

stored_kinds!(define);

impl Kind {
    /// Every kind.
    pub fn all() -> impl Iterator<Item = Self> {
        SPECS.iter().map(|spec| spec.kind)
    }

    /// Whether its objects are in the snapshot of their tailnet.
    pub fn is_hot(self) -> bool {
        self.spec().place == Place::Tailnet
    }

    /// Whether its objects are the server's and no tailnet's.
    pub fn is_server_wide(self) -> bool {
        self.spec().place == Place::Server
    }

    /// Whether its objects are in the database only.
    pub fn is_cold(self) -> bool {
        self.spec().place == Place::Database
    }

    /// The kind's name in the change log and in dumps: one lower-case word.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The kind's table in the database.
    pub fn table(self) -> &'static str {
        self.spec().table
    }

    /// The kind with this [`Kind::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// The unique columns that rows of this kind may have.
    pub fn columns(self) -> &'static [Column] {
        self.spec().columns
    }

    fn spec(self) -> &'static Spec {
        &SPECS[self as usize]
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_its_own_line_name_and_table() {
        for (index, spec) in SPECS.iter().enumerate() {
            assert_eq!(spec.kind as usize, index, "{spec:?}");
            assert_eq!(Kind::from_name(spec.name), Some(spec.kind));
            assert!(spec.name.bytes().all(|b| b.is_ascii_lowercase()));
        }
        let tables: BTreeSet<_> = Kind::all().map(Kind::table).collect();
        assert_eq!(tables.len(), SPECS.len());
        assert_eq!(Kind::from_name("tables"), None);
    }

    #[test]
    fn every_column_belongs_to_one_kind() {
        let mut seen = BTreeSet::new();
        for kind in Kind::all() {
            for column in kind.columns() {
                assert!(seen.insert(*column), "{column:?}");
            }
        }
    }

    #[test]
    fn an_object_is_read_back_as_its_own_kind_only() {
        let id = crate::id::DeviceId::MIN;
        let object = ObjectId::of::<crate::device::Device>(id);
        assert_eq!(object.get::<crate::device::Device>(), Some(id));
        assert_eq!(object.get::<crate::user::User>(), None);
        assert_eq!(object.to_string(), "device 1");
    }
}
