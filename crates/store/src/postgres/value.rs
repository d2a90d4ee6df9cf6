//! Values as PostgreSQL wants them.

use std::error::Error as StdError;

use bowline_model::kind::Kind;
use bytes::BytesMut;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::fail::Failure;
use crate::chain::Hash;
use crate::checksum;
use crate::error::{Condition, Trouble};
use crate::owner::Owner;

/// A parameter, which knows its type: a connection pool may not let the server tell it.
pub(super) trait Value: ToSql + Sync {
    /// The parameter's type in the database.
    fn kind(&self) -> Type;
    /// The parameter for the driver.
    fn sql(&self) -> &(dyn ToSql + Sync);
}

macro_rules! value {
    ($($own:ty: $kind:ident,)*) => {
        $(impl Value for $own {
            fn kind(&self) -> Type {
                Type::$kind
            }

            fn sql(&self) -> &(dyn ToSql + Sync) {
                self
            }
        })*
    };
}

value! {
    i64: INT8,
    bool: BOOL,
    &str: TEXT,
    String: TEXT,
    Option<i64>: INT8,
    Option<&str>: TEXT,
    Option<bool>: BOOL,
    Option<&[u8]>: BYTEA,
    Option<Json<'_>>: JSON,
    &[u8]: BYTEA,
    Json<'_>: JSON,
    Vec<i64>: INT8_ARRAY,
    Vec<bool>: BOOL_ARRAY,
    Vec<&str>: TEXT_ARRAY,
}

/// A JSON text, sent and received as it is.
#[derive(Debug)]
pub(super) struct Json<'a>(pub(super) &'a str);

impl ToSql for Json<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        out.extend_from_slice(self.0.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSON
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Json<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self(std::str::from_utf8(raw)?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSON
    }
}

/// Ids and sequence numbers are below 2^53, so the sign bit is never set.
pub(super) fn int(number: u64) -> i64 {
    number.cast_signed()
}

pub(super) fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, Failure> {
    row.try_get(column).map_err(unreadable)
}

pub(super) fn uint(row: &Row, column: usize) -> Result<u64, Failure> {
    get(row, column).map(i64::cast_unsigned)
}

pub(super) fn json(row: &Row, column: usize) -> Result<Box<str>, Failure> {
    get::<Json<'_>>(row, column).map(|json| json.0.into())
}

pub(super) fn time(row: &Row, column: usize) -> Result<Timestamp, Failure> {
    Timestamp::from_microsecond(get(row, column)?).map_err(unreadable)
}

pub(super) fn owner(row: &Row, column: usize) -> Result<Owner, Failure> {
    Owner::try_from(uint(row, column)?).map_err(unreadable)
}

/// Something in the database is not what this program writes.
pub(super) fn unreadable(error: impl StdError + Send + Sync + 'static) -> Failure {
    Failure::Trouble(Trouble::new(Condition::Damaged, error))
}

/// Compares a row's checksum, which is in this column.
pub(super) fn verify(
    row: &Row,
    column: usize,
    computed: i64,
    name: impl FnOnce() -> String,
) -> Result<(), Failure> {
    checksum::check(get(row, column)?, computed, name).map_err(unreadable)
}

/// A head's number, with its checksum after it.
pub(super) fn head(row: &Row, column: usize, owner: Owner) -> Result<u64, Failure> {
    let seq: i64 = get(row, column)?;
    let sum = checksum::head(int(owner.get()), seq);
    verify(row, column + 1, sum, || format!("head of {owner}"))?;
    Ok(seq.cast_unsigned())
}

/// A hash of the chain of audit events.
pub(super) fn hash(row: &Row, column: usize) -> Result<Hash, Failure> {
    let bytes: &[u8] = get(row, column)?;
    bytes.try_into().map_err(unreadable)
}

/// The checksum of an object whose body is in the column before `column`, and whose unique columns
/// follow it, compared with the one in it.
pub(super) fn verify_object(
    row: &Row,
    column: usize,
    kind: Kind,
    (tailnet, id, seq): (i64, i64, i64),
) -> Result<(), Failure> {
    let columns = kind.columns().len();
    let columns = (column + 1..=column + columns)
        .map(|at| get::<Option<&str>>(row, at))
        .collect::<Result<Vec<_>, _>>()?;
    let body = get::<Json<'_>>(row, column - 1)?.0;
    let expires = if kind.is_cold() {
        get(row, column + 1 + columns.len())?
    } else {
        None
    };
    let sum = checksum::object(kind, tailnet, id, seq, body, columns.into_iter(), expires);
    verify(row, column, sum, || {
        format!("{kind} {id} of tailnet {tailnet}")
    })
}

/// Compares the checksum of a change: seq, commit id, time, touched and checksum from this column
/// on.
pub(super) fn verify_change(row: &Row, first: usize, tailnet: i64) -> Result<(), Failure> {
    let (seq, at): (i64, i64) = (get(row, first)?, get(row, first + 2)?);
    let (commit_id, touched): (&[u8], &str) = (get(row, first + 1)?, get(row, first + 3)?);
    let sum = checksum::change(tailnet, seq, commit_id, at, touched);
    verify(row, first + 4, sum, || {
        format!("change {seq} of tailnet {tailnet}")
    })
}

/// A sealed secret, with its checksum after it.
pub(super) fn secret(row: &Row, column: usize, owner: i64, name: &str) -> Result<Vec<u8>, Failure> {
    let sealed: Vec<u8> = get(row, column)?;
    let sum = checksum::secret(owner, name, &sealed);
    verify(row, column + 1, sum, || format!("secret {name}"))?;
    Ok(sealed)
}
