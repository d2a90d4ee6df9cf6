//! What is removed when it is old, in bounded portions.

use bowline_model::kind::Kind;
use jiff::Timestamp;

use crate::chain::Link;
use crate::owner::Owner;
use crate::text::TextVersion;

/// Rows that may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prune {
    /// Entries of the change log from before a moment, and all but the newest `keep`. The newest
    /// always stays, so that the log says which number the owner has.
    Changes {
        /// Whose log.
        owner: Owner,
        /// Older ones go.
        before: Timestamp,
        /// How many of the newest stay, whatever their age allows.
        keep: u64,
    },
    /// The oldest audit events, up to the first that is not from before a moment, and all but the
    /// newest `keep`. Only a beginning of the log goes, so that what stays is a chain still, and the
    /// last that went is noted.
    Audit {
        /// Whose log.
        owner: Owner,
        /// Older ones go.
        before: Timestamp,
        /// How many of the newest stay, whatever their age allows.
        keep: u64,
    },
    /// These texts, unless they were set again since they were listed.
    Texts {
        /// Whose texts.
        owner: Owner,
        /// Which.
        texts: Vec<TextVersion>,
    },
    /// Jobs of lanes (deliveries) that were made before a moment and are not being done.
    Deliveries {
        /// Older ones go.
        before: Timestamp,
    },
    /// Objects of a cold kind that were over at a moment, the oldest first. The change log has no entry
    /// of it: nobody found them before either. Of a hot kind, none.
    Expired {
        /// The kind.
        kind: Kind,
        /// What was over then goes.
        at: Timestamp,
    },
    /// Presence that was flushed while its device was being removed.
    Presence,
}

/// Of the oldest events of a log, the last that may go.
pub(crate) fn last_to_go(
    oldest: impl IntoIterator<Item = (Link, i64)>,
    newest: Link,
    before: Timestamp,
    keep: u64,
) -> Option<Link> {
    let beyond = newest.number.saturating_sub(keep);
    oldest
        .into_iter()
        .take_while(|(link, at)| link.number <= beyond || *at < before.as_microsecond())
        .map(|(link, _)| link)
        .last()
}
