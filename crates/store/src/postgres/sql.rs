//! The SQL that only PostgreSQL understands.

/// Every session's settings, for the server's end of the connection: a client that vanished without
/// a word is given up in seconds, and not after the two hours of most systems. A server that cannot
/// (or a local socket) ignores or refuses them, and nothing depends on it.
pub(super) const SESSION: &str = "\
    SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; \
    SET tcp_user_timeout = 10000";

/// Begins a write. What a session could set is set in each transaction, because a connection pool
/// may give every transaction another session. Rule: what was acknowledged is durable, whatever the
/// server's default; a stronger default stays. A lock or an abandoned transaction must not hold up
/// the tailnet for ever. Each statement sees what was committed before it, also after it waited for
/// a lock: the sequence numbers do the rest.
pub(super) const BEGIN_WRITE: &str = "\
    BEGIN ISOLATION LEVEL READ COMMITTED; \
    SET LOCAL lock_timeout = '8s'; \
    SET LOCAL idle_in_transaction_session_timeout = '10s'; \
    SELECT set_config('synchronous_commit', 'on', true) \
        WHERE current_setting('synchronous_commit') = 'off'";

pub(super) const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
/// Begins the reading of a backup. Between two portions the session may be idle for as long as
/// whoever takes the backup is slow.
pub(super) const BEGIN_DUMP: &str = "\
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
    SET LOCAL idle_in_transaction_session_timeout = 0; \
    SET LOCAL statement_timeout = 0";
pub(super) const DUMP_CURSOR: &str = "DECLARE backup NO SCROLL CURSOR FOR";
pub(super) const DUMP_CLOSE: &str = "CLOSE backup";
/// For a write that waits for something else than the database.
pub(super) const PATIENT: &str = "SET LOCAL idle_in_transaction_session_timeout = '5min'";
/// Nobody waits for the disk: it may be lost in a crash.
pub(super) const NOT_DURABLE: &str = "SET LOCAL synchronous_commit = off";

pub(super) const HEAD_LOCK: &str = "SELECT seq, checksum FROM heads WHERE tailnet = $1 FOR UPDATE";

pub(super) const PRESENCE_PUT: &str = "\
    INSERT INTO presence (device, tailnet, online, at, body, checksum) \
    SELECT devices.id, devices.tailnet, new.online, new.at, new.body::json, new.checksum \
    FROM unnest($2::bigint[], $3::boolean[], $4::bigint[], $5::text[], $6::bigint[]) \
        AS new (device, online, at, body, checksum) \
    JOIN devices ON devices.id = new.device AND devices.tailnet = $1 \
    ON CONFLICT (device) DO UPDATE SET online = excluded.online, at = excluded.at, \
    body = excluded.body, checksum = excluded.checksum, tailnet = excluded.tailnet \
    WHERE presence.at <= excluded.at OR presence.at > excluded.at + 3600000000";

/// Whether the database has our tables, whether it has any, and whether it refuses writes. A
/// schema is ours by the table that the first migration makes.
pub(super) const LOOK: &str = "\
    SELECT to_regclass('heads') IS NOT NULL AND to_regclass('refinery_schema_history') IS NOT NULL, \
    EXISTS (SELECT 1 FROM pg_class WHERE relkind = 'r' \
        AND relnamespace = current_schema()::regnamespace \
        AND relname NOT IN ('lease', 'refinery_schema_history')), \
    pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'";

pub(super) const SIZE: &str = "SELECT pg_database_size(current_database())";

/// One row. `beat` counts renewals, `milliseconds` is how long the holder may take for one, and
/// `place` names the directory that the holder's process has for itself. `renewed` is for people.
/// Not a migration: the lease is taken before the schema is touched.
pub(super) const LEASE_TABLE: &str = "\
    CREATE TABLE IF NOT EXISTS lease ( \
        one BOOLEAN NOT NULL PRIMARY KEY CHECK (one), \
        epoch BIGINT NOT NULL, \
        beat BIGINT NOT NULL, \
        milliseconds BIGINT NOT NULL, \
        holder TEXT NOT NULL, \
        place TEXT NOT NULL, \
        renewed TIMESTAMPTZ NOT NULL \
    ); \
    INSERT INTO lease VALUES (true, 0, 0, 0, '', '', clock_timestamp()) ON CONFLICT DO NOTHING";
pub(super) const LEASE_LOOK: &str = "SELECT epoch, beat, milliseconds, holder, place FROM lease";
pub(super) const LEASE_BEGIN: &str = "\
    BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = '1s'; \
    SET LOCAL idle_in_transaction_session_timeout = '10s'";
/// Waits for writes under way: each holds the row by [`FENCE`].
pub(super) const LEASE_LOCK: &str =
    "SELECT epoch, beat, milliseconds, holder, place FROM lease FOR UPDATE";
pub(super) const LEASE_RAISE: &str = "\
    UPDATE lease SET epoch = epoch + 1, beat = 0, milliseconds = $1, holder = $2, place = $3, \
    renewed = clock_timestamp() RETURNING epoch";
/// Ends sessions that hold the row though their holder is gone.
pub(super) const LEASE_FORCE: &str = "\
    SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'relation' AND granted \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
    AND relation = 'lease'::regclass AND mode = 'RowShareLock' AND pid <> pg_backend_pid()";
pub(super) const LEASE_RENEW: &str =
    "UPDATE lease SET beat = beat + 1, renewed = clock_timestamp() WHERE epoch = $1";
pub(super) const LEASE_RELEASE: &str =
    "UPDATE lease SET holder = '', place = '', renewed = clock_timestamp() WHERE epoch = $1";
/// Part of every write: nobody takes over before it has ended, and none is after a takeover. The
/// lock lets renewals pass.
pub(super) const FENCE: &str = "SELECT 1 FROM lease WHERE epoch = $1 FOR KEY SHARE";
