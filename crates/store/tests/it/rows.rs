//! Short ways to make rows.

use std::sync::atomic::{AtomicU64, Ordering};

use bowline_model::id::TailnetId;
use bowline_store::{
    AuditRow, Batch, Column, Delete, JobRow, Kind, Owner, Presence, Put, SecretRow, Store,
};
use jiff::Timestamp;

pub(crate) fn tailnet(number: u64) -> TailnetId {
    TailnetId::new(number).unwrap()
}

/// A moment, `second` seconds after an arbitrary one.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

/// A commit id that no other call returns.
pub(crate) fn commit_id() -> [u8; 16] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    u128::from(NEXT.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
}

/// An empty batch.
pub(crate) fn batch(of: u64, base: u64) -> Batch {
    Batch::new(
        tailnet(of),
        base,
        commit_id(),
        at(i64::try_from(base).unwrap()),
    )
}

/// An empty batch of this owner.
pub(crate) fn batch_of(owner: Owner, base: u64) -> Batch {
    Batch {
        owner,
        ..batch(1, base)
    }
}

/// Whose objects of a kind are in these tests.
pub(crate) fn owner(kind: Kind) -> Owner {
    if kind.is_server_wide() {
        Owner::Server
    } else {
        tailnet(1).into()
    }
}

/// An object with every column that its kind has.
pub(crate) fn object(kind: Kind, id: u64, text: &str) -> Put {
    let body = format!(r#"{{"v":1,"text":"{text}"}}"#);
    let mut put = Put::new(kind, id, body);
    for column in kind.columns() {
        put = put.with(*column, format!("{} {id}", column.name()));
    }
    put.expires = kind.is_cold().then(|| at(1000));
    put
}

/// An empty batch of the server.
pub(crate) fn of_server(base: u64) -> Batch {
    Batch {
        owner: Owner::Server,
        ..batch(1, base)
    }
}

/// A batch that writes one row.
pub(crate) fn putting(of: u64, base: u64, put: Put) -> Batch {
    Batch {
        puts: vec![put],
        ..batch(of, base)
    }
}

/// A batch that removes one row.
pub(crate) fn deleting(of: u64, base: u64, kind: Kind, id: u64) -> Batch {
    Batch {
        deletes: vec![Delete { kind, id }],
        ..batch(of, base)
    }
}

pub(crate) fn device(id: u64, text: &str) -> Put {
    Put::new(Kind::Device, id, format!(r#"{{"v":1,"text":"{text}"}}"#))
}

pub(crate) fn keyed(id: u64, node_key: &str) -> Put {
    device(id, node_key).with(Column::NodeKey, node_key)
}

pub(crate) fn user(id: u64, login: &str) -> Put {
    Put::new(Kind::User, id, r#"{"v":1}"#).with(Column::UserLogin, login)
}

pub(crate) fn event(id: u64, second: i64) -> AuditRow {
    AuditRow {
        id,
        at: at(second),
        body: format!(r#"{{"event":{id}}}"#).into(),
    }
}

/// A job that is due at once.
pub(crate) fn job(id: u64, topic: &str) -> JobRow {
    JobRow {
        id,
        topic: topic.to_owned(),
        lane: None,
        name: None,
        at: at(0),
        due_at: at(0),
        body: format!(r#"{{"job":{id}}}"#).into(),
    }
}

/// Every job of a topic that is not behind another in its lane, by id. They stay to be claimed.
pub(crate) async fn jobs(store: &Store, topic: &str) -> Vec<(Owner, JobRow)> {
    let now = at(1_000_000);
    let claims = store.claim_jobs(topic, now, now, usize::MAX).await.unwrap();
    claims.into_iter().map(|one| (one.owner, one.job)).collect()
}

pub(crate) fn sealed(name: &str, sealed: &[u8]) -> SecretRow {
    SecretRow {
        name: name.to_owned(),
        sealed: Some(sealed.to_vec()),
    }
}

pub(crate) fn presence(device: u64, second: i64, online: bool) -> Presence {
    Presence {
        device,
        online,
        at: at(second),
        body: format!(r#"{{"derp":{second}}}"#).into(),
    }
}

/// Ids of a tailnet's rows of one kind.
pub(crate) async fn ids(store: &Store, of: u64, kind: Kind) -> Vec<u64> {
    let loaded = store.load(tailnet(of)).await.unwrap();
    loaded
        .rows
        .iter()
        .filter(|row| row.kind == kind)
        .map(|row| row.id)
        .collect()
}
