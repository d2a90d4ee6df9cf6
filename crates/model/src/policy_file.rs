//! The policy file record.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

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

/// A version of a policy file, as events refer to it: never by its text, which may have megabytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PolicyRef {
    hash: [u8; 32],
    /// Length of its text, in bytes.
    pub size: u64,
}

impl PolicyRef {
    /// The version with this text.
    pub fn of(text: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self {
            hash,
            size: text.len() as u64,
        }
    }

    /// SHA-256 of its text: 64 hexadecimal digits.
    pub fn version(&self) -> String {
        use fmt::Write as _;
        self.hash
            .iter()
            .fold(String::with_capacity(64), |mut text, byte| {
                let _ = write!(text, "{byte:02x}");
                text
            })
    }
}

impl fmt::Debug for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PolicyRef({}, {} bytes)", self.version(), self.size)
    }
}

impl Serialize for PolicyRef {
    /// `{"version": "5f36…", "size": 812}`
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut fields = serializer.serialize_struct("PolicyRef", 2)?;
        fields.serialize_field("version", &self.version())?;
        fields.serialize_field("size", &self.size)?;
        fields.end()
    }
}
