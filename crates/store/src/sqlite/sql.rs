//! The SQL that PostgreSQL says in its own way.

pub(super) const PRESENCE_PUT: &str = "\
    INSERT INTO presence (device, tailnet, online, at, body, checksum) \
    SELECT id, tailnet, $1, $2, $3, $4 FROM devices WHERE tailnet = $5 AND id = $6 \
    ON CONFLICT (device) DO UPDATE SET online = excluded.online, at = excluded.at, \
    body = excluded.body, checksum = excluded.checksum, tailnet = excluded.tailnet \
    WHERE presence.at <= excluded.at OR presence.at > excluded.at + 3600000000";
