//! The HTTP API: Tailscale API v2, and a few operations of our own beside it.
//!
//! Handlers translate: they read the snapshot or call one use case of `bowline_engine`. This crate
//! has no rule of a tailnet and no query. Every failure is JSON, `{"message": …}`; every lookup is
//! inside the tailnet of the caller's credential.

mod caller;
mod error;
mod extract;
mod openapi;
mod text;
mod v2;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{get, post};
use bowline_engine::Engine;

pub use caller::OPERATOR_TAILNET;
pub use error::ApiError;
pub use extract::collapse_slashes;
pub use openapi::document as openapi;

/// How the API is served.
#[derive(Debug, Clone, Copy)]
pub struct ApiOptions {
    /// Every caller is the operator of the server: for a socket that nobody else can open. The
    /// tailnet is named in the path or by the header [`OPERATOR_TAILNET`].
    pub operator: bool,
    /// Largest request body in bytes.
    pub body_limit: usize,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            operator: false,
            body_limit: 1024 * 1024,
        }
    }
}

/// What handlers share.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) engine: Engine,
    pub(crate) options: ApiOptions,
}

/// The API over an engine, below `/api/v2`.
pub fn router(engine: Engine, options: ApiOptions) -> Router {
    use v2::{attributes, devices, dns, keys, policy, tailnets, users};
    let api = Api { engine, options };
    let v2 = Router::new()
        .route("/", get(openapi::handler))
        .route(
            "/device/{device_id}",
            get(devices::get).delete(devices::delete),
        )
        .route("/device/{device_id}/expire", post(devices::expire))
        .route(
            "/device/{device_id}/routes",
            get(devices::routes).post(devices::set_routes),
        )
        .route("/device/{device_id}/authorized", post(devices::authorize))
        .route("/device/{device_id}/name", post(devices::rename))
        .route("/device/{device_id}/tags", post(devices::set_tags))
        .route("/device/{device_id}/key", post(devices::set_key))
        .route("/device/{device_id}/ip", post(devices::set_ip))
        .route("/device/{device_id}/attributes", get(attributes::get))
        .route(
            "/device/{device_id}/attributes/{key}",
            post(attributes::set).delete(attributes::delete),
        )
        .route("/tailnet/{tailnet}/devices", get(devices::list))
        .route(
            "/tailnet/{tailnet}/device-attributes",
            axum::routing::patch(attributes::batch),
        )
        .route(
            "/tailnet/{tailnet}/keys",
            get(keys::list).post(keys::create),
        )
        .route(
            "/tailnet/{tailnet}/keys/{key_id}",
            get(keys::get).delete(keys::delete).put(keys::update),
        )
        .route("/tailnet/{tailnet}/access-tokens", post(keys::create_token))
        .route(
            "/tailnet/{tailnet}/acl",
            get(policy::get).post(policy::not_yet),
        )
        .route("/tailnet/{tailnet}/acl/preview", post(policy::not_yet))
        .route("/tailnet/{tailnet}/acl/validate", post(policy::not_yet))
        .route(
            "/tailnet/{tailnet}/dns/nameservers",
            get(dns::nameservers).post(dns::set_nameservers),
        )
        .route(
            "/tailnet/{tailnet}/dns/preferences",
            get(dns::preferences).post(dns::set_preferences),
        )
        .route(
            "/tailnet/{tailnet}/dns/searchpaths",
            get(dns::search_paths).post(dns::set_search_paths),
        )
        .route(
            "/tailnet/{tailnet}/dns/split-dns",
            get(dns::split)
                .patch(dns::merge_split)
                .put(dns::replace_split),
        )
        .route(
            "/tailnet/{tailnet}/dns/configuration",
            get(dns::configuration).post(dns::set_configuration),
        )
        .route(
            "/tailnet/{tailnet}/users",
            get(users::list).post(users::create),
        )
        .route("/users/{user_id}", get(users::get))
        .route("/tailnets", get(tailnets::list).post(tailnets::create));
    Router::new()
        .nest("/api/v2", v2)
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(middleware::from_fn(extract::request_id))
        .layer(DefaultBodyLimit::max(options.body_limit))
        .with_state(api)
}
