//! Reading requests and writing answers.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::RequestExt as _;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bowline_admission::{BodyRefused, Origin};
use bowline_engine::Random;
use http::{HeaderValue, StatusCode, Uri};
use indexmap::IndexMap;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument as _;

use crate::call::{FromBody, Pairs};
use crate::error::ApiError;
use crate::schema::{Content, FORM, Schemas};
use crate::text::body_error;

/// A JSON body, whatever its `Content-Type` says: `curl --data` sends a form's.
pub(crate) struct Json<T>(pub(crate) T);

/// Up to this size a body is read where it arrives: well under ten milliseconds. What is larger is
/// read beside the runtime.
const SMALL: usize = 128 * 1024;

impl<T: DeserializeOwned + JsonSchema + Send + 'static> FromBody for Json<T> {
    async fn read(request: Request) -> Result<Self, ApiError> {
        let bytes = bytes(request).await?;
        if bytes.len() <= SMALL {
            return parse(&bytes).map(Self);
        }
        let read = tokio::task::spawn_blocking(move || parse(&bytes));
        let read = read
            .await
            .map_err(|error| ApiError::defect("a body was not read to its end", &error))?;
        read.map(Self)
    }

    fn content(schemas: &mut Schemas) -> Option<Content> {
        Some(Content::json(schemas.body::<T>()))
    }

    fn try_bytes(bytes: &[u8]) {
        let _ = parse::<T>(bytes);
    }
}

/// A body as a form of a page sends it. What is wrong with it is the handler's to say, in the words of
/// its protocol.
pub(crate) struct Form<T>(pub(crate) Result<T, ApiError>);

impl<T: DeserializeOwned + JsonSchema + Send + 'static> FromBody for Form<T> {
    async fn read(request: Request) -> Result<Self, ApiError> {
        let bytes = bytes(request).await?;
        Ok(Self(parse_form(&bytes)))
    }

    fn content(schemas: &mut Schemas) -> Option<Content> {
        Some(Content {
            is_required: true,
            types: vec![(FORM, schemas.body::<T>())],
        })
    }

    fn try_bytes(bytes: &[u8]) {
        let _ = parse_form::<T>(bytes);
    }
}

/// The largest form: secrets and lists of words.
const FORM_MAX: usize = 64 * 1024;

/// Reads a form. A member without a value is as an absent one; one that is there twice is refused.
/// Source: RFC 6749, section 3.2.
fn parse_form<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    if bytes.len() > FORM_MAX {
        return Err(ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            BodyRefused::TooLarge.to_string(),
        ));
    }
    let members = serde_urlencoded::from_bytes::<Pairs>(bytes)
        .map_err(|_| ApiError::bad_request("invalid body: expected a form"))?;
    let mut read = serde_json::Map::new();
    for (name, value) in members {
        if value.is_empty() {
            continue;
        }
        if read.contains_key(&name) {
            return Err(ApiError::bad_request(format!("{name:?} is there twice")));
        }
        read.insert(name, value.into());
    }
    serde_json::from_value(read.into())
        .map_err(|error| ApiError::bad_request(format!("invalid body: {}", body_error(&error))))
}

/// A JSON body that has a policy file in it.
pub(crate) struct WithPolicy<T>(pub(crate) T);

impl<T: DeserializeOwned + JsonSchema + Send + 'static> FromBody for WithPolicy<T> {
    const HAS_POLICY: bool = true;

    async fn read(request: Request) -> Result<Self, ApiError> {
        Json::read(request).await.map(|Json(body)| Self(body))
    }

    fn content(schemas: &mut Schemas) -> Option<Content> {
        Json::<T>::content(schemas)
    }

    fn try_bytes(bytes: &[u8]) {
        Json::<T>::try_bytes(bytes);
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
        .map_err(|error| ApiError::bad_request(format!("invalid body: {}", body_error(&error))))
}

/// The body of a request, within the operation's limit, its time, and the budget of all bodies: of
/// that it gives its part back when the last copy is dropped.
pub(crate) async fn bytes(request: Request) -> Result<Bytes, ApiError> {
    let Some(origin) = request.extensions().get::<Origin>().cloned() else {
        // Of the operator, on a socket that nobody else can open.
        return Bytes::from_request(request, &())
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

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// Members of a body by name, each once: of one that is there twice nobody knows which was meant.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct Members<T>(pub(crate) IndexMap<String, T>);

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self(IndexMap::new())
    }
}

impl<T> Members<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de, T: serde::Deserialize<'de>> serde::Deserialize<'de> for Members<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);

        impl<'de, T: serde::Deserialize<'de>> serde::de::Visitor<'de> for Visitor<T> {
            type Value = Members<T>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<Members<T>, A::Error> {
                let mut members = IndexMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    let value = map.next_value()?;
                    if let Some(name) = members.contains_key(&name).then_some(&name) {
                        return Err(serde::de::Error::custom(format!("{name:?} is there twice")));
                    }
                    members.insert(name, value);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Members<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Members{}", T::schema_name()).into()
    }

    fn schema_id() -> Cow<'static, str> {
        format!("Members<{}>", T::schema_id()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let values = generator.subschema_for::<T>();
        json_schema!({"type": "object", "additionalProperties": values})
    }
}

/// An integer, however it is written: to JSON, 87, 87.0 and 8.7e1 are one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Integer(pub(crate) i64);

impl JsonSchema for Integer {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Integer".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer"})
    }
}

impl<'de> serde::Deserialize<'de> for Integer {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Value::deserialize(deserializer)?;
        bowline_model::device::integer(&number)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom("expected an integer of at most 2^53-1"))
    }
}

/// The query's pairs, decoded. An empty parameter is as an absent one: clients send what was not set
/// as an empty text.
pub(crate) fn pairs(query: Option<&str>) -> Pairs {
    let pairs = serde_urlencoded::from_str::<Pairs>(query.unwrap_or(""));
    let mut pairs = pairs.unwrap_or_default();
    pairs.retain(|(_, value)| !value.is_empty());
    pairs
}

/// For a list that must be there but may be `null`: clients in Go send an empty list so.
pub(crate) fn null_is_empty<'de, D>(deserializer: D) -> Result<Option<Vec<String>>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    use serde::Deserialize as _;
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

/// A target whose path has no two slashes in a row and none at its end; `None` where that is so
/// already. Some clients append to a base URL that ends with one.
pub(crate) fn tidy(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    let ends_with_slash = path.len() > 1 && path.ends_with('/');
    if !path.contains("//") && !ends_with_slash {
        return None;
    }
    let mut tidied = String::with_capacity(path.len());
    for c in path.chars() {
        if c != '/' || !tidied.ends_with('/') {
            tidied.push(c);
        }
    }
    if tidied.len() > 1 && tidied.ends_with('/') {
        tidied.pop();
    }
    if let Some(query) = uri.query() {
        tidied.push('?');
        tidied.push_str(query);
    }
    // The path alone: which host was meant has been decided.
    tidied.parse().ok()
}

/// Requests as their paths were meant, before anything looks at them.
pub(crate) async fn tidy_path(mut request: Request, next: Next) -> Response {
    if let Some(uri) = tidy(request.uri()) {
        *request.uri_mut() = uri;
    }
    next.run(request).await
}

/// Makes the ids of requests: `5f0c9a1be2d4-1a`. The part in front is random, so that an id is not
/// used again after a restart, nor by another replica or listener; the part behind counts.
#[derive(Debug)]
pub(crate) struct RequestIds {
    front: u64,
    count: AtomicU64,
}

impl RequestIds {
    /// With a front of 48 random bits.
    pub(crate) fn new(random: &dyn Random) -> Self {
        let mut front = [0; 8];
        random.fill(&mut front[2..]);
        Self {
            front: u64::from_be_bytes(front),
            count: AtomicU64::new(1),
        }
    }

    fn next(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("{:012x}-{count:x}", self.front)
    }
}

/// Gives each request an id: in its answer, and in every line that is logged for it.
pub(crate) async fn request_id(
    State(ids): State<Arc<RequestIds>>,
    request: Request,
    next: Next,
) -> Response {
    let id = ids.next();
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
    fn doubled_slashes_and_the_last_one_go_in_the_path_only() {
        for (uri, tidied) in [
            ("//api//v2/x?y=//z/", "/api/v2/x?y=//z/"),
            ("/api/v2/", "/api/v2"),
            ("/api/v2/x///?y", "/api/v2/x?y"),
            ("//", "/"),
            ("http://host//api/", "/api"),
        ] {
            assert_eq!(tidy(&uri.parse().unwrap()).unwrap(), tidied, "{uri}");
        }
        for uri in ["/api/v2", "/", "/api/v2?x=/", "*"] {
            assert_eq!(tidy(&uri.parse().unwrap()), None, "{uri}");
        }
    }

    #[test]
    fn an_empty_parameter_is_an_absent_one() {
        let pairs = pairs(Some("role=&type=&fields=all&x&y=%20"));
        let expected = [("fields", "all"), ("y", " ")];
        assert_eq!(
            pairs,
            expected.map(|(key, value)| (key.to_owned(), value.to_owned()))
        );
        assert_eq!(super::pairs(None), []);
    }

    #[test]
    fn an_object_names_each_member_once() {
        let read = |text: &str| parse::<Members<u8>>(text.as_bytes());
        assert_eq!(
            read(r#"{"b":1,"a":2}"#)
                .unwrap()
                .0
                .keys()
                .collect::<Vec<_>>(),
            ["b", "a"]
        );
        let error = read(r#"{"a":1,"a":2}"#).unwrap_err();
        assert!(
            error.message.contains("\"a\" is there twice"),
            "{}",
            error.message
        );
    }

    #[test]
    fn request_ids_differ_within_a_process_and_from_those_of_another() {
        struct Fixed(u8);
        impl Random for Fixed {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill(self.0);
            }
        }
        let (one, other) = (RequestIds::new(&Fixed(1)), RequestIds::new(&Fixed(0xff)));
        assert_eq!(one.next(), "010101010101-1");
        assert_eq!(one.next(), "010101010101-2");
        assert_eq!(other.next(), "ffffffffffff-1");
    }
}
