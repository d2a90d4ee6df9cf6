//! The tables of the database as backups and examinations see them: one entry each, the same for
//! both engines.
//!
//! A row travels as a list of values with the checksum that it was written with, so what a restore
//! writes is byte for byte what was committed once, and damage on the way is noticed whichever
//! engine it came from.

use std::fmt::Write as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bowline_model::kind::Kind;
use serde::{Serialize, Serializer};

use crate::checksum::{self, Mismatch};

/// Tables that no backup has, each with the reason. A test compares both lists with the migrations.
#[cfg(test)]
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "moments",
        "what the clock of the former server showed: the next server notes what its own shows",
    ),
    (
        "lease",
        "which process has a PostgreSQL database: it says nothing of another database",
    ),
    (
        "refinery_schema_history",
        "which migrations were run: a restore runs them itself",
    ),
];

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    /// A number.
    Integer,
    /// Yes or no: a number in SQLite.
    Flag,
    /// A text.
    Text,
    /// A JSON text, kept as it is.
    Json,
    /// Bytes; base 64 in a backup.
    Bytes,
}

/// The value of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Flag(bool),
    Text(String),
    Bytes(Vec<u8>),
}

impl Value {
    pub(crate) fn integer(&self) -> i64 {
        match self {
            Self::Integer(number) => *number,
            _ => 0,
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            _ => "",
        }
    }

    fn optional_integer(&self) -> Option<i64> {
        (*self != Self::Null).then(|| self.integer())
    }

    fn optional_text(&self) -> Option<&str> {
        (*self != Self::Null).then(|| self.text())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    fn flag(&self) -> bool {
        *self == Self::Flag(true)
    }

    /// The value that a backup has for a column of this type. `None`: not one of this type.
    fn from_json(value: serde_json::Value, kind: Type) -> Option<Self> {
        use serde_json::Value as Json;
        Some(match (kind, value) {
            (_, Json::Null) => Self::Null,
            (Type::Integer, Json::Number(number)) => Self::Integer(number.as_i64()?),
            (Type::Flag, Json::Bool(flag)) => Self::Flag(flag),
            (Type::Text | Type::Json, Json::String(text)) => Self::Text(text),
            (Type::Bytes, Json::String(text)) => Self::Bytes(STANDARD.decode(text).ok()?),
            _ => return None,
        })
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Bytes(bytes) => serializer.serialize_str(&STANDARD.encode(bytes)),
        }
    }
}

/// A table that backups have.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// The kind whose objects it holds.
    pub(crate) kind: Option<Kind>,
    /// All columns but `checksum`, which is the last of every row.
    pub(crate) columns: Vec<(&'static str, Type)>,
    /// The checksum of a row's values.
    sum: fn(&Self, &[Value]) -> i64,
    /// What a person calls the row.
    label: fn(&Self, &[Value]) -> String,
    /// Reads all rows in order, the checksum last.
    pub(crate) select: String,
    /// Writes a row: the columns and the checksum.
    pub(crate) insert: String,
    /// Whether the table has a row.
    pub(crate) is_used: String,
}

impl Table {
    fn new(
        name: &'static str,
        columns: Vec<(&'static str, Type)>,
        order: &'static str,
        sum: fn(&Self, &[Value]) -> i64,
        label: fn(&Self, &[Value]) -> String,
    ) -> Self {
        let mut names = String::new();
        let mut places = String::new();
        for (index, (column, _)) in columns.iter().enumerate() {
            let _ = write!(names, "{column}, ");
            let _ = write!(places, "${}, ", index + 1);
        }
        let last = columns.len() + 1;
        Self {
            select: format!("SELECT {names}checksum FROM {name} ORDER BY {order}"),
            insert: format!("INSERT INTO {name} ({names}checksum) VALUES ({places}${last})"),
            is_used: format!("SELECT EXISTS (SELECT 1 FROM {name})"),
            name,
            kind: None,
            columns,
            sum,
            label,
        }
    }

    fn of_kind(kind: Kind) -> Self {
        let mut columns = vec![
            ("tailnet", Type::Integer),
            ("id", Type::Integer),
            ("seq", Type::Integer),
            ("body", Type::Json),
        ];
        let own = kind.columns().iter();
        columns.extend(own.map(|column| (column.name(), Type::Text)));
        if kind.is_cold() {
            columns.push(("expires", Type::Integer));
        }
        Self {
            kind: Some(kind),
            ..Self::new(kind.table(), columns, "id", object_sum, object_label)
        }
    }

    /// The types of a whole row, its checksum included.
    pub(crate) fn types(&self) -> impl Iterator<Item = Type> {
        let types = self.columns.iter().map(|(_, kind)| *kind);
        types.chain(std::iter::once(Type::Integer))
    }

    /// The names of the columns of a whole row.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        let names = self.columns.iter().map(|(name, _)| *name);
        names.chain(std::iter::once("checksum"))
    }

    /// Compares a row with its own checksum.
    pub(crate) fn verify(&self, row: &[Value]) -> Result<(), Mismatch> {
        let stored = row.last().map_or(0, Value::integer);
        checksum::check(stored, (self.sum)(self, row), || (self.label)(self, row))
    }

    /// The row that a backup has on a line. `None`: not a row of this table.
    pub(crate) fn row(&self, line: &str) -> Option<Vec<Value>> {
        let values: Vec<serde_json::Value> = serde_json::from_str(line).ok()?;
        if values.len() != self.columns.len() + 1 {
            return None;
        }
        values
            .into_iter()
            .zip(self.types())
            .map(|(value, kind)| Value::from_json(value, kind))
            .collect()
    }

    /// The value of a column.
    pub(crate) fn value<'a>(&self, row: &'a [Value], column: &str) -> Option<&'a Value> {
        let index = self.names().position(|name| name == column)?;
        row.get(index)
    }
}

fn object_sum(table: &Table, row: &[Value]) -> i64 {
    let kind = table.kind.unwrap_or(Kind::Tailnet); // tables of kinds have one
    let (columns, after) = row[4..].split_at(kind.columns().len());
    let columns = columns.iter().map(|value| match value {
        Value::Text(text) => Some(text.as_str()),
        _ => None,
    });
    let expires = match after.first() {
        Some(Value::Integer(at)) => Some(*at),
        _ => None,
    };
    checksum::object(
        kind,
        row[0].integer(),
        row[1].integer(),
        row[2].integer(),
        row[3].text(),
        columns,
        expires,
    )
}

fn object_label(table: &Table, row: &[Value]) -> String {
    let kind = table.kind.unwrap_or(Kind::Tailnet);
    format!(
        "{kind} {} of tailnet {}",
        row[1].integer(),
        row[0].integer()
    )
}

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(|| {
    use Type::{Bytes, Flag, Integer, Json, Text};
    let mut tables = vec![Table::new(
        "heads",
        vec![("tailnet", Integer), ("seq", Integer)],
        "tailnet",
        |_, row| checksum::head(row[0].integer(), row[1].integer()),
        |_, row| format!("head of tailnet {}", row[0].integer()),
    )];
    tables.extend(Kind::all().map(Table::of_kind));
    tables.extend([
        Table::new(
            "changes",
            vec![
                ("tailnet", Integer),
                ("seq", Integer),
                ("commit_id", Bytes),
                ("at", Integer),
                ("touched", Text),
            ],
            "tailnet, seq",
            |_, row| {
                let (tailnet, seq, at) = (row[0].integer(), row[1].integer(), row[3].integer());
                checksum::change(tailnet, seq, row[2].bytes(), at, row[4].text())
            },
            |_, row| {
                let (tailnet, seq) = (row[0].integer(), row[1].integer());
                format!("change {seq} of tailnet {tailnet}")
            },
        ),
        Table::new(
            "audit_ends",
            vec![
                ("tailnet", Integer),
                ("place", Integer),
                ("number", Integer),
                ("hash", Bytes),
            ],
            "tailnet, place",
            |_, row| {
                let (tailnet, place) = (row[0].integer(), row[1].integer());
                checksum::audit_end(tailnet, place, row[2].integer(), row[3].bytes())
            },
            |_, row| format!("end of the audit log of tailnet {}", row[0].integer()),
        ),
        Table::new(
            "audit",
            vec![
                ("tailnet", Integer),
                ("number", Integer),
                ("at", Integer),
                ("id", Integer),
                ("body", Json),
                ("previous", Bytes),
                ("hash", Bytes),
            ],
            "tailnet, number",
            |_, row| {
                checksum::audit(&checksum::Audit {
                    owner: row[0].integer(),
                    number: row[1].integer(),
                    at: row[2].integer(),
                    id: row[3].integer(),
                    body: row[4].text(),
                    previous: row[5].bytes(),
                    hash: row[6].bytes(),
                })
            },
            |_, row| {
                let (tailnet, number) = (row[0].integer(), row[1].integer());
                format!("audit event {number} of tailnet {tailnet}")
            },
        ),
        Table::new(
            "texts",
            vec![
                ("tailnet", Integer),
                ("sha256", Text),
                ("at", Integer),
                ("bytes", Integer),
                ("body", Bytes),
            ],
            "tailnet, sha256",
            |_, row| {
                let (tailnet, at) = (row[0].integer(), row[2].integer());
                checksum::text(tailnet, row[1].text(), at, row[4].bytes())
            },
            |_, row| format!("text {} of tailnet {}", row[1].text(), row[0].integer()),
        ),
        Table::new(
            "jobs",
            vec![
                ("id", Integer),
                ("tailnet", Integer),
                ("topic", Text),
                ("lane", Text),
                ("name", Text),
                ("at", Integer),
                ("due_at", Integer),
                ("attempts", Integer),
                ("claimed_until", Integer),
                ("body", Json),
            ],
            "id",
            |_, row| {
                checksum::job(&checksum::Job {
                    id: row[0].integer(),
                    owner: row[1].integer(),
                    topic: row[2].text(),
                    lane: row[3].optional_text(),
                    name: row[4].optional_text(),
                    at: row[5].integer(),
                    due_at: row[6].integer(),
                    attempts: row[7].integer(),
                    claimed_until: row[8].optional_integer(),
                    body: row[9].text(),
                })
            },
            |_, row| format!("job {}", row[0].integer()),
        ),
        Table::new(
            "presence",
            vec![
                ("device", Integer),
                ("tailnet", Integer),
                ("online", Flag),
                ("at", Integer),
                ("body", Json),
            ],
            "device",
            |_, row| {
                let (device, tailnet) = (row[0].integer(), row[1].integer());
                let (online, at) = (row[2].flag(), row[3].integer());
                checksum::presence(tailnet, device, online, at, row[4].text())
            },
            |_, row| format!("presence of device {}", row[0].integer()),
        ),
        Table::new(
            "secrets",
            vec![("tailnet", Integer), ("name", Text), ("sealed", Bytes)],
            "tailnet, name",
            |_, row| checksum::secret(row[0].integer(), row[1].text(), row[2].bytes()),
            |_, row| format!("secret {}", row[1].text()),
        ),
    ]);
    tables
});

/// Every table that backups have, in their order.
pub(crate) fn tables() -> &'static [Table] {
    &TABLES
}

/// The table of this name.
pub(crate) fn find(name: &str) -> Option<&'static Table> {
    TABLES.iter().find(|table| table.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::migrate;

    fn migrated() -> rusqlite::Connection {
        let mut conn = rusqlite::Connection::open_in_memory().unwrap();
        migrate::runner(migrate::SQLITE)
            .unwrap()
            .run(&mut conn)
            .unwrap();
        conn
    }

    fn texts(conn: &rusqlite::Connection, sql: &str) -> Vec<String> {
        let mut statement = conn.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// A table that somebody adds is in every backup, or is listed with the reason why not.
    #[test]
    fn every_table_of_the_migrations_is_in_backups_or_left_out_with_a_reason() {
        let made: BTreeSet<String> = texts(
            &migrated(),
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'",
        )
        .into_iter()
        .collect();
        let mut known: BTreeSet<String> =
            tables().iter().map(|table| table.name.to_owned()).collect();
        for (name, reason) in LEFT_OUT {
            assert!(reason.len() > 20, "{name}: say why");
            assert!(known.insert((*name).to_owned()), "{name} is in both lists");
        }
        known.remove("lease"); // PostgreSQL only, and not made by a migration
        assert_eq!(made, known);
    }

    #[test]
    fn every_column_is_in_backups_and_rows_are_in_the_order_of_the_primary_key() {
        let conn = migrated();
        for table in tables() {
            let name = table.name;
            let made: BTreeSet<String> = texts(
                &conn,
                &format!("SELECT name FROM pragma_table_info('{name}')"),
            )
            .into_iter()
            .collect();
            let known: BTreeSet<String> = table.names().map(str::to_owned).collect();
            assert_eq!(made, known, "{name}");
            let key = texts(
                &conn,
                &format!("SELECT name FROM pragma_table_info('{name}') WHERE pk > 0 ORDER BY pk"),
            );
            let order = format!(" ORDER BY {}", key.join(", "));
            assert!(table.select.ends_with(&order), "{name}: {}", table.select);
        }
    }

    #[test]
    fn a_row_comes_back_from_its_line_and_nothing_else_does() {
        let table = find("changes").unwrap();
        let row = vec![
            Value::Integer(1),
            Value::Integer(2),
            Value::Bytes(vec![0, 255]),
            Value::Integer(-3),
            Value::Text("[\"\u{0}\n\"]".to_owned()),
            Value::Integer(9),
        ];
        let line = serde_json::to_string(&row).unwrap();
        assert_eq!(table.row(&line), Some(row));
        for wrong in [
            "[]",
            "{}",
            "[1,2,\"AP8=\",-3,\"\"]",
            "[1,2,3,-3,\"\",9]",
            "[1.5,2,\"\",3,\"\",9]",
        ] {
            assert_eq!(table.row(wrong), None, "{wrong}");
        }
    }
}
