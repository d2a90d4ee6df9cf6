//! The tailnet record: identity and settings of one private network.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::TailnetId;
use crate::kind::{Column, Kind, Stored};
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
    /// Whether users who come without an administrator's word wait for approval.
    pub users_approval_on: bool,
    /// Days until the key of a newly logged-in device expires, 1 to 180.
    pub devices_key_duration_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device_approval_on: false,
            users_approval_on: false,
            devices_key_duration_days: 180,
        }
    }
}

impl Record for Tailnet {
    const VERSION: u32 = 1;
}

impl Stored for Tailnet {
    const KIND: Kind = Kind::Tailnet;
    const NAME: &'static str = "tailnet";
    const TABLE: &'static str = "tailnets";
    const COLUMNS: &'static [Column] = &[Column::TailnetName];
    type Id = TailnetId;

    fn id(&self, _: TailnetId) -> TailnetId {
        self.id
    }

    fn columns(&self) -> Vec<(Column, String)> {
        vec![(Column::TailnetName, self.name.to_lowercase())]
    }
}

/// Longest organisation name, in bytes.
pub const NAME_MAX: usize = 100;

/// Whether a text can be an organisation name: 1 to 100 letters, digits, `.`, `@`, `-` and `_`, and
/// not `-` alone, which the API's paths use for the caller's own tailnet.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_MAX && text != "-" && text.bytes().all(is_name_byte)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'@' | b'-' | b'_')
}

/// The organisation name of a tailnet whose owner named none: the owner's login name, with `-` in
/// place of each run of characters that no organisation name has. `None` where that is too long:
/// then somebody has to name it.
///
/// `ann+lab@example.com` makes `ann-lab@example.com`.
pub fn name_for_owner(login: &str) -> Option<String> {
    let mut name = String::with_capacity(login.len());
    for c in login.chars() {
        if u8::try_from(c).is_ok_and(is_name_byte) {
            name.push(c);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    is_name(&name).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::user::is_login_name;
    use proptest::prelude::*;

    #[test]
    fn a_tailnet_is_named_after_its_owner() {
        for (login, name) in [
            ("ann@example.com", "ann@example.com"),
            ("ann+lab@example.com", "ann-lab@example.com"),
            ("o'brien@example.com", "o-brien@example.com"),
            ("ann++lab@example.com", "ann-lab@example.com"),
            ("zoë@example.com", "zo-@example.com"),
        ] {
            assert_eq!(name_for_owner(login).as_deref(), Some(name));
        }
        assert_eq!(name_for_owner(&format!("{}@x.com", "a".repeat(100))), None);
    }

    proptest! {
        #[test]
        fn every_login_name_makes_an_organisation_name_or_is_too_long(login in "\\PC{1,40}@[a-z.]{1,90}") {
            if is_login_name(&login) {
                match name_for_owner(&login) {
                    Some(name) => prop_assert!(is_name(&name)),
                    None => prop_assert!(login.len() > NAME_MAX),
                }
            }
        }
    }
}
