-- Why: what the server itself must use again (its Noise key, webhook secrets) is kept here, sealed
-- with a key that is never in the database, and shared by all processes that use the database.
CREATE TABLE secrets (
    name   TEXT NOT NULL PRIMARY KEY,
    sealed BLOB NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
