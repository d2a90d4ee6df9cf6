//! Values as PostgreSQL wants them.

use std::error::Error as StdError;

use bowline_model::id::TailnetId;
use bytes::BytesMut;
use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

use super::fail::Failure;
use crate::error::{Condition, Trouble};

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
    Option<&str>: TEXT,
    Option<&String>: TEXT,
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

pub(super) fn tailnet(row: &Row, column: usize) -> Result<TailnetId, Failure> {
    TailnetId::try_from(uint(row, column)?).map_err(unreadable)
}

/// Something in the database is not what this program writes.
pub(super) fn unreadable(error: impl StdError + Send + Sync + 'static) -> Failure {
    Failure::Trouble(Trouble::new(Condition::Damaged, error))
}
