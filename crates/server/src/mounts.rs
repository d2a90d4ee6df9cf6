//! What each listener serves. Every path is mounted: here, or as an operation of the API
//! (`bowline_api::operations`). Whatever is not mounted is a 404; nothing is found by a part of a path.
//!
//! | listener | paths |
//! | --- | --- |
//! | for clients | health, control protocol, pages, what relays ask; the API, unless it has its own |
//! | of the API, where `api_listen` is set | health and the API |
//! | the operator's socket | the API |
//!
//! The relay's and the metrics' listener serve `bowline_derp` and `crate::telemetry`.
//!
//! Paths are looked at without the host: some clients send absolute targets, or a `Host` without the
//! port. The server's URLs have no path of their own, so neither has what is mounted.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::routing::{any, get, post};
use bowline_admission::{BodyRefused, Origin};
use bowline_control::Control;
use bowline_engine::Engine;
use bowline_model::key::NodeKey;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};

use crate::config::BaseUrl;
use crate::{health, pages};

/// Where issuers have the document that others find them by.
const DISCOVERY: &str = "/.well-known/openid-configuration";
/// The public keys of the tokens that this server signs for its devices.
const JWKS: &str = "/.well-known/jwks";

/// What the listener for clients serves with.
pub struct Clients {
    /// The control protocol.
    pub control: Control,
    /// The engine, for pages and relays.
    pub engine: Engine,
    /// What clients call this server.
    pub url: BaseUrl,
    /// What users of the API call it.
    pub api_url: BaseUrl,
}

/// The paths of the listener for clients. `api`: the API's; `None` where it has a listener of its own.
pub fn clients(clients: Clients, api: Option<Router>) -> Router {
    let health = health_of(clients.engine.clone());
    let own = Router::new()
        .route("/", get(home))
        .route("/login/{code}", get(login))
        .route("/ssh/{code}", get(ssh))
        .route("/key", get(key))
        .route(DISCOVERY, get(discovery))
        .route(JWKS, get(jwks))
        // Whatever method is used, the answer says which one it takes.
        .route("/ts2021", any(upgrade))
        .route("/verify", post(verify))
        .route("/generate_204", get(generate_204))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::new(clients))
        .merge(health);
    let all = match api {
        Some(api) => own.merge(api),
        None => own
            .route("/api", any(api_is_elsewhere))
            .route("/api/{*path}", any(api_is_elsewhere))
            .fallback(not_found),
    };
    bowline_api::tidied(all)
}

/// The paths of the API's own listener.
pub fn api(engine: Engine, api: Router) -> Router {
    bowline_api::tidied(health_of(engine).merge(api))
}

fn health_of(engine: Engine) -> Router {
    Router::new()
        .route("/health", get(ready))
        .route("/health/live", get(live))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(engine)
}

async fn ready(State(engine): State<Engine>) -> Response<Body> {
    health::ready(&engine)
}

async fn live() -> Response<Body> {
    health::live()
}

async fn home(State(site): State<Arc<Clients>>) -> Response<Body> {
    pages::home(&site.url, &site.api_url)
}

async fn login(State(site): State<Arc<Clients>>, Path(code): Path<String>) -> Response<Body> {
    pages::login(&site.engine, &code)
}

async fn ssh(State(site): State<Arc<Clients>>, Path(code): Path<String>) -> Response<Body> {
    pages::ssh(&site.engine, &code)
}

async fn key(State(site): State<Arc<Clients>>) -> Response<Body> {
    site.control.key().map(Body::new)
}

/// `GET /.well-known/openid-configuration`: what a service must know that trusts the tokens of devices.
///
/// Source: OpenID Connect Discovery 1.0, section 3. Nobody signs in here, so there are no endpoints for
/// that.
async fn discovery(State(site): State<Arc<Clients>>) -> Response<Body> {
    let url = site.url.as_str();
    let document = serde_json::json!({
        "issuer": url,
        "jwks_uri": format!("{url}{JWKS}"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "claims_supported": [
            "iss", "sub", "aud", "exp", "iat", "nbf", "jti",
            "key", "addresses", "nid", "node", "domain", "tags", "user", "uid",
        ],
    });
    public(&document)
}

/// `GET /.well-known/jwks`: the public keys of those tokens.
async fn jwks(State(site): State<Arc<Clients>>) -> Response<Body> {
    match site.engine.signing_keys().await {
        Ok(keys) => public(&keys),
        Err(failure) => {
            tracing::error!(error = %failure.with_causes(), "the signing keys cannot be had");
            let text = r#"{"message":"internal server error"}"#;
            json(StatusCode::SERVICE_UNAVAILABLE, text)
        }
    }
}

/// A document for everybody, which may be kept for an hour: keys are listed a month before they sign.
fn public(document: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(Body::from(document.to_string()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("public, max-age=3600"),
    );
    response
}

async fn upgrade(
    State(site): State<Arc<Clients>>,
    Extension(origin): Extension<Origin>,
    request: Request<Body>,
) -> Response<Body> {
    let Origin { ticket, address } = origin;
    let answer = site.control.upgrade(request, address, ticket).await;
    answer.map(Body::new)
}

/// `POST /verify`: whether a relay elsewhere may admit a client.
async fn verify(
    State(site): State<Arc<Clients>>,
    Extension(origin): Extension<Origin>,
    body: Body,
) -> Response<Body> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Ask {
        node_public: NodeKey,
    }
    let bodies = origin.ticket.admission().bodies();
    let received = bodies.receive(origin.address, body, 4096, None);
    let body = match received.await {
        Ok(body) => body,
        Err(BodyRefused::Late) => {
            let text = r#"{"message":"request body did not arrive in time"}"#;
            return json(StatusCode::REQUEST_TIMEOUT, text);
        }
        Err(BodyRefused::Crowded) => {
            let text = r#"{"message":"there are too many request bodies at once; try again"}"#;
            return json(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        Err(_) => return json(StatusCode::BAD_REQUEST, r#"{"message":"bad request"}"#),
    };
    match serde_json::from_slice::<Ask>(&body) {
        Ok(ask) if site.engine.admits(&ask.node_public) => {
            json(StatusCode::OK, r#"{"Allow":true}"#)
        }
        Ok(_) => json(StatusCode::OK, r#"{"Allow":false}"#),
        Err(_) => json(
            StatusCode::BAD_REQUEST,
            r#"{"message":"expected {\"NodePublic\":\"nodekey:…\"}"}"#,
        ),
    }
}

/// `GET /generate_204`: a portal would answer with a page of its own; that the challenge comes back
/// shows that none did.
async fn generate_204(headers: HeaderMap) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let challenge = headers
        .get("x-tailscale-challenge")
        .and_then(|value| value.to_str().ok())
        .filter(|text| {
            text.len() <= 64
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':'))
        });
    if let Some(value) =
        challenge.and_then(|text| HeaderValue::from_str(&format!("response {text}")).ok())
    {
        response.headers_mut().insert("x-tailscale-response", value);
    }
    response
}

async fn api_is_elsewhere() -> Response<Body> {
    let text = r#"{"message":"not found; the API of this server has another address"}"#;
    json(StatusCode::NOT_FOUND, text)
}

async fn not_found() -> Response<Body> {
    json(StatusCode::NOT_FOUND, r#"{"message":"not found"}"#)
}

async fn method_not_allowed() -> Response<Body> {
    let text = r#"{"message":"method not allowed"}"#;
    json(StatusCode::METHOD_NOT_ALLOWED, text)
}

fn json(status: StatusCode, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
