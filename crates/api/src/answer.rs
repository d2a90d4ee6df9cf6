//! Answers: a type each, whose schema the document has.

use std::marker::PhantomData;

use axum::body::{Body, Bytes};
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use crate::error::ApiError;
use crate::extract::Json;
use crate::schema::{Content, JSON, Schemas};

/// The answer of an operation that did what was asked.
pub(crate) trait Answer: Send {
    /// Its status.
    const STATUS: StatusCode = StatusCode::OK;

    /// What the document says of it. `None`: an empty body.
    fn content(schemas: &mut Schemas) -> Option<Content>;

    /// The answer as it is sent.
    fn into_response(self) -> Result<Response, ApiError>;
}

impl<T: Serialize + JsonSchema + Send> Answer for Json<T> {
    fn content(schemas: &mut Schemas) -> Option<Content> {
        Some(Content::json(schemas.answer::<T>()))
    }

    fn into_response(self) -> Result<Response, ApiError> {
        Ok(with_json(encode(&self.0)?))
    }
}

/// A type that borrows, and the one that has its schema.
pub(crate) trait Shape: Serialize {
    /// The same without a borrow.
    type Schema: JsonSchema;
}

/// JSON that is written already: of answers that borrow what they show, and of lists, which are
/// written where nobody waits for it.
pub(crate) struct Encoded<T> {
    bytes: Bytes,
    of: PhantomData<fn() -> T>,
}

impl<T> Encoded<T> {
    /// JSON that was written before, as a `T`.
    pub(crate) const fn before(bytes: Bytes) -> Self {
        Self {
            bytes,
            of: PhantomData,
        }
    }

    /// Writes an answer.
    pub(crate) fn new<S: Shape<Schema = T>>(value: &S) -> Result<Self, ApiError> {
        encode(value).map(|bytes| Self::before(bytes.into()))
    }
}

impl<T: JsonSchema> Answer for Encoded<T> {
    fn content(schemas: &mut Schemas) -> Option<Content> {
        Some(Content::json(schemas.answer::<T>()))
    }

    fn into_response(self) -> Result<Response, ApiError> {
        Ok(with_json(self.bytes))
    }
}

/// 200 with an empty body.
pub(crate) struct Nothing;

impl Answer for Nothing {
    fn content(_: &mut Schemas) -> Option<Content> {
        None
    }

    fn into_response(self) -> Result<Response, ApiError> {
        Ok(Response::new(Body::empty()))
    }
}

/// 202 with an empty body: it is done soon.
pub(crate) struct Accepted;

impl Answer for Accepted {
    const STATUS: StatusCode = StatusCode::ACCEPTED;

    fn content(_: &mut Schemas) -> Option<Content> {
        None
    }

    fn into_response(self) -> Result<Response, ApiError> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = Self::STATUS;
        Ok(response)
    }
}

/// `{}`: the change was made.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Empty {}

/// `null`: the changes were made.
#[derive(Serialize, JsonSchema)]
#[schemars(inline)]
pub(crate) struct Null;

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value)
        .map_err(|error| ApiError::defect("an answer cannot be encoded", &error))
}

fn with_json(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}
