-- Why: the objects of every tailnet and of the server itself, one table per kind, all after one
-- template: tailnet, id (unique in the server for its kind), the sequence number of the change that
-- wrote the row, and the object as JSON that only code reads. A real column exists only where a unique index needs it. `seq` is in
-- no index, so that a rewritten row touches none.
-- JSON and not JSONB: a body comes back byte for byte, as on SQLite, `\u0000` in a string included,
-- and is neither parsed nor printed again by the database.

-- name: unique in the whole server.
CREATE TABLE tailnets (
    tailnet BIGINT NOT NULL,
    id      BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL,
    name    TEXT
);
CREATE INDEX tailnets_tailnet ON tailnets (tailnet);
CREATE UNIQUE INDEX tailnets_name ON tailnets (name);

-- login: unique in its tailnet: one person may belong to several.
CREATE TABLE users (
    tailnet BIGINT NOT NULL,
    id      BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL,
    login   TEXT
);
CREATE INDEX users_tailnet ON users (tailnet);
CREATE UNIQUE INDEX users_login ON users (tailnet, login);

-- node_key: unique in the whole server: a node key finds its device before its tailnet is known.
-- ipv6: unique in the whole server: addresses never clash between tailnets.
CREATE TABLE devices (
    tailnet  BIGINT NOT NULL,
    id       BIGINT NOT NULL PRIMARY KEY,
    seq      BIGINT NOT NULL,
    body     JSON NOT NULL,
    checksum BIGINT NOT NULL,
    node_key TEXT,
    ipv6     TEXT
);
CREATE INDEX devices_tailnet ON devices (tailnet);
CREATE UNIQUE INDEX devices_node_key ON devices (node_key);
CREATE UNIQUE INDEX devices_ipv6 ON devices (ipv6);

CREATE TABLE keys (
    tailnet BIGINT NOT NULL,
    id      BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL
);
CREATE INDEX keys_tailnet ON keys (tailnet);

CREATE TABLE dns (
    tailnet BIGINT NOT NULL,
    id      BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL
);
CREATE INDEX dns_tailnet ON dns (tailnet);

CREATE TABLE policies (
    tailnet BIGINT NOT NULL,
    id      BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL
);
CREATE INDEX policies_tailnet ON policies (tailnet);

CREATE TABLE webhooks (
    tailnet BIGINT NOT NULL,
    id      BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL
);
CREATE INDEX webhooks_tailnet ON webhooks (tailnet);

-- The server's own objects: `tailnet` is 0 in each row, which no tailnet has. They live for hours.
CREATE TABLE waiting_logins (
    tailnet BIGINT NOT NULL,
    id      BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL
);
CREATE INDEX waiting_logins_tailnet ON waiting_logins (tailnet);

CREATE TABLE ssh_checks (
    tailnet BIGINT NOT NULL,
    id      BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL
);
CREATE INDEX ssh_checks_tailnet ON ssh_checks (tailnet);

CREATE TABLE ssh_confirmations (
    tailnet BIGINT NOT NULL,
    id      BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL
);
CREATE INDEX ssh_confirmations_tailnet ON ssh_confirmations (tailnet);

-- Objects of cold kinds: no snapshot has them, they are read by id or in pages. `expires`, in
-- microseconds since 1970: from then on nobody finds the row, and retention removes it.
CREATE TABLE access_tokens (
    tailnet BIGINT NOT NULL,
    id      BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL,
    expires BIGINT
);
CREATE INDEX access_tokens_tailnet ON access_tokens (tailnet, id);
CREATE INDEX access_tokens_expires ON access_tokens (expires);

-- Events that webhook endpoints are to be told of: a log, read in pages by id.
CREATE TABLE webhook_notices (
    tailnet BIGINT NOT NULL,
    id      BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL,
    expires BIGINT
);
CREATE INDEX webhook_notices_tailnet ON webhook_notices (tailnet, id);
CREATE INDEX webhook_notices_expires ON webhook_notices (expires);

-- How far each endpoint has been told. `expires` is never set: the row goes with its endpoint.
CREATE TABLE webhook_progress (
    tailnet BIGINT NOT NULL,
    id      BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL,
    expires BIGINT
);
CREATE INDEX webhook_progress_tailnet ON webhook_progress (tailnet, id);
CREATE INDEX webhook_progress_expires ON webhook_progress (expires);

CREATE TABLE webhook_undelivered (
    tailnet BIGINT NOT NULL,
    id      BIGINT NOT NULL PRIMARY KEY,
    seq     BIGINT NOT NULL,
    body    JSON NOT NULL,
    checksum BIGINT NOT NULL,
    expires BIGINT
);
CREATE INDEX webhook_undelivered_tailnet ON webhook_undelivered (tailnet, id);
CREATE INDEX webhook_undelivered_expires ON webhook_undelivered (expires);
