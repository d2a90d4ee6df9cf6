//! The policy file: read, replace, try out, and ask.
//!
//! Source: `docs/protocol/api-behaviour.md`, section 5.7; `docs/protocol/policy-language.md`, section 14.

pub(crate) mod diff;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod preview;
pub(crate) mod set;
pub(crate) mod validate;

use std::sync::Arc;

use axum::body::{Body, Bytes, HttpBody as _};
use axum::extract::Request;
use axum::response::Response;
use bowline_engine::policy::file::{Expected, check_domains, etag};
use bowline_model::id::TailnetId;
use bowline_netmap::snapshot::Snapshot;
use bowline_policy::{Budget, Diagnostic, Exhausted, Failure, Place, Policy, hujson};
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderName, IF_MATCH, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::Api;
use crate::answer::Answer;
use crate::call::{FromBody, FromQuery, Pairs};
use crate::error::ApiError;
use crate::extract::bytes;
use crate::schema::{Content, HUJSON, JSON, Schemas};

/// Up to this size a text is read and written where it is asked for: a matter of a millisecond.
const SMALL: usize = 8 * 1024;

/// In which form a policy file is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it was written.
    Hujson,
    /// Plain JSON, without comments.
    Json,
}

impl Form {
    /// What a request accepts: HuJSON, unless it asks for JSON, and does not ask more for HuJSON.
    fn of(headers: &HeaderMap) -> Self {
        let json = quality(headers, "application/json");
        let hujson = quality(headers, "application/hujson");
        if json > 0 && json >= hujson {
            Self::Json
        } else {
            Self::Hujson
        }
    }

    /// An answer with a policy file. The `ETag` is the same in every form.
    fn answer(self, text: &str) -> Result<File, ApiError> {
        let (kind, body) = match self {
            Self::Hujson => (HUJSON, text.to_owned()),
            Self::Json => (JSON, hujson::to_json(text).map_err(broken)?),
        };
        Ok(File::new(kind, body, text))
    }
}

/// How much a request wants a media type that it names, in thousandths; 0 where it does not name it.
/// Source: RFC 9110, section 12.5.1.
fn quality(headers: &HeaderMap, wanted: &str) -> u32 {
    let lines = headers.get_all(ACCEPT).iter();
    let ranges = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    let qualities = ranges.filter_map(|range| {
        let mut parts = range.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(wanted) {
            return None;
        }
        let weight = parts.find_map(|part| {
            let (name, value) = part.split_once('=')?;
            name.trim().eq_ignore_ascii_case("q").then(|| value.trim())
        });
        Some(weight.map_or(1000, thousandths))
    });
    qualities.max().unwrap_or(0)
}

/// `0.5` as 500. A text that is not a weight counts as if none was given.
fn thousandths(weight: &str) -> u32 {
    let (whole, digits) = weight.split_once('.').unwrap_or((weight, ""));
    let is_weight = matches!(whole, "0" | "1")
        && digits.len() <= 3
        && digits.bytes().all(|b| b.is_ascii_digit());
    if !is_weight || whole == "1" {
        return 1000;
    }
    format!("{digits:0<3}").parse().unwrap_or(1000)
}

/// Which policy file a request expects.
fn expected(headers: &HeaderMap) -> Option<Expected> {
    // A value that is not a text is not a tag that we gave.
    let lines = |name: HeaderName| {
        let lines = headers.get_all(name).into_iter();
        lines.map(|line| line.to_str().unwrap_or_default())
    };
    Expected::parse(lines(IF_MATCH), lines(IF_NONE_MATCH))
}

fn broken(error: impl std::fmt::Display) -> ApiError {
    ApiError::defect("the stored policy file cannot be read", &error)
}

/// An answer with a policy file, and its `ETag`.
pub(crate) struct File {
    /// The media type and the text. `None`: the caller has the file already.
    content: Option<(&'static str, String)>,
    tag: String,
}

impl File {
    /// An answer that is made of this file.
    fn new(kind: &'static str, content: String, file: &str) -> Self {
        Self {
            content: Some((kind, content)),
            tag: etag(file),
        }
    }

    /// 304: the caller has this file already.
    fn unchanged(file: &str) -> Self {
        Self {
            content: None,
            tag: etag(file),
        }
    }
}

/// A policy file without comments, or with `details` what is odd and wrong about it.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
#[expect(dead_code, reason = "only its schema is used")]
enum FileJson {
    Details(get::WithDetails),
    File(Map<String, Value>),
}

impl Answer for File {
    fn content(schemas: &mut Schemas) -> Option<Content> {
        Some(Content {
            is_required: true,
            types: vec![
                (JSON, schemas.answer::<FileJson>()),
                (HUJSON, json!({"type": "string"})),
            ],
        })
    }

    fn into_response(self) -> Result<Response, ApiError> {
        let mut response = Response::default();
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", self.tag)) {
            response.headers_mut().insert(ETAG, tag);
        }
        match self.content {
            Some((kind, text)) => {
                *response.body_mut() = Body::from(text);
                let kind = HeaderValue::from_static(kind);
                response.headers_mut().insert(CONTENT_TYPE, kind);
            }
            None => *response.status_mut() = StatusCode::NOT_MODIFIED,
        }
        Ok(response)
    }
}

/// Parameters of what shows a policy file.
#[derive(JsonSchema)]
pub(crate) struct Details {
    /// `1` or `true`: with warnings and errors.
    #[schemars(with = "Option<bool>")]
    details: bool,
}

impl FromQuery for Details {
    fn read(pairs: Pairs) -> Result<Self, ApiError> {
        let details = pairs
            .iter()
            .any(|(key, value)| key == "details" && matches!(value.as_str(), "1" | "true"));
        Ok(Self { details })
    }
}

/// The body of a request that has a policy file, as it was sent. Line numbers are lines of it.
pub(crate) struct PolicyBody {
    bytes: Bytes,
    /// The request said that it has no body, and not only brought none: then a connection that was
    /// cut or a proxy that lost the body must not look like it.
    has_none: bool,
}

impl FromBody for PolicyBody {
    const HAS_POLICY: bool = true;

    async fn read(request: Request) -> Result<Self, ApiError> {
        let has_none = request.body().is_end_stream();
        let bytes = bytes(request).await?;
        Ok(Self { bytes, has_none })
    }

    fn content(_: &mut Schemas) -> Option<Content> {
        Some(Content {
            // Without one it is the default, or the one in force.
            is_required: false,
            types: vec![
                (JSON, json!({"type": "object"})),
                (HUJSON, json!({"type": "string"})),
            ],
        })
    }

    fn try_bytes(bytes: &[u8]) {
        if let Ok(text) = text_of(Bytes::copy_from_slice(bytes)) {
            let _ = Policy::parse_within(&text, &Budget::default());
        }
    }
}

/// A policy file with its tests, or tests alone.
pub(crate) struct PolicyOrTests(Bytes);

impl FromBody for PolicyOrTests {
    const HAS_POLICY: bool = true;

    async fn read(request: Request) -> Result<Self, ApiError> {
        bytes(request).await.map(Self)
    }

    fn content(_: &mut Schemas) -> Option<Content> {
        let tests = json!({"type": "array", "description": "Tests, as a policy file has them."});
        Some(Content {
            is_required: true,
            types: vec![
                (JSON, json!({"anyOf": [{"type": "object"}, tests]})),
                (HUJSON, json!({"type": "string"})),
            ],
        })
    }

    fn try_bytes(bytes: &[u8]) {
        PolicyBody::try_bytes(bytes);
    }
}

impl PolicyOrTests {
    fn into_text(self) -> Result<String, ApiError> {
        if self.0.is_empty() {
            return Err(ApiError::bad_request("unexpected end of JSON input"));
        }
        text_of(self.0)
    }
}

impl PolicyBody {
    /// The text, or `None` where the request said that it has no body.
    fn into_text(self) -> Result<Option<String>, ApiError> {
        if self.bytes.is_empty() {
            return if self.has_none {
                Ok(None)
            } else {
                Err(ApiError::bad_request("unexpected end of JSON input"))
            };
        }
        text_of(self.bytes).map(Some)
    }
}

fn text_of(bytes: Bytes) -> Result<String, ApiError> {
    String::from_utf8(bytes.into()).map_err(|error| {
        // A policy has a bound, and so has the search for the place.
        let end = error.as_bytes().len().min(SMALL);
        // The parser says where, in comments and strings alike.
        match hujson::Value::parse(error.as_bytes().get(..end).unwrap_or_default()) {
            Err(reason) if end == error.as_bytes().len() => {
                ApiError::bad_request(reason.to_string())
            }
            _ => ApiError::bad_request("invalid body: not UTF-8"),
        }
    })
}

/// What the policy API answers of a policy that is refused: its first error.
fn refused(diagnostic: Diagnostic) -> ApiError {
    ApiError {
        data: diagnostic.failures,
        ..ApiError::bad_request(diagnostic.message)
    }
}

/// Work on a policy that took more than it may.
fn exhausted(reason: Exhausted) -> ApiError {
    ApiError::bad_request(reason.to_string())
}

/// Refuses a policy that is longer than policies may be.
fn check_length(api: &Api, text: &str) -> Result<(), ApiError> {
    let most = api.options.policy_bytes;
    if text.len() <= most {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "policy is too large: it has {} bytes, and this server takes up to {most} \
         (limits.policy_bytes)",
        text.len()
    )))
}

/// Reads and checks a policy. Of several errors the first is told, as the real service does.
fn parse(api: &Api, text: &str, budget: &Budget) -> Result<Arc<Policy>, Diagnostic> {
    // To the language null is a file without sections, which allows everything. Whoever sends it
    // lost a value on the way; nobody writes pages of comments around it.
    if text.len() <= SMALL && hujson::Value::parse(text.as_bytes()).is_ok_and(|it| it.is_null()) {
        let place = Place { line: 1, column: 1 };
        let message = "json: cannot use null where an object is expected";
        return Err(Diagnostic::new(place, message));
    }
    let policy = Policy::parse_within(text, budget).map_err(|errors| {
        // There is at least one.
        let first = errors.into_iter().next();
        first.unwrap_or_else(|| Diagnostic::new(Place::default(), "invalid policy"))
    })?;
    match policy.warnings().iter().find(|it| it.is_repetition) {
        Some(repetition) if api.options.refuse_repetitions => Err(Diagnostic::new(
            repetition.place,
            format!("line {}: {}", repetition.place.line, repetition.message),
        )),
        _ => Ok(Arc::new(policy)),
    }
}

/// Reads a policy that is proposed for a tailnet.
fn proposed(
    api: &Api,
    snapshot: &Snapshot,
    text: &str,
    budget: &Budget,
) -> Result<Arc<Policy>, ApiError> {
    check_length(api, text)?;
    let policy = parse(api, text, budget).map_err(refused)?;
    check_domains(snapshot, &policy).map_err(refused)?;
    Ok(policy)
}

/// Warnings as the details of a policy show them.
fn warning_texts(odd: &[Failure]) -> Vec<String> {
    let mut texts = Vec::new();
    for entry in odd {
        let about = match entry.place {
            Place { line: 0, .. } => hujson::quote(&entry.user),
            Place { line, column } => format!("line {line}, column {column}"),
        };
        texts.extend(
            entry
                .warnings
                .iter()
                .map(|warning| format!("{about}: {warning}")),
        );
    }
    texts
}

/// Runs work that follows the size of a text: a large one's beside the runtime, in the tailnet's
/// turn.
async fn sized<T, W>(api: &Api, tailnet: TailnetId, size: usize, work: W) -> Result<T, ApiError>
where
    T: Send + 'static,
    W: FnOnce() -> Result<T, ApiError> + Send + 'static,
{
    if size <= SMALL {
        return work();
    }
    beside(api, tailnet, |_| work()).await
}

/// Runs work on a policy, which may take seconds, beside the runtime and in the tailnet's turn.
async fn beside<T, W>(api: &Api, tailnet: TailnetId, work: W) -> Result<T, ApiError>
where
    T: Send + 'static,
    W: FnOnce(&Budget) -> Result<T, ApiError> + Send + 'static,
{
    api.heavy.turn(tailnet).await?.run(work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_is_the_one_that_is_asked_for_most() {
        for (lines, form) in [
            (&[][..], Form::Hujson),
            (&["*/*"], Form::Hujson),
            (&["application/json"], Form::Json),
            (&["APPLICATION/JSON"], Form::Json),
            (&["text/html", "application/json"], Form::Json),
            (&["application/json;q=0"], Form::Hujson),
            (&["application/json; Q=0.0"], Form::Hujson),
            (&["application/json;charset=utf-8;q=0.2"], Form::Json),
            (&["application/hujson, application/json"], Form::Json),
            (
                &["application/hujson, application/json;q=0.9"],
                Form::Hujson,
            ),
            (
                &["application/hujson;q=0.1,application/json;q=0.15"],
                Form::Json,
            ),
            (&["application/jsonx"], Form::Hujson),
            (&["application/json;q=high"], Form::Json),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(ACCEPT, HeaderValue::from_static(line));
            }
            assert_eq!(Form::of(&headers), form, "{lines:?}");
        }
    }
}
