-- Why: the objects of every tailnet and of the server itself, one table per kind, all after one
-- template: tailnet, id (unique in the server for its kind), the sequence number of the change that
-- wrote the row, and the object as JSON that only code reads. A real column exists only where a unique index needs it. `seq` is in
-- no index, so that a rewritten row touches none.

-- name: unique in the whole server.
CREATE TABLE tailnets (
    tailnet INTEGER NOT NULL,
    id      INTEGER NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    name    TEXT
) STRICT;
CREATE INDEX tailnets_tailnet ON tailnets (tailnet);
CREATE UNIQUE INDEX tailnets_name ON tailnets (name);

-- login: unique in its tailnet: one person may belong to several.
CREATE TABLE users (
    tailnet INTEGER NOT NULL,
    id      INTEGER NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    login   TEXT
) STRICT;
CREATE INDEX users_tailnet ON users (tailnet);
CREATE UNIQUE INDEX users_login ON users (tailnet, login);

-- node_key: unique in the whole server: a node key finds its device before its tailnet is known.
-- ipv6: unique in the whole server: addresses never clash between tailnets.
CREATE TABLE devices (
    tailnet  INTEGER NOT NULL,
    id       INTEGER NOT NULL PRIMARY KEY,
    seq      INTEGER NOT NULL,
    body     TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    node_key TEXT,
    ipv6     TEXT
) STRICT;
CREATE INDEX devices_tailnet ON devices (tailnet);
CREATE UNIQUE INDEX devices_node_key ON devices (node_key);
CREATE UNIQUE INDEX devices_ipv6 ON devices (ipv6);

CREATE TABLE keys (
    tailnet INTEGER NOT NULL,
    id      INTEGER NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX keys_tailnet ON keys (tailnet);

CREATE TABLE dns (
    tailnet INTEGER NOT NULL,
    id      INTEGER NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX dns_tailnet ON dns (tailnet);

CREATE TABLE policies (
    tailnet INTEGER NOT NULL,
    id      INTEGER NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX policies_tailnet ON policies (tailnet);

CREATE TABLE webhooks (
    tailnet INTEGER NOT NULL,
    id      INTEGER NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX webhooks_tailnet ON webhooks (tailnet);

-- The server's own objects: `tailnet` is 0 in each row, which no tailnet has. They live for hours.
CREATE TABLE waiting_logins (
    tailnet INTEGER NOT NULL,
    id      INTEGER NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX waiting_logins_tailnet ON waiting_logins (tailnet);

CREATE TABLE ssh_checks (
    tailnet INTEGER NOT NULL,
    id      INTEGER NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX ssh_checks_tailnet ON ssh_checks (tailnet);

CREATE TABLE ssh_confirmations (
    tailnet INTEGER NOT NULL,
    id      INTEGER NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL
) STRICT;
CREATE INDEX ssh_confirmations_tailnet ON ssh_confirmations (tailnet);

-- Objects of cold kinds: no snapshot has them, they are read by id or in pages. `expires`, in
-- microseconds since 1970: from then on nobody finds the row, and retention removes it.
CREATE TABLE access_tokens (
    tailnet INTEGER NOT NULL,
    id      INTEGER NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    expires INTEGER
) STRICT;
CREATE INDEX access_tokens_tailnet ON access_tokens (tailnet, id);
CREATE INDEX access_tokens_expires ON access_tokens (expires);

-- Events that webhook endpoints are to be told of: a log, read in pages by id.
CREATE TABLE webhook_notices (
    tailnet INTEGER NOT NULL,
    id      INTEGER NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    expires INTEGER
) STRICT;
CREATE INDEX webhook_notices_tailnet ON webhook_notices (tailnet, id);
CREATE INDEX webhook_notices_expires ON webhook_notices (expires);

-- How far each endpoint has been told. `expires` is never set: the row goes with its endpoint.
CREATE TABLE webhook_progress (
    tailnet INTEGER NOT NULL,
    id      INTEGER NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    expires INTEGER
) STRICT;
CREATE INDEX webhook_progress_tailnet ON webhook_progress (tailnet, id);
CREATE INDEX webhook_progress_expires ON webhook_progress (expires);

CREATE TABLE webhook_undelivered (
    tailnet INTEGER NOT NULL,
    id      INTEGER NOT NULL PRIMARY KEY,
    seq     INTEGER NOT NULL,
    body    TEXT NOT NULL,
    checksum INTEGER NOT NULL,
    expires INTEGER
) STRICT;
CREATE INDEX webhook_undelivered_tailnet ON webhook_undelivered (tailnet, id);
CREATE INDEX webhook_undelivered_expires ON webhook_undelivered (expires);
