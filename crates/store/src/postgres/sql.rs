//! The SQL that only PostgreSQL understands.

/// Every session's settings. Rule: what was acknowledged is durable, whatever the server's
/// default; a stronger default stays. A lock or an abandoned transaction must not hold up the
/// tailnet for ever.
pub(super) const SESSION: &str = "\
    SELECT set_config('synchronous_commit', 'on', false) \
        WHERE current_setting('synchronous_commit') = 'off'; \
    SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '30s'";

pub(super) const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Each statement sees what was committed before it, also after it waited for a lock.
pub(super) const BEGIN_FRESH: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";
/// Nobody waits for the disk: it may be lost in a crash.
pub(super) const NOT_DURABLE: &str = "SET LOCAL synchronous_commit = off";

pub(super) const HEAD_LOCK: &str = "SELECT seq FROM heads WHERE tailnet = $1 FOR UPDATE";

pub(super) const PRESENCE_PUT: &str = "\
    INSERT INTO presence (device, tailnet, online, at, body) \
    SELECT devices.id, devices.tailnet, new.online, new.at, new.body::json \
    FROM unnest($2::bigint[], $3::boolean[], $4::bigint[], $5::text[]) \
        AS new (device, online, at, body) \
    JOIN devices ON devices.id = new.device AND devices.tailnet = $1 \
    ON CONFLICT (device) DO UPDATE \
    SET online = excluded.online, at = excluded.at, body = excluded.body \
    WHERE presence.at <= excluded.at OR presence.at > excluded.at + 3600000000";

pub(super) const OUTBOX_DONE: &str =
    "DELETE FROM outbox WHERE tailnet = $1 AND id = ANY ($2::bigint[])";

/// Whether the database has our tables, whether it has any, and whether it refuses writes. A
/// schema is ours by the table that the first migration makes.
pub(super) const LOOK: &str = "\
    SELECT to_regclass('heads') IS NOT NULL AND to_regclass('refinery_schema_history') IS NOT NULL, \
    EXISTS (SELECT 1 FROM pg_class WHERE relkind = 'r' AND relnamespace = current_schema()::regnamespace), \
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'";

/// The advisory lock of the one process that has the database. Both halves are shown by `pg_locks`.
pub(super) const LOCK: &str = "SELECT pg_try_advisory_lock(1114601324, 1701734764)";
pub(super) const UNLOCK: &str = "SELECT pg_advisory_unlock(1114601324, 1701734764)";
/// The session that has it.
pub(super) const HOLDER: &str = "\
    SELECT pid, coalesce(application_name, ''), coalesce(host(client_addr), '') \
    FROM pg_locks JOIN pg_stat_activity USING (pid) \
    WHERE locktype = 'advisory' AND granted AND classid = 1114601324 AND objid = 1701734764 \
    AND objsubid = 2 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

pub(super) const SIZE: &str = "SELECT pg_database_size(current_database())";
