-- Why: what a change must cause outside (webhooks, jobs) is written with the change and done after
-- it, so a crash between the two loses nothing. A row is removed when it is done.
CREATE TABLE outbox (
    id      INTEGER NOT NULL PRIMARY KEY,
    tailnet INTEGER NOT NULL,
    topic   TEXT NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_topic ON outbox (topic, id);
CREATE INDEX outbox_tailnet ON outbox (tailnet);
