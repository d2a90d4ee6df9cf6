-- Why: every privileged act leaves an event, in the transaction of the act. They are read by time
-- within one tailnet, and pruned by age; the primary key serves both. `at` is in microseconds since
-- 1970.
CREATE TABLE audit (
    tailnet BIGINT NOT NULL,
    at      BIGINT NOT NULL,
    id      BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (tailnet, at, id)
);
