//! The tailnet record: identity and settings of one private network.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::TailnetId;
use crate::record::Record;

/// One tailnet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tailnet {
    /// Its id.
    pub id: TailnetId,
    /// Organisation name, such as `example.com`: what the API's paths say instead of `-`. Unique
    /// in the server.
    pub name: String,
    /// MagicDNS suffix without a dot at the end, such as `tail1a2b3c.internal`.
    pub dns_name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Its settings.
    #[serde(default)]
    pub settings: Settings,
}

/// Settings of one tailnet that administrators change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// Whether new devices wait for approval.
    pub device_approval_on: bool,
    /// Days until the key of a newly logged-in device expires, 1 to 180.
    pub devices_key_duration_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device_approval_on: false,
            devices_key_duration_days: 180,
        }
    }
}

impl Record for Tailnet {
    const VERSION: u32 = 1;
}
