-- Why: what a change must cause outside (webhooks, jobs) is written with the change and done after
-- it, so a crash between the two loses nothing. A row is removed when it is done.
CREATE TABLE outbox (
    id      BIGINT NOT NULL PRIMARY KEY,
    tailnet BIGINT NOT NULL,
    topic   TEXT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL
);
CREATE INDEX outbox_topic ON outbox (topic, id);
CREATE INDEX outbox_tailnet ON outbox (tailnet);
