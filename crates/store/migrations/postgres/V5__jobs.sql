-- Why: what a change must cause (deliveries to an endpoint, clearing up) is written with the change
-- and done after it, so a crash between the two loses nothing; what is to be done again and again is
-- a row too. `tailnet` is 0 where a job is the server's. Jobs of one `lane` run one after the other,
-- by id: an endpoint gets what it is sent in order. No two waiting jobs have the same `name`. A
-- process claims a job until `claimed_until`, and another takes it over after that. Moments are in
-- microseconds since 1970.
CREATE TABLE jobs (
    id            BIGINT NOT NULL PRIMARY KEY,
    tailnet       BIGINT NOT NULL,
    topic         TEXT NOT NULL,
    lane          TEXT,
    name          TEXT,
    at            BIGINT NOT NULL,
    due_at        BIGINT NOT NULL,
    attempts      BIGINT NOT NULL,
    claimed_until BIGINT,
    body          JSON NOT NULL,
    checksum      BIGINT NOT NULL
);
CREATE INDEX jobs_topic ON jobs (topic, due_at);
CREATE INDEX jobs_lane ON jobs (lane, id);
CREATE INDEX jobs_tailnet ON jobs (tailnet);
CREATE UNIQUE INDEX jobs_name ON jobs (name);
