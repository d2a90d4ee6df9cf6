//! Checksums of rows: every value of a row, in a fixed order, under the name of its table.
//!
//! A disk, a file system or a person may change what is stored, and neither engine notices it by
//! itself. A CRC of 32 bits finds every change of up to 32 adjacent bits, and all but one in four
//! billion of the others. It is not a defence against somebody who can write to the database.

use bowline_model::kind::Kind;

/// What a row says it is, and is not.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not what was written: its checksum is wrong")]
pub(crate) struct Mismatch(pub(crate) String);

struct Sum(crc32fast::Hasher);

impl Sum {
    fn of(table: &str) -> Self {
        Self(crc32fast::Hasher::new()).text(table)
    }

    fn number(mut self, number: i64) -> Self {
        self.0.update(&number.to_be_bytes());
        self
    }

    /// The length goes first, so that no two lists of texts look the same.
    fn bytes(self, bytes: &[u8]) -> Self {
        let mut sum = self.number(i64::try_from(bytes.len()).unwrap_or(i64::MAX));
        sum.0.update(bytes);
        sum
    }

    fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    fn optional(self, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(text),
            None => self.number(-1),
        }
    }

    fn end(self) -> i64 {
        i64::from(self.0.finalize())
    }
}

/// Of an object's row. `columns` in the order of [`Kind::columns`]; `expires` counts for cold kinds.
pub(crate) fn object<'a>(
    kind: Kind,
    tailnet: i64,
    id: i64,
    seq: i64,
    body: &str,
    columns: impl Iterator<Item = Option<&'a str>>,
    expires: Option<i64>,
) -> i64 {
    let mut sum = Sum::of(kind.name())
        .number(tailnet)
        .number(id)
        .number(seq)
        .text(body);
    for column in columns {
        sum = sum.optional(column);
    }
    if kind.is_cold() {
        sum = match expires {
            Some(at) => sum.number(1).number(at),
            None => sum.number(-1),
        };
    }
    sum.end()
}

/// Of a tailnet's head.
pub(crate) fn head(tailnet: i64, seq: i64) -> i64 {
    Sum::of("heads").number(tailnet).number(seq).end()
}

/// Of an entry of the change log.
pub(crate) fn change(tailnet: i64, seq: i64, commit_id: &[u8], at: i64, touched: &str) -> i64 {
    Sum::of("changes")
        .number(tailnet)
        .number(seq)
        .bytes(commit_id)
        .number(at)
        .text(touched)
        .end()
}

/// The values of an audit event's row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Audit<'a> {
    pub(crate) owner: i64,
    pub(crate) number: i64,
    pub(crate) at: i64,
    pub(crate) id: i64,
    pub(crate) body: &'a str,
    pub(crate) previous: &'a [u8],
    pub(crate) hash: &'a [u8],
}

/// Of an audit event.
pub(crate) fn audit(event: &Audit<'_>) -> i64 {
    Sum::of("audit")
        .number(event.owner)
        .number(event.number)
        .number(event.at)
        .number(event.id)
        .text(event.body)
        .bytes(event.previous)
        .bytes(event.hash)
        .end()
}

/// Of an end of a chain of audit events.
pub(crate) fn audit_end(owner: i64, place: i64, number: i64, hash: &[u8]) -> i64 {
    Sum::of("audit_ends")
        .number(owner)
        .number(place)
        .number(number)
        .bytes(hash)
        .end()
}

/// The values of a job's row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) id: i64,
    pub(crate) owner: i64,
    pub(crate) topic: &'a str,
    pub(crate) lane: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
    pub(crate) at: i64,
    pub(crate) due_at: i64,
    pub(crate) attempts: i64,
    pub(crate) claimed_until: Option<i64>,
    pub(crate) body: &'a str,
}

/// Of a job.
pub(crate) fn job(job: &Job<'_>) -> i64 {
    Sum::of("jobs")
        .number(job.id)
        .number(job.owner)
        .text(job.topic)
        .optional(job.lane)
        .optional(job.name)
        .number(job.at)
        .number(job.due_at)
        .number(job.attempts)
        .number(job.claimed_until.unwrap_or(-1))
        .text(job.body)
        .end()
}

/// Of a kept text.
pub(crate) fn text(owner: i64, sha256: &str, at: i64, body: &[u8]) -> i64 {
    Sum::of("texts")
        .number(owner)
        .text(sha256)
        .number(at)
        .bytes(body)
        .end()
}

/// Of a device's presence.
pub(crate) fn presence(tailnet: i64, device: i64, online: bool, at: i64, body: &str) -> i64 {
    Sum::of("presence")
        .number(tailnet)
        .number(device)
        .number(i64::from(online))
        .number(at)
        .text(body)
        .end()
}

/// Of a sealed secret, with the number of its owner.
pub(crate) fn secret(owner: i64, name: &str, sealed: &[u8]) -> i64 {
    Sum::of("secrets")
        .number(owner)
        .text(name)
        .bytes(sealed)
        .end()
}

/// Of a noted moment.
pub(crate) fn moment(name: &str, at: i64) -> i64 {
    Sum::of("moments").text(name).number(at).end()
}

/// Compares, and names the row where it differs.
pub(crate) fn check(
    stored: i64,
    computed: i64,
    name: impl FnOnce() -> String,
) -> Result<(), Mismatch> {
    if stored == computed {
        Ok(())
    } else {
        Err(Mismatch(name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_and_its_place_count() {
        let one = Job {
            id: 1,
            owner: 1,
            topic: "a",
            lane: None,
            name: None,
            at: 0,
            due_at: 0,
            attempts: 0,
            claimed_until: None,
            body: "{}",
        };
        let sums = [
            object(
                Kind::Device,
                1,
                2,
                3,
                "{}",
                [Some("a"), None].into_iter(),
                None,
            ),
            object(
                Kind::Device,
                1,
                2,
                3,
                "{}",
                [None, Some("a")].into_iter(),
                None,
            ),
            object(
                Kind::Device,
                1,
                2,
                3,
                "{}",
                [Some(""), None].into_iter(),
                None,
            ),
            object(
                Kind::Device,
                1,
                2,
                3,
                "[]",
                [Some("a"), None].into_iter(),
                None,
            ),
            object(
                Kind::Device,
                1,
                2,
                4,
                "{}",
                [Some("a"), None].into_iter(),
                None,
            ),
            object(
                Kind::Device,
                1,
                4,
                3,
                "{}",
                [Some("a"), None].into_iter(),
                None,
            ),
            object(
                Kind::Device,
                4,
                2,
                3,
                "{}",
                [Some("a"), None].into_iter(),
                None,
            ),
            object(
                Kind::Key,
                1,
                2,
                3,
                "{}",
                [Some("a"), None].into_iter(),
                None,
            ),
            object(Kind::AccessToken, 1, 2, 3, "{}", [].into_iter(), None),
            object(Kind::AccessToken, 1, 2, 3, "{}", [].into_iter(), Some(-1)),
            object(Kind::AccessToken, 1, 2, 3, "{}", [].into_iter(), Some(1)),
            head(1, 2),
            head(2, 1),
            job(&one),
            job(&Job { owner: 2, ..one }),
            job(&Job { attempts: 1, ..one }),
            job(&Job {
                claimed_until: Some(0),
                ..one
            }),
            job(&Job {
                lane: Some("b"),
                ..one
            }),
            job(&Job {
                name: Some("b"),
                ..one
            }),
            text(1, "a", 2, b"b"),
            text(1, "a", 2, b"c"),
            secret(0, "a", b"b"),
            secret(1, "a", b"b"),
            presence(1, 2, true, 3, "{}"),
            presence(1, 2, false, 3, "{}"),
        ];
        let different: std::collections::HashSet<_> = sums.into_iter().collect();
        assert_eq!(different.len(), sums.len());
    }
}
