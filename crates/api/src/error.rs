//! Failures as the API shows them: a status and `{"message": …}`, of policies with `data`.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bowline_engine::{Refusal, StoreFailure};
use bowline_model::requirement::Denied;
use bowline_model::secret::redacted;
use bowline_model::text::shown;
use bowline_policy::Failure;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, PRAGMA, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::text::plain;

/// Text of a 401. Clients and logs match on it.
pub(crate) const TOKEN_INVALID: &str = "API token invalid";
/// Text of a 403. Clients match on it.
pub(crate) const NOT_PERMITTED: &str =
    "calling actor does not have enough permissions to perform this function";

/// A failure.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// The status.
    pub status: StatusCode,
    /// What the caller reads.
    pub message: String,
    /// Failed tests of a policy, and warnings.
    pub data: Vec<Failure>,
    /// What the log says of it, and the caller does not read.
    pub(crate) cause: Option<Box<Cause>>,
    /// Which error of RFC 6749 it is, at the operations that give access tokens.
    pub(crate) oauth: Option<OAuthError>,
    /// After how many seconds to ask again.
    pub(crate) retry_after: Option<u64>,
}

/// An error of RFC 6749, section 5.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OAuthError {
    /// Its code: `invalid_client`.
    pub(crate) code: &'static str,
    /// Whether the client showed what it has in the header `Authorization`: it is then told of the
    /// scheme.
    pub(crate) by_header: bool,
}

/// What is behind a failure, for the log.
#[derive(Debug, Clone)]
pub(crate) enum Cause {
    /// Nobody needs to look.
    Condition(String),
    /// Somebody should look.
    Defect(String),
}

/// How failures look.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorBody<'a> {
    /// What is wrong.
    #[schemars(length(min = 1))]
    message: &'a str,
    /// Failed tests of a policy file.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    data: &'a [Failure],
    /// The error code of RFC 6749, where an access token was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    /// The message again, as RFC 6749 names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_description: Option<&'a str>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        // Texts quote what was sent: not all of it, in the notation in which it was sent, and nothing
        // that would not show as itself. A secret that was sent where none belongs is not repeated: answers
        // are copied into logs and tickets.
        Self {
            status,
            message: shown(&plain(&redacted(&message.into()))).into_owned(),
            data: Vec::new(),
            cause: None,
            oauth: None,
            retry_after: None,
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A defect: what could not be done, and why.
    pub(crate) fn defect(what: &str, error: &dyn std::fmt::Display) -> Self {
        Self {
            cause: Some(Box::new(Cause::Defect(format!("{what}: {error}")))),
            ..Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
        }
    }

    /// Writes to the log what the caller does not read: once, where the answer is made.
    pub(crate) fn log(&self) {
        match self.cause.as_deref() {
            Some(Cause::Condition(error)) => tracing::debug!(error, "a request failed"),
            Some(Cause::Defect(error)) => tracing::error!(error, "a request failed"),
            None => {}
        }
    }

    /// Too many tries that failed: after so many seconds one more is looked at.
    pub(crate) fn too_many(seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds.max(1)),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too many requests")
        }
    }

    /// The same failure, where an access token was asked for.
    pub(crate) fn with_oauth(self, code: &'static str, by_header: bool) -> Self {
        Self {
            oauth: Some(OAuthError { code, by_header }),
            ..self
        }
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not found")
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, TOKEN_INVALID)
    }

    /// The caller's tailnet is not served yet.
    pub(crate) fn starting() -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the server is starting: this tailnet's policy is being compiled; try again in a moment",
        )
    }

    pub(crate) fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, NOT_PERMITTED)
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Forbidden => Self::forbidden(),
            Denied::NotFound => Self::not_found(),
            Denied::Unauthenticated => Self::unauthorized(),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound => Self::not_found(),
            Refusal::NotPermitted => Self::forbidden(),
            Refusal::Unauthenticated => Self::unauthorized(),
            Refusal::Invalid(message) => Self::bad_request(message),
            Refusal::Store(failure) => Self::from(failure),
        }
    }
}

impl From<StoreFailure> for ApiError {
    fn from(failure: StoreFailure) -> Self {
        let causes = failure.with_causes();
        // The log has said so once, when it began; or it is the caller's to mend.
        let cause = if failure.is_condition() || matches!(failure, StoreFailure::Taken(_)) {
            Cause::Condition(causes)
        } else {
            Cause::Defect(causes)
        };
        let (status, message) = match failure {
            // Without the detail, which may name a file of the server.
            StoreFailure::Unavailable(trouble) => (
                StatusCode::SERVICE_UNAVAILABLE,
                &*trouble.condition.to_string(),
            ),
            StoreFailure::Stalled => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the database does not answer; nothing was changed, try again later",
            ),
            StoreFailure::Undecided => (
                StatusCode::GATEWAY_TIMEOUT,
                "the database does not answer; whether the change is stored will show when it does",
            ),
            StoreFailure::WriterLost => (
                StatusCode::SERVICE_UNAVAILABLE,
                "changes of this tailnet cannot be stored now; try again in a moment",
            ),
            StoreFailure::Stopping => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the server is stopping; try again in a moment",
            ),
            StoreFailure::Taken(column) => (
                StatusCode::CONFLICT,
                &*format!("another object has this {column} already"),
            ),
            StoreFailure::Defect(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal server error"),
        };
        Self {
            cause: Some(Box::new(cause)),
            ..Self::new(status, message)
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            message: &self.message,
            data: &self.data,
            error: self.oauth.map(|oauth| oauth.code),
            error_description: self.oauth.map(|_| &*self.message),
        };
        // Texts and lists of texts: there is nothing in it that JSON does not have.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(oauth) = self.oauth {
            not_stored(headers);
            if oauth.by_header && self.status == StatusCode::UNAUTHORIZED {
                let scheme = HeaderValue::from_static("Basic realm=\"Bowline\"");
                headers.insert(WWW_AUTHENTICATE, scheme);
            }
        }
        response
    }
}

/// Answers that have secrets in them are kept by nobody on the way. Source: RFC 6749, section 5.1.
pub(crate) fn not_stored(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
}

pub(crate) async fn not_found() -> ApiError {
    ApiError::not_found()
}

pub(crate) async fn method_not_allowed() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
}

#[cfg(test)]
mod tests {
    use bowline_model::kind::Column;

    use super::*;

    #[test]
    fn a_value_that_another_object_has_is_named() {
        let refused = Refusal::Store(StoreFailure::Taken(Column::UserLogin));
        let error = ApiError::from(refused);
        assert_eq!(error.status, StatusCode::CONFLICT);
        assert_eq!(error.message, "another object has this login name already");
    }
}
