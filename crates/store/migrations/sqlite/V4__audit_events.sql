-- Why: every privileged act leaves an event, in the transaction of the act. They are read by time
-- within one tailnet, and pruned by age; the primary key serves both. `at` is in microseconds since
-- 1970.
CREATE TABLE audit (
    tailnet INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    id      INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (tailnet, at, id)
) STRICT, WITHOUT ROWID;
