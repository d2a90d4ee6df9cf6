-- Why: a start has no monotonic clock to hold the wall clock against, so the server notes now and
-- then what time it was: a clock that is days away from that is not believed without being asked.
CREATE TABLE moments (
    name TEXT NOT NULL PRIMARY KEY,
    at   BIGINT NOT NULL,
    checksum BIGINT NOT NULL
);
