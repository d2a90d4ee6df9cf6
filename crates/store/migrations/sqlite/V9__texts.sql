-- Why: a policy file may have a megabyte, and an audit event that carried the old and the new one
-- would double it. Each text is kept once, under its hash, as often as it is set, and events refer to
-- it. `at` is when it was set last, in microseconds since 1970: the oldest go first. The text is
-- the last column, so that listing the versions reads none of it.
CREATE TABLE texts (
    tailnet  INTEGER NOT NULL,
    sha256   TEXT NOT NULL,
    at       INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    body     BLOB NOT NULL,
    PRIMARY KEY (tailnet, sha256)
) STRICT;
