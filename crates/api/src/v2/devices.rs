//! Devices.

pub(crate) mod authorize;
pub(crate) mod delete;
pub(crate) mod expire;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod rename;
pub(crate) mod set_ip;
pub(crate) mod set_key_expiry;
pub(crate) mod set_tags;
pub(crate) mod shown;

use schemars::JsonSchema;

use crate::call::{FromQuery, Pairs};
use crate::error::ApiError;

/// Parameters of what shows one device.
#[derive(JsonSchema)]
pub(crate) struct Shown {
    /// `all` shows every field.
    #[schemars(with = "Option<Fields>")]
    pub(crate) fields: Fields,
}

/// Which fields of a device are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(inline, rename_all = "lowercase")]
pub(crate) enum Fields {
    /// The default set.
    Default,
    /// Everything.
    All,
}

impl Fields {
    fn of(pairs: &Pairs) -> Self {
        // An unknown value is as none: the official documentation names no error for it.
        let all = pairs
            .iter()
            .any(|(key, value)| key == "fields" && value == "all");
        if all { Self::All } else { Self::Default }
    }
}

impl FromQuery for Shown {
    fn read(pairs: Pairs) -> Result<Self, ApiError> {
        Ok(Self {
            fields: Fields::of(&pairs),
        })
    }
}
