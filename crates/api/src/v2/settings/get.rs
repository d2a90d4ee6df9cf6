//! `GET /tailnet/{tailnet}/settings`: get the settings of a tailnet.
//!
//! Source: official OpenAPI document, `getTailnetSettings`.

use super::{Part, SettingsShown};
use crate::Api;
use crate::answer::Encoded;
use crate::call::Call;
use crate::error::ApiError;

pub(crate) async fn handler(api: Api, call: Call) -> Result<Encoded<SettingsShown>, ApiError> {
    let snapshot = api.snapshot(call.actor.tailnet)?;
    Encoded::new(&Part::visible(&snapshot.tailnet().settings, &call.actor))
}
