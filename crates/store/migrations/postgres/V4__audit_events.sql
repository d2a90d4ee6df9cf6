-- Why: every privileged act leaves an event, in the transaction of the act. Events of one tailnet are a
-- chain: each has the hash of the one before it and its own (docs/audit.md), so that one that was
-- changed, removed or moved is found. They are verified and pruned by number, and read by time.
-- `at` is in microseconds since 1970.
CREATE TABLE audit (
    tailnet  BIGINT NOT NULL,
    number   BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    id       BIGINT NOT NULL,
    body     JSON NOT NULL,
    previous BYTEA NOT NULL,
    hash     BYTEA NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (tailnet, number)
);
CREATE UNIQUE INDEX audit_at ON audit (tailnet, at, id);
-- The two ends of each chain: number and hash of the last event that retention removed (place 0) and of
-- the newest (place 1). They are two rows because two writers write them: retention and commits.
CREATE TABLE audit_ends (
    tailnet  BIGINT NOT NULL,
    place    BIGINT NOT NULL,
    number   BIGINT NOT NULL,
    hash     BYTEA NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (tailnet, place)
);
