-- Why: soft state of devices (online, last seen, endpoints) survives a restart without being part
-- of any change: it is flushed in batches, and losing the last flush is allowed. `at` is in
-- microseconds since 1970.
CREATE TABLE presence (
    device  INTEGER NOT NULL PRIMARY KEY,
    tailnet INTEGER NOT NULL,
    online  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX presence_tailnet ON presence (tailnet);
