-- Why: soft state of devices (online, last seen, endpoints) survives a restart without being part
-- of any change: it is flushed in batches, and losing the last flush is allowed. `at` is in
-- microseconds since 1970.
CREATE TABLE presence (
    device  BIGINT NOT NULL PRIMARY KEY,
    tailnet BIGINT NOT NULL,
    online  BOOLEAN NOT NULL,
    at      BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL
);
CREATE INDEX presence_tailnet ON presence (tailnet);
