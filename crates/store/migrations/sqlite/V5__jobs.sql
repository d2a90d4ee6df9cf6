-- Why: what a change must cause (deliveries to an endpoint, clearing up) is written with the change
-- and done after it, so a crash between the two loses nothing; what is to be done again and again is
-- a row too. `tailnet` is 0 where a job is the server's. Jobs of one `lane` run one after the other,
-- by id: an endpoint gets what it is sent in order. No two waiting jobs have the same `name`. A
-- process claims a job until `claimed_until`, and another takes it over after that. Moments are in
-- microseconds since 1970.
CREATE TABLE jobs (
    id            INTEGER NOT NULL PRIMARY KEY,
    tailnet       INTEGER NOT NULL,
    topic         TEXT NOT NULL,
    lane          TEXT,
    name          TEXT,
    at            INTEGER NOT NULL,
    due_at        INTEGER NOT NULL,
    attempts      INTEGER NOT NULL,
    claimed_until INTEGER,
    body          TEXT NOT NULL,
    checksum      INTEGER NOT NULL
) STRICT;
CREATE INDEX jobs_topic ON jobs (topic, due_at);
CREATE INDEX jobs_lane ON jobs (lane, id);
CREATE INDEX jobs_tailnet ON jobs (tailnet);
CREATE UNIQUE INDEX jobs_name ON jobs (name);
