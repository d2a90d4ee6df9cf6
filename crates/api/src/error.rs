//! Failures as the API shows them: a status and `{"message": …}`, of policies with `data`.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bowline_engine::{Refusal, StoreFailure};
use bowline_model::requirement::Denied;
use bowline_model::text::shown;
use bowline_policy::Failure;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

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
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        // Texts quote what was sent: not all of it, in the notation in which it was sent, and nothing
        // that would not show as itself.
        Self {
            status,
            message: shown(&plain(&message.into())).into_owned(),
            data: Vec::new(),
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A defect, which is logged where it is found.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
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
            Refusal::Store(failure) => {
                if failure.is_condition() || matches!(failure, StoreFailure::Taken(_)) {
                    // The log has said so once, when it began; or it is the caller's to mend.
                    tracing::debug!(error = failure.with_causes(), "a request failed");
                } else {
                    tracing::error!(error = failure.with_causes(), "a request failed");
                }
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
                    StoreFailure::Defect(_) => {
                        (StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
                    }
                };
                Self::new(status, message)
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = serde_json::json!({"message": self.message});
        if !self.data.is_empty() {
            body["data"] = serde_json::json!(self.data);
        }
        let mut response = Response::new(Body::from(body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
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
