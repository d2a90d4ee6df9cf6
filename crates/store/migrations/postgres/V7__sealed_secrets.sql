-- Why: what the server itself must use again (its Noise key, webhook secrets) is kept here, sealed
-- with a key that is never in the database, and shared by all processes that use the database.
-- `tailnet` is 0 where a secret is the server's; a tailnet's goes with the tailnet.
CREATE TABLE secrets (
    tailnet  BIGINT NOT NULL,
    name     TEXT NOT NULL,
    sealed   BYTEA NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (tailnet, name)
);
