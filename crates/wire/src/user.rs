//! User profiles in map responses.

use serde::Serialize;

/// Id of the pseudo user who owns every tagged device. Source: ts-go `tailcfg` convention.
pub const TAGGED_DEVICES_ID: u64 = 2_147_455_555;
/// Login name of the pseudo user.
pub const TAGGED_DEVICES_LOGIN: &str = "tagged-devices";
/// Display name of the pseudo user.
pub const TAGGED_DEVICES_NAME: &str = "Tagged Devices";

/// A user as clients show them. Merged by id on the client; must arrive with, or before, the
/// first device that names the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UserProfile {
    /// The user's id.
    #[serde(rename = "ID")]
    pub id: u64,
    /// Login name; never empty, or the client forgets its login when it restarts.
    #[serde(rename = "LoginName")]
    pub login_name: String,
    /// Name that people see.
    #[serde(rename = "DisplayName")]
    pub display_name: String,
}
