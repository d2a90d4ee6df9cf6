//! The SQL text, one for both engines.
//!
//! Parameters are `$1`, `$2`, … and appear first in this order: SQLite numbers them by first
//! appearance, PostgreSQL by their number. What cannot be said in one text stands in
//! `sqlite/sql.rs` and `postgres/sql.rs`.

use std::fmt::Write;
use std::sync::LazyLock;

use bowline_model::kind::Kind;

pub(crate) const HEADS: &str = "SELECT tailnet, seq, checksum FROM heads ORDER BY tailnet";
pub(crate) const HEAD: &str = "SELECT seq, checksum FROM heads WHERE tailnet = $1";
pub(crate) const HEAD_CREATE: &str = "INSERT INTO heads (tailnet, seq, checksum) VALUES ($1, $2, $3) ON CONFLICT (tailnet) DO NOTHING";
pub(crate) const HEAD_ADVANCE: &str =
    "UPDATE heads SET seq = seq + 1, checksum = $1 WHERE tailnet = $2 AND seq = $3";
pub(crate) const CHANGE_PUT: &str = "INSERT INTO changes (tailnet, seq, commit_id, at, touched, checksum) \
     VALUES ($1, $2, $3, $4, $5, $6)";
pub(crate) const CHANGES: &str = "SELECT seq, commit_id, at, touched, checksum FROM changes \
     WHERE tailnet = $1 AND seq > $2 ORDER BY seq LIMIT $3";
/// Newest first, because an outcome is asked for right after it became unknown.
pub(crate) const CHANGE_BY_COMMIT: &str = "SELECT seq FROM changes \
     WHERE tailnet = $1 AND commit_id = $2 ORDER BY seq DESC LIMIT 1";
pub(crate) const AUDIT_PUT: &str = "INSERT INTO audit (tailnet, number, at, id, body, previous, hash, checksum) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
/// Events behind a place, which is a moment and a number.
pub(crate) const AUDIT: &str = "SELECT number, at, id, body, previous, hash, checksum FROM audit \
     WHERE tailnet = $1 AND (at, number) > ($2, $3) AND at < $4 ORDER BY at, number LIMIT $5";
pub(crate) const AUDIT_OLDEST: &str =
    "SELECT number, at, hash FROM audit WHERE tailnet = $1 ORDER BY number LIMIT $2";
pub(crate) const AUDIT_END: &str =
    "SELECT number, hash, checksum FROM audit_ends WHERE tailnet = $1 AND place = $2";
pub(crate) const AUDIT_END_PUT: &str = "INSERT INTO audit_ends (tailnet, place, number, hash, checksum) \
     VALUES ($1, $2, $3, $4, $5) ON CONFLICT (tailnet, place) DO UPDATE \
     SET number = excluded.number, hash = excluded.hash, checksum = excluded.checksum";
pub(crate) const JOB_PUT: &str = "INSERT INTO jobs \
     (id, tailnet, topic, lane, name, at, due_at, attempts, claimed_until, body, checksum) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (name) DO NOTHING";
/// The number of jobs of each topic, and when the next of them can be claimed: of a lane, the first
/// alone.
pub(crate) const JOBS_WAITING: &str = "SELECT topic, count(*), \
     min(CASE WHEN lane IS NULL OR NOT EXISTS \
         (SELECT 1 FROM jobs AS earlier WHERE earlier.lane = jobs.lane AND earlier.id < jobs.id) \
       THEN CASE WHEN claimed_until > due_at THEN claimed_until ELSE due_at END END) \
     FROM jobs GROUP BY topic ORDER BY topic";
/// What can be claimed of a topic at a moment.
pub(crate) const JOBS_DUE: &str = "SELECT id, tailnet, topic, lane, name, at, due_at, attempts, claimed_until, body, checksum \
     FROM jobs WHERE topic = $1 AND due_at <= $2 AND (claimed_until IS NULL OR claimed_until <= $2) \
     AND (lane IS NULL OR NOT EXISTS \
         (SELECT 1 FROM jobs AS earlier WHERE earlier.lane = jobs.lane AND earlier.id < jobs.id)) \
     ORDER BY due_at, id LIMIT $3";
pub(crate) const JOB_CLAIM: &str = "UPDATE jobs SET name = NULL, attempts = $1, claimed_until = $2, checksum = $3 \
     WHERE id = $4";
pub(crate) const JOB_RENEW: &str =
    "UPDATE jobs SET claimed_until = $1, checksum = $2 WHERE id = $3 AND claimed_until = $4";
pub(crate) const JOB_END: &str = "DELETE FROM jobs WHERE id = $1 AND claimed_until = $2";
pub(crate) const TEXT_PUT: &str = "INSERT INTO texts (tailnet, sha256, at, bytes, checksum, body) \
     VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (tailnet, sha256) DO UPDATE \
     SET at = excluded.at, checksum = excluded.checksum";
pub(crate) const TEXT: &str =
    "SELECT at, checksum, body FROM texts WHERE tailnet = $1 AND sha256 = $2";
pub(crate) const TEXTS: &str =
    "SELECT sha256, at, bytes FROM texts WHERE tailnet = $1 ORDER BY at DESC, sha256";
/// Presence may outlive its device when both are written at once; it is not read then.
pub(crate) const PRESENCE: &str = "SELECT device, online, at, presence.body, presence.checksum FROM presence \
     JOIN devices ON devices.id = device AND devices.tailnet = presence.tailnet \
     WHERE presence.tailnet = $1 ORDER BY device";
pub(crate) const PRESENCE_DELETE: &str = "DELETE FROM presence WHERE tailnet = $1 AND device = $2";
/// The oldest changes of an owner, up to a number.
pub(crate) const CHANGES_FORGET: &str = "DELETE FROM changes WHERE tailnet = $1 AND seq <= $2";
/// Of the oldest changes, those that may go. The newest stays, so that the log always says which
/// number the owner has.
pub(crate) const PRUNE_CHANGES: &str = "DELETE FROM changes WHERE tailnet = $1 AND seq IN ( \
     SELECT seq FROM ( \
         SELECT seq, at FROM changes WHERE tailnet = $1 ORDER BY seq LIMIT $2 \
     ) AS oldest WHERE at < $3 OR seq <= (SELECT seq FROM heads WHERE tailnet = $1) - $4) \
     AND seq < (SELECT seq FROM heads WHERE tailnet = $1)";
pub(crate) const PRUNE_AUDIT: &str = "DELETE FROM audit WHERE tailnet = $1 AND number <= $2";
pub(crate) const PRUNE_TEXT: &str =
    "DELETE FROM texts WHERE tailnet = $1 AND sha256 = $2 AND at = $3";
pub(crate) const PRUNE_DELIVERIES: &str = "DELETE FROM jobs WHERE id IN ( \
     SELECT id FROM jobs WHERE lane IS NOT NULL AND name IS NULL AND claimed_until IS NULL \
     AND at < $1 ORDER BY id LIMIT $2)";
/// Presence that was flushed while its device was being removed.
pub(crate) const PRUNE_PRESENCE: &str =
    "DELETE FROM presence WHERE device NOT IN (SELECT id FROM devices)";
pub(crate) const SECRET: &str =
    "SELECT sealed, checksum FROM secrets WHERE tailnet = $1 AND name = $2";
pub(crate) const SECRET_PUT_IF_ABSENT: &str = "INSERT INTO secrets (tailnet, name, sealed, checksum) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (tailnet, name) DO NOTHING";
pub(crate) const SECRET_PUT: &str = "INSERT INTO secrets (tailnet, name, sealed, checksum) \
     VALUES ($1, $2, $3, $4) ON CONFLICT (tailnet, name) DO UPDATE \
     SET sealed = excluded.sealed, checksum = excluded.checksum";
pub(crate) const SECRET_DELETE: &str = "DELETE FROM secrets WHERE tailnet = $1 AND name = $2";
pub(crate) const MOMENT: &str = "SELECT at, checksum FROM moments WHERE name = $1";
pub(crate) const MOMENT_PUT: &str = "INSERT INTO moments (name, at, checksum) VALUES ($1, $2, $3) \
     ON CONFLICT (name) DO UPDATE SET at = excluded.at, checksum = excluded.checksum";
pub(crate) const MOMENTS: &str = "SELECT name, at, checksum FROM moments ORDER BY name";
/// A name that no secret has.
pub(crate) const PROBE: &str = "probe";
pub(crate) const PROBE_DELETE: &str = "DELETE FROM secrets WHERE name = 'probe'";

/// The statements of one kind's table. Where the unique columns are said, cold kinds have `expires`
/// behind them.
pub(crate) struct KindSql {
    /// Writes one row: tailnet, id, seq, body, checksum, then the unique columns. Touches no row of another
    /// tailnet, and then counts none.
    pub(crate) put: String,
    /// Empties a row's unique columns, until the same transaction writes it anew: tailnet, id.
    pub(crate) clear: Option<String>,
    /// Removes one row: tailnet, id.
    pub(crate) delete: String,
    /// Reads one row as seq, body, checksum and the unique columns: tailnet, id.
    pub(crate) get: String,
    /// Reads a tailnet's rows as id, seq, body, checksum and the unique columns: tailnet.
    pub(crate) all: String,
    /// What only cold kinds have.
    pub(crate) cold: Option<ColdSql>,
}

/// The statements of a cold kind's table. Rows are read as tailnet, id, seq, body, checksum, the unique
/// columns and `expires`.
pub(crate) struct ColdSql {
    /// Reads one row of any tailnet that is not over: id, now.
    pub(crate) find: String,
    /// Reads rows of a tailnet that are not over, by id: tailnet, after this id, now, limit.
    pub(crate) page: String,
    /// Removes rows that are over, the oldest first: now, limit.
    pub(crate) expire: String,
}

static KINDS: LazyLock<Vec<KindSql>> = LazyLock::new(|| {
    let mut all = Vec::new();
    for kind in Kind::all() {
        let table = kind.table();
        let mut names = String::new();
        let mut values = String::new();
        let mut updates = String::new();
        let mut clears = Vec::new();
        for (index, column) in kind.columns().iter().enumerate() {
            let column = column.name();
            let _ = write!(names, ", {column}");
            let _ = write!(values, ", ${}", index + 6);
            let _ = write!(updates, ", {column} = excluded.{column}");
            clears.push(format!("{column} = NULL"));
        }
        if kind.is_cold() {
            names.push_str(", expires");
            let _ = write!(values, ", ${}", kind.columns().len() + 6);
            updates.push_str(", expires = excluded.expires");
        }
        let row = format!("tailnet, id, seq, body, checksum{names}");
        let cold = kind.is_cold().then(|| ColdSql {
            find: format!(
                "SELECT {row} FROM {table} WHERE id = $1 AND (expires IS NULL OR expires > $2)"
            ),
            page: format!(
                "SELECT {row} FROM {table} WHERE tailnet = $1 AND id > $2 \
                 AND (expires IS NULL OR expires > $3) ORDER BY id LIMIT $4"
            ),
            expire: format!(
                "DELETE FROM {table} WHERE id IN \
                 (SELECT id FROM {table} WHERE expires <= $1 ORDER BY expires LIMIT $2)"
            ),
        });
        all.push(KindSql {
            put: format!(
                "INSERT INTO {table} (tailnet, id, seq, body, checksum{names}) \
                 VALUES ($1, $2, $3, $4, $5{values}) ON CONFLICT (id) DO UPDATE \
                 SET seq = excluded.seq, body = excluded.body, checksum = excluded.checksum{updates} \
                 WHERE {table}.tailnet = excluded.tailnet"
            ),
            clear: (!clears.is_empty()).then(|| {
                let clears = clears.join(", ");
                format!("UPDATE {table} SET {clears} WHERE tailnet = $1 AND id = $2")
            }),
            delete: format!("DELETE FROM {table} WHERE tailnet = $1 AND id = $2"),
            get: format!("SELECT seq, body, checksum{names} FROM {table} WHERE tailnet = $1 AND id = $2"),
            all: format!(
                "SELECT id, seq, body, checksum{names} FROM {table} WHERE tailnet = $1 ORDER BY id"
            ),
            cold,
        });
    }
    all
});

/// The statements of a kind.
pub(crate) fn of(kind: Kind) -> &'static KindSql {
    &KINDS[kind as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_appear_first_in_the_order_of_their_numbers() {
        let mut texts = vec![
            HEAD,
            HEAD_CREATE,
            HEAD_ADVANCE,
            CHANGE_PUT,
            CHANGES,
            CHANGE_BY_COMMIT,
            CHANGES_FORGET,
            AUDIT_PUT,
            AUDIT,
            JOB_PUT,
            JOBS_DUE,
            JOB_CLAIM,
            JOB_RENEW,
            JOB_END,
            TEXT_PUT,
            TEXT,
            TEXTS,
            PRESENCE_DELETE,
            PRUNE_CHANGES,
            PRUNE_AUDIT,
            AUDIT_OLDEST,
            AUDIT_END,
            AUDIT_END_PUT,
            PRUNE_TEXT,
            PRUNE_DELIVERIES,
            SECRET,
            SECRET_PUT_IF_ABSENT,
            SECRET_PUT,
            SECRET_DELETE,
            PROBE_DELETE,
        ];
        for kind in KINDS.iter() {
            texts.extend([&*kind.put, &kind.delete, &kind.get, &kind.all]);
            texts.extend(kind.clear.as_deref());
            let cold = kind.cold.iter();
            texts.extend(cold.flat_map(|cold| [&*cold.find, &cold.page, &cold.expire]));
        }
        for text in texts {
            let mut next = 1;
            for (at, _) in text.match_indices('$') {
                let digits: String = text[at + 1..]
                    .chars()
                    .take_while(char::is_ascii_digit)
                    .collect();
                let number: u32 = digits.parse().unwrap();
                assert!(number <= next, "{text}");
                next = next.max(number + 1);
            }
        }
    }
}
