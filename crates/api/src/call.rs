//! What a handler is given: who calls, and the request as types.
//!
//! A handler is `async fn(Api, Call<Path, Query, Body>) -> Result<Answer, ApiError>`. Its types are
//! the operation's: the table reads them off the function, reads each request by them, and makes
//! the OpenAPI document, the fuzz target and the tests' checks from them.

use std::future::Future;

use axum::extract::RawPathParams;
use axum::extract::Request;
use bowline_engine::Actor;
use bowline_engine::workload::identity::parse_client_id;
use bowline_model::id::{DeviceId, KeyId, TailnetId, UserId, WebhookId};
use http::HeaderMap;
use schemars::JsonSchema;

use crate::error::ApiError;
use crate::schema::{Content, Schemas};

/// A call of an operation, by somebody who meets its requirement.
pub(crate) struct Call<P = (), Q = (), B = (), C = Actor> {
    /// Who calls.
    pub(crate) actor: C,
    /// What the path names, but for the tailnet: that is the actor's.
    pub(crate) path: P,
    /// Parameters of the query.
    pub(crate) query: Q,
    /// Headers of the request.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: B,
}

/// What a path names.
pub(crate) trait FromPath: Sized + Send {
    /// Names of the parameters that are read.
    const NAMES: &[&str];

    /// Reads it. `None`: there is nothing of that name, 404.
    fn read(params: &RawPathParams) -> Option<Self>;
}

impl FromPath for () {
    const NAMES: &[&str] = &[];

    fn read(_: &RawPathParams) -> Option<Self> {
        Some(())
    }
}

/// A parameter of the path, decoded.
pub(crate) fn param<'a>(params: &'a RawPathParams, name: &str) -> Option<&'a str> {
    params
        .iter()
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

impl FromPath for DeviceId {
    const NAMES: &[&str] = &["deviceId"];

    fn read(params: &RawPathParams) -> Option<Self> {
        Self::parse(param(params, "deviceId")?)
    }
}

impl FromPath for UserId {
    const NAMES: &[&str] = &["userId"];

    fn read(params: &RawPathParams) -> Option<Self> {
        Self::parse(param(params, "userId")?)
    }
}

impl FromPath for KeyId {
    const NAMES: &[&str] = &["keyId"];

    fn read(params: &RawPathParams) -> Option<Self> {
        // Not the decimal form: the API has never had it.
        let text = param(params, "keyId").filter(|text| text.starts_with('k'))?;
        Self::parse(text)
    }
}

/// A key by its id, which a federated identity has with that of its tailnet in front.
pub(crate) struct NamedKey {
    tailnet: Option<TailnetId>,
    id: KeyId,
}

impl NamedKey {
    /// Its id, where it names no other tailnet than the caller's.
    pub(crate) fn of(&self, actor: &Actor) -> Result<KeyId, ApiError> {
        if self.tailnet.is_none_or(|named| named == actor.tailnet) {
            Ok(self.id)
        } else {
            Err(ApiError::not_found())
        }
    }
}

impl FromPath for NamedKey {
    const NAMES: &[&str] = KeyId::NAMES;

    fn read(params: &RawPathParams) -> Option<Self> {
        if let Some((tailnet, id)) = parse_client_id(param(params, "keyId")?) {
            return Some(Self {
                tailnet: Some(tailnet),
                id,
            });
        }
        Some(Self {
            tailnet: None,
            id: KeyId::read(params)?,
        })
    }
}

impl FromPath for WebhookId {
    const NAMES: &[&str] = &["endpointId"];

    fn read(params: &RawPathParams) -> Option<Self> {
        // Not the decimal form: the API has never had it.
        let text = param(params, "endpointId").filter(|text| text.starts_with('w'))?;
        Self::parse(text)
    }
}

/// The code of a login or an SSH session that waits.
pub(crate) struct Code(pub(crate) String);

impl FromPath for Code {
    const NAMES: &[&str] = &["code"];

    fn read(params: &RawPathParams) -> Option<Self> {
        param(params, "code").map(|code| Self(code.to_owned()))
    }
}

/// A posture attribute of a device.
pub(crate) struct AttributeOf {
    pub(crate) device: DeviceId,
    pub(crate) key: String,
}

impl FromPath for AttributeOf {
    const NAMES: &[&str] = &["deviceId", "attributeKey"];

    fn read(params: &RawPathParams) -> Option<Self> {
        Some(Self {
            device: DeviceId::read(params)?,
            key: param(params, "attributeKey")?.to_owned(),
        })
    }
}

/// The decoded parameters of a query, in order, those that are empty left out.
pub(crate) type Pairs = Vec<(String, String)>;

/// Parameters of the query. Its schema is an object with a member for each.
pub(crate) trait FromQuery: JsonSchema + Sized + Send {
    /// Reads it.
    fn read(pairs: Pairs) -> Result<Self, ApiError>;
}

impl FromQuery for () {
    fn read(_: Pairs) -> Result<Self, ApiError> {
        Ok(())
    }
}

/// The body of a request.
pub(crate) trait FromBody: Sized + Send {
    /// Whether it has a policy file in it, and so may be large.
    const HAS_POLICY: bool = false;

    /// Reads it.
    fn read(request: Request) -> impl Future<Output = Result<Self, ApiError>> + Send;

    /// What the document says of it.
    fn content(schemas: &mut Schemas) -> Option<Content>;

    /// Reads bytes as [`Self::read`] does when they are here, and drops what they say: for the fuzz
    /// target.
    fn try_bytes(bytes: &[u8]);
}

impl FromBody for () {
    async fn read(_: Request) -> Result<Self, ApiError> {
        Ok(())
    }

    fn content(_: &mut Schemas) -> Option<Content> {
        None
    }

    fn try_bytes(_: &[u8]) {}
}
