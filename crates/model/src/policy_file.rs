//! The policy file record.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::TailnetId;
use crate::kind::{Kind, Stored};
use crate::record::Record;

/// The policy file as its authors wrote it, comments included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyFile {
    /// HuJSON text. Absent: the tailnet still has the untouched default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// When it was last set; absent while it is the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<Timestamp>,
}

impl PolicyFile {
    /// What a new tailnet has.
    pub const fn untouched() -> Self {
        Self {
            text: None,
            updated: None,
        }
    }
}

impl Record for PolicyFile {
    const VERSION: u32 = 1;
}

impl Stored for PolicyFile {
    const KIND: Kind = Kind::Policy;
    const NAME: &'static str = "policy";
    const TABLE: &'static str = "policies";
    type Id = TailnetId;

    fn id(&self, tailnet: TailnetId) -> TailnetId {
        tailnet
    }
}
