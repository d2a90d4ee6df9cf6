//! `GET /tailnet/{tailnet}/acl`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_engine::policy::file::{oddities, text};
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::Policy;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Details, File, Form, expected, sized, warning_texts};
use crate::Api;
use crate::call::Call;
use crate::error::ApiError;
use crate::schema::JSON;

/// Gets the policy file as HuJSON, as JSON, or with what is odd about it.
///
/// Source: official OpenAPI document, `getPolicyFile`.
pub(crate) async fn handler(api: Api, call: Call<(), Details>) -> Result<File, ApiError> {
    let tailnet = call.actor.tailnet;
    let snapshot = api.snapshot(tailnet)?;
    let wants_details = call.query.details;
    let form = Form::of(&call.headers);
    let size = text(snapshot.policy()).len();
    let expected = expected(&call.headers);
    sized(&api, tailnet, size, move || {
        if expected.is_some_and(|expected| expected.is_known(snapshot.policy())) {
            return Ok(File::unchanged(text(snapshot.policy())));
        }
        // An old client asks for HuJSON and for details, and expects the latter.
        if wants_details {
            return details(&snapshot);
        }
        form.answer(text(snapshot.policy()))
    })
    .await
}

/// The policy file with what is odd and wrong about it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "PolicyDetails")]
pub(crate) struct WithDetails {
    /// The file in base 64.
    acl: String,
    warnings: Vec<String>,
    /// `null` where nothing is wrong.
    errors: Option<Vec<String>>,
}

pub(super) fn details(snapshot: &Snapshot) -> Result<File, ApiError> {
    let text = text(snapshot.policy());
    let compiled = snapshot.compiled();
    // A file that a newer version wrote may be none to this one: another is in force then.
    let errors = snapshot.policy_fault().map(|fault| {
        let errors = Policy::parse(text).err().unwrap_or_default();
        let texts = errors.into_iter().map(|error| error.message);
        let texts: Vec<String> = texts.collect();
        if texts.is_empty() {
            vec![fault.to_owned()]
        } else {
            texts
        }
    });
    let mut warnings = Vec::new();
    if errors.is_none() {
        warnings = warning_texts(&oddities(compiled));
    }
    let acl = BASE64_STANDARD.encode(text);
    let details = WithDetails {
        acl,
        warnings,
        errors,
    };
    let body = serde_json::to_string(&details)
        .map_err(|error| ApiError::defect("an answer cannot be encoded", &error))?;
    Ok(File::new(JSON, body, text))
}
