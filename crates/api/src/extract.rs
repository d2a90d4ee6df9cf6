//! Reading requests and writing answers.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::RequestExt as _;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bowline_admission::{BodyRefused, Origin};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode, Uri};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument as _;

use crate::error::ApiError;

/// A JSON body, whatever its `Content-Type` says: `curl --data` sends a form's.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = bytes(request, state).await?;
        parse(&bytes).map(Self)
    }
}

/// Reads a body.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.trim_ascii().is_empty() {
        return Err(ApiError::bad_request("unexpected end of JSON input"));
    }
    // Every body is an object; serde would also read a list of an object's values.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(ApiError::bad_request(
            "invalid body: expected a JSON object",
        ));
    }
    // Also where it is in no field that is read.
    let text =
        std::str::from_utf8(bytes).map_err(|_| ApiError::bad_request("invalid body: not UTF-8"))?;
    serde_json::from_str(text)
        .map_err(|error| ApiError::bad_request(format!("invalid body: {error}")))
}

/// The body of a request, within the operation's limit, its time, and the budget of all bodies: of
/// that it gives its part back when the last copy is dropped.
pub(crate) async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    let Some(origin) = request.extensions().get::<Origin>().cloned() else {
        // Of the operator, on a socket that nobody else can open.
        return Bytes::from_request(request, state)
            .await
            .map_err(|rejection| match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => refused(BodyRefused::TooLarge),
                _ => refused(BodyRefused::Broken),
            });
    };
    let bodies = origin.ticket.admission().bodies();
    let body = request.into_limited_body();
    let received = bodies.receive(origin.address, body, usize::MAX, None);
    received.await.map_err(refused)
}

fn refused(reason: BodyRefused) -> ApiError {
    let status = match reason {
        BodyRefused::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        BodyRefused::Late => StatusCode::REQUEST_TIMEOUT,
        BodyRefused::Crowded | BodyRefused::Connection => StatusCode::SERVICE_UNAVAILABLE,
        BodyRefused::Broken => StatusCode::BAD_REQUEST,
    };
    ApiError::new(status, reason.to_string())
}

/// An object in a body. serde would also read a list of its values.
#[derive(Default, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for Object<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<'de, T: serde::Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<Object<T>, A::Error> {
                T::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

/// For a list that must be there but may be `null`: clients in Go send an empty list so.
pub(crate) fn null_is_empty<'de, D>(deserializer: D) -> Result<Option<Vec<String>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    use serde::Deserialize as _;
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

/// A JSON answer.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<Response, ApiError> {
    let body = serde_json::to_vec(value).map_err(|error| {
        tracing::error!(%error, "an answer cannot be encoded");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
    })?;
    let mut response = Response::new(Body::from(body));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// `{}`.
pub(crate) fn empty_object() -> Response {
    ([(CONTENT_TYPE, "application/json")], "{}").into_response()
}

/// 200 with an empty body.
pub(crate) fn nothing() -> Response {
    Response::new(Body::empty())
}

/// A target whose path has no two slashes in a row: some clients append to a base URL that ends
/// with one.
pub fn collapse_slashes(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if !path.contains("//") {
        return None;
    }
    let mut collapsed = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !collapsed.ends_with('/') {
            collapsed.push(c);
        }
    }
    if let Some(query) = uri.query() {
        collapsed.push('?');
        collapsed.push_str(query);
    }
    collapsed.parse().ok()
}

/// Gives each request an id: in its answer, and in every line that is logged for it.
pub(crate) async fn request_id(request: Request, next: Next) -> Response {
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    let id = COUNTER.fetch_add(1, Ordering::Relaxed);
    // Spread over the whole range, so that ids of one day are told apart at a glance.
    let id = format!("{:016x}", id.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let span = tracing::info_span!("api.request", request.id = %id, method = %request.method());
    let mut response = next.run(request).instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert("x-request-id", value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_slashes_collapse_in_the_path_only() {
        let uri: Uri = "//api//v2/x?y=//z".parse().unwrap();
        assert_eq!(collapse_slashes(&uri).unwrap(), "/api/v2/x?y=//z");
        assert_eq!(collapse_slashes(&"/api/v2".parse().unwrap()), None);
    }
}
