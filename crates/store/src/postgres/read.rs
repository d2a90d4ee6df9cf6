//! Reads. What takes several statements is read in one transaction.

use std::collections::BTreeMap;

use bowline_model::id::TailnetId;
use bowline_model::kind::Kind;
use jiff::Timestamp;
use tokio_postgres::Row as SqlRow;

use super::fail::Failure;
use super::session::Session;
use super::value::{self, count, int, json, time, uint};
use super::{Inner, sql as own};
use crate::batch::AuditRow;
use crate::chain::{AuditEntry, Link, Place};
use crate::checksum;
use crate::owner::Owner;
use crate::row::{self, CatchUp, Change, Loaded, Operation, Presence, Row};
use crate::sql;
use crate::text::{TextRow, TextVersion};

type Read<T> = Result<T, Failure>;

pub(super) async fn tailnets(inner: &Inner) -> Read<Vec<(TailnetId, u64)>> {
    let rows = inner.session().await?.rows(sql::HEADS, &[]).await?;
    let heads = rows.iter().map(|row| {
        let owner = Owner::try_from(uint(row, 0)?).map_err(value::unreadable)?;
        Ok((owner, value::head(row, 1, owner)?))
    });
    let heads = heads.collect::<Read<Vec<_>>>()?.into_iter();
    Ok(heads
        .filter_map(|(owner, seq)| Some((owner.tailnet()?, seq)))
        .collect())
}

pub(super) async fn seq(inner: &Inner, owner: Owner) -> Read<u64> {
    seq_in(&inner.session().await?, owner).await
}

/// The newest sequence number; `0` when there is no such tailnet.
pub(super) async fn seq_in(session: &Session, owner: Owner) -> Read<u64> {
    let row = session.row(sql::HEAD, &[&int(owner.get())]).await?;
    row.map_or(Ok(0), |row| value::head(&row, 0, owner))
}

async fn begin(inner: &Inner) -> Read<Session> {
    let mut session = inner.session().await?;
    session.begin(super::sql::BEGIN_READ).await?;
    Ok(session)
}

pub(super) async fn load(inner: &Inner, owner: Owner) -> Read<Loaded> {
    let mut session = begin(inner).await?;
    let seq = seq_in(&session, owner).await?;
    let rows = all_rows(&session, owner).await?;
    let presence = session.rows(sql::PRESENCE, &[&int(owner.get())]).await?;
    session.rollback().await?;
    let presence = presence
        .iter()
        .map(|row| presence_of(row, owner))
        .collect::<Read<_>>()?;
    Ok(Loaded {
        seq,
        rows,
        presence,
    })
}

fn presence_of(row: &SqlRow, owner: Owner) -> Read<Presence> {
    let (device, online, body): (i64, bool, _) =
        (value::get(row, 0)?, value::get(row, 1)?, json(row, 3)?);
    let sum = checksum::presence(int(owner.get()), device, online, value::get(row, 2)?, &body);
    value::verify(row, 4, sum, || format!("presence of device {device}"))?;
    Ok(Presence {
        device: device.cast_unsigned(),
        online,
        at: time(row, 2)?,
        body,
    })
}

async fn all_rows(session: &Session, owner: Owner) -> Read<Vec<Row>> {
    let mut rows = Vec::new();
    for kind in Kind::all().filter(|kind| !kind.is_cold()) {
        for row in session
            .all_rows(&sql::of(kind).all, &[&int(owner.get())])
            .await?
        {
            let (id, seq) = (uint(&row, 0)?, uint(&row, 1)?);
            value::verify_object(&row, 3, kind, (int(owner.get()), int(id), int(seq)))?;
            rows.push(Row {
                kind,
                id,
                seq,
                body: json(&row, 2)?,
            });
        }
    }
    Ok(rows)
}

/// A row of a cold kind, with its owner.
fn cold_row(kind: Kind, row: &SqlRow) -> Read<(Owner, Row)> {
    let place = (
        value::get(row, 0)?,
        value::get(row, 1)?,
        value::get(row, 2)?,
    );
    value::verify_object(row, 4, kind, place)?;
    let owner = Owner::try_from(uint(row, 0)?).map_err(value::unreadable)?;
    let row = Row {
        kind,
        id: uint(row, 1)?,
        seq: uint(row, 2)?,
        body: json(row, 3)?,
    };
    Ok((owner, row))
}

pub(super) async fn find(
    inner: &Inner,
    kind: Kind,
    id: u64,
    now: Timestamp,
) -> Read<Option<(Owner, Row)>> {
    let Some(cold) = &sql::of(kind).cold else {
        return Ok(None);
    };
    let session = inner.session().await?;
    let row = session
        .row(&cold.find, &[&int(id), &now.as_microsecond()])
        .await?;
    row.map(|row| cold_row(kind, &row)).transpose()
}

pub(super) async fn page(
    inner: &Inner,
    kind: Kind,
    owner: Owner,
    after: u64,
    now: Timestamp,
    limit: usize,
) -> Read<Vec<Row>> {
    let Some(cold) = &sql::of(kind).cold else {
        return Ok(Vec::new());
    };
    let session = inner.session().await?;
    let (tailnet, after) = (int(owner.get()), int(after));
    let rows = session
        .rows(
            &cold.page,
            &[&tailnet, &after, &now.as_microsecond(), &count(limit)],
        )
        .await?;
    let rows = rows.iter().map(|row| Ok(cold_row(kind, row)?.1));
    rows.collect()
}

pub(super) async fn catch_up(inner: &Inner, owner: Owner, since: u64) -> Read<CatchUp> {
    let mut session = begin(inner).await?;
    let seq = seq_in(&session, owner).await?;
    let found = catch_up_in(&session, owner, since, seq).await?;
    session.rollback().await?;
    Ok(found)
}

/// What changed after `since` up to `seq`, which is the newest in this transaction.
async fn catch_up_in(session: &Session, owner: Owner, since: u64, seq: u64) -> Read<CatchUp> {
    let changes = changes_in(session, owner, since, row::CATCH_UP_LIMIT + 1).await?;
    if !row::reaches_back(&changes, since, seq) {
        let rows = all_rows(session, owner).await?;
        return Ok(CatchUp {
            seq,
            whole: true,
            rows,
            gone: Vec::new(),
        });
    }
    let mut touched = BTreeMap::new();
    let all = changes.iter().flat_map(|change| &change.touched);
    for one in all.filter(|one| !one.kind.is_cold()) {
        touched.insert((one.kind, one.id), one.operation);
    }
    let mut catch_up = CatchUp {
        seq,
        whole: false,
        rows: Vec::new(),
        gone: Vec::new(),
    };
    for ((kind, id), operation) in touched {
        let row = match operation {
            Operation::Put => {
                session
                    .row(&sql::of(kind).get, &[&int(owner.get()), &int(id)])
                    .await?
            }
            Operation::Delete => None,
        };
        match row {
            Some(row) => {
                let seq = uint(&row, 0)?;
                value::verify_object(&row, 2, kind, (int(owner.get()), int(id), int(seq)))?;
                catch_up.rows.push(Row {
                    kind,
                    id,
                    seq,
                    body: json(&row, 1)?,
                });
            }
            None => catch_up.gone.push((kind, id)),
        }
    }
    Ok(catch_up)
}

pub(super) async fn changes(
    inner: &Inner,
    owner: Owner,
    after: u64,
    limit: usize,
) -> Read<Vec<Change>> {
    changes_in(&inner.session().await?, owner, after, limit).await
}

async fn changes_in(
    session: &Session,
    owner: Owner,
    after: u64,
    limit: usize,
) -> Read<Vec<Change>> {
    let params = (int(owner.get()), int(after), count(limit));
    let rows = session
        .rows(sql::CHANGES, &[&params.0, &params.1, &params.2])
        .await?;
    rows.iter()
        .map(|row| change_of(row, int(owner.get())))
        .collect()
}

fn change_of(row: &SqlRow, tailnet: i64) -> Read<Change> {
    value::verify_change(row, 0, tailnet)?;
    let commit_id: &[u8] = value::get(row, 1)?;
    Ok(Change {
        seq: uint(row, 0)?,
        commit_id: commit_id.try_into().map_err(value::unreadable)?,
        at: time(row, 2)?,
        touched: row::touched_from(value::get(row, 3)?).map_err(value::unreadable)?,
    })
}

pub(super) async fn audit(
    inner: &Inner,
    owner: Owner,
    after: (Timestamp, u64),
    to: Timestamp,
    limit: usize,
) -> Read<Vec<AuditEntry>> {
    let session = inner.session().await?;
    let (from, to) = (after.0.as_microsecond(), to.as_microsecond());
    let (number, behind) = (int(owner.get()), int(after.1));
    let rows = session
        .rows(sql::AUDIT, &[&number, &from, &behind, &to, &count(limit)])
        .await?;
    let event = |row| {
        let number: i64 = value::get(row, 0)?;
        let sum = checksum::audit(&checksum::Audit {
            owner: int(owner.get()),
            number,
            at: value::get(row, 1)?,
            id: value::get(row, 2)?,
            body: &json(row, 3)?,
            previous: value::get(row, 4)?,
            hash: value::get(row, 5)?,
        });
        value::verify(row, 6, sum, || format!("audit event {number} of {owner}"))?;
        Ok(AuditEntry {
            number: uint(row, 0)?,
            previous: value::hash(row, 4)?,
            hash: value::hash(row, 5)?,
            event: AuditRow {
                id: uint(row, 2)?,
                at: time(row, 1)?,
                body: json(row, 3)?,
            },
        })
    };
    rows.iter().map(event).collect()
}

/// The newest event of a chain; before the first where there is none.
pub(super) async fn audit_end(session: &Session, owner: Owner) -> Read<Link> {
    let (number, place) = (int(owner.get()), Place::Newest.number());
    let row = session.row(sql::AUDIT_END, &[&number, &place]).await?;
    let Some(row) = row else {
        return Ok(Link::default());
    };
    let hash = value::hash(&row, 1)?;
    let sum = checksum::audit_end(number, place, value::get(&row, 0)?, &hash);
    value::verify(&row, 2, sum, || format!("end of the audit log of {owner}"))?;
    Ok(Link {
        number: uint(&row, 0)?,
        hash,
    })
}

pub(super) async fn text(inner: &Inner, owner: Owner, sha256: &str) -> Read<Option<TextRow>> {
    let session = inner.session().await?;
    let number = int(owner.get());
    let row = session.row(sql::TEXT, &[&number, &sha256]).await?;
    row.map(|row| {
        let body: &[u8] = value::get(&row, 2)?;
        let sum = checksum::text(number, sha256, value::get(&row, 0)?, body);
        value::verify(&row, 1, sum, || format!("text {sha256} of {owner}"))?;
        Ok(TextRow {
            sha256: sha256.to_owned(),
            at: time(&row, 0)?,
            body: std::str::from_utf8(body).map_err(value::unreadable)?.into(),
        })
    })
    .transpose()
}

pub(super) async fn texts(inner: &Inner, owner: Owner) -> Read<Vec<TextVersion>> {
    let session = inner.session().await?;
    let rows = session.rows(sql::TEXTS, &[&int(owner.get())]).await?;
    let version = |row| {
        Ok(TextVersion {
            sha256: value::get(row, 0)?,
            at: time(row, 1)?,
            bytes: uint(row, 2)?,
        })
    };
    rows.iter().map(version).collect()
}

pub(super) async fn moment(inner: &Inner, name: &str) -> Read<Option<Timestamp>> {
    let row = inner.session().await?.row(sql::MOMENT, &[&name]).await?;
    row.map(|row| {
        let sum = checksum::moment(name, value::get(&row, 0)?);
        value::verify(&row, 1, sum, || format!("moment {name}"))?;
        time(&row, 0)
    })
    .transpose()
}

pub(super) async fn size(inner: &Inner) -> Result<u64, Failure> {
    let session = inner.session().await?;
    let row = session.row(own::SIZE, &[]).await?;
    row.map_or(Ok(0), |row| uint(&row, 0))
}

pub(super) async fn secret(inner: &Inner, owner: Owner, name: &str) -> Read<Option<Vec<u8>>> {
    let session = inner.session().await?;
    let number = int(owner.get());
    let row = session.row(sql::SECRET, &[&number, &name]).await?;
    row.map(|row| value::secret(&row, 0, number, name))
        .transpose()
}
