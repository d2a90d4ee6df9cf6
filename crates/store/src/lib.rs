//! Where Bowline keeps what must survive: objects by kind, change log, audit events, large texts,
//! jobs, presence and sealed secrets, on SQLite or PostgreSQL.
//!
//! The store knows rows, not meaning. An object is a kind, an id, a JSON body and the few columns
//! that the database must keep unique; what the body says, and which version it has, is the
//! caller's. It must never decide a rule, read a clock, or answer a commit before it is durable.
//!
//! A change is one [`Batch`]: rows, a change-log entry, audit events, the texts that they refer to,
//! sealed secrets and what is to be done next ([`JobRow`]), all or none.
//! It names the sequence number that it was made from, and is a [`CommitError::Conflict`] when the
//! tailnet has moved on.
//!
//! ```
//! # use bowline_store::{Batch, Kind, Options, Put, Store};
//! # use bowline_model::id::TailnetId;
//! # async fn example(dir: &std::path::Path, now: jiff::Timestamp) -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::open(&dir.join("bowline.db").into(), Options::default()).await?;
//! let tailnet = TailnetId::new(1).ok_or("not an id")?;
//! let mut batch = Batch::new(tailnet, 0, [7; 16], now);
//! batch.puts.push(Put::new(Kind::Tailnet, 1, r#"{"v":1}"#));
//! assert_eq!(store.commit(batch).await?, 1); // durable, and the tailnet's newest number
//! assert_eq!(store.load(tailnet).await?.rows.len(), 1);
//! store.close().await;
//! # Ok(())
//! # }
//! ```

mod batch;
mod chain;
mod checksum;
mod dump;
mod error;
mod examine;
mod job;
mod migrate;
mod options;
mod owner;
mod postgres;
mod prune;
mod row;
mod seal;
mod sql;
mod sqlite;
mod store;
mod table;
mod text;
mod url;

pub use batch::{AuditRow, Batch, Delete, Put, SecretRow};
pub use bowline_model::kind::{Column, Kind};
pub use chain::{AuditEntry, Chain, ChainFault, Fault as ChainFaultKind, Hash, Link, hex};
pub use dump::{About, Backup, Header, Origin, Progress, SealedSecret, Summary, backup, secrets};
pub use error::{Cause, CommitError, Condition, Error, OpenError, TransferError, Trouble};
pub use examine::{Examination, Finding, examine, examine_audit};
pub use job::{Again, Claim, JobRow, Waiting};
pub use options::{Fault, Opening, Options, Point};
pub use owner::Owner;
pub use prune::Prune;
pub use row::{CatchUp, Change, Loaded, Operation, Presence, Row, Touched};
pub use seal::{SealError, Sealer};
pub use store::Store;
pub use text::{TextRow, TextVersion, text_hash};
pub use url::StoreUrl;
