//! The HTTP API: Tailscale API v2, and a few operations of our own beside it.
//!
//! Handlers translate: they read the snapshot or call one use case of `bowline_engine`. This crate
//! has no rule of a tailnet and no query. Every failure is JSON, `{"message": …}`; every lookup is
//! inside the tailnet of the caller's credential.

mod answer;
mod call;
mod caller;
mod error;
mod extract;
mod failures;
#[doc(hidden)]
pub mod fuzzing;
mod heavy;
mod lists;
mod openapi;
mod operation;
mod operations;
mod schema;
mod text;
mod v2;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use bowline_engine::Engine;
use bowline_model::id::TailnetId;
use bowline_netmap::snapshot::Snapshot;

use tokio::sync::Semaphore;

use heavy::Heavy;

pub use caller::OPERATOR_TAILNET;
pub use error::ApiError;
pub use openapi::document as openapi;
pub use operation::{Operation, Verb};
pub use operations::operations;

/// How the API is served.
#[derive(Debug, Clone, Copy)]
pub struct ApiOptions {
    /// Every caller is the operator of the server: for a socket that nobody else can open. The
    /// tailnet is named in the path or by the header [`OPERATOR_TAILNET`].
    pub operator: bool,
    /// Largest request body in bytes.
    pub body_limit: usize,
    /// Largest request body that has a policy file in it, in bytes.
    pub policy_limit: usize,
    /// Largest policy file, in bytes.
    pub policy_bytes: usize,
    /// Whether a policy file that says something twice is refused. Otherwise that is a warning.
    pub refuse_repetitions: bool,
}

impl Default for ApiOptions {
    fn default() -> Self {
        Self {
            operator: false,
            body_limit: 1024 * 1024,
            policy_limit: 16 * 1024 * 1024,
            policy_bytes: 1024 * 1024,
            refuse_repetitions: false,
        }
    }
}

/// Answers of logs that are made at once: each may have many megabytes.
const LOGS_READ_AT_ONCE: usize = 2;

/// What handlers share. Each request and each layer around its route gets a copy, so copies are cheap.
#[derive(Clone)]
pub(crate) struct Api(Arc<Shared>);

impl Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) options: ApiOptions,
    /// Work on policies.
    pub(crate) heavy: Arc<Heavy>,
    pub(crate) lists: lists::Lists,
    /// Who reads a log.
    pub(crate) logs_read: Semaphore,
    /// Credentials that were not good.
    pub(crate) failures: failures::Failures,
}

impl Api {
    /// The state of a tailnet.
    pub(crate) fn snapshot(&self, tailnet: TailnetId) -> Result<Arc<Snapshot>, ApiError> {
        self.engine
            .snapshot(tailnet)
            .ok_or_else(ApiError::not_found)
    }
}

/// The API over an engine: every path below `/api/v2`, and a 404 in the API's form for all else.
pub fn router(engine: Engine, options: ApiOptions) -> Router {
    tidied(routes(engine, options))
}

/// The same without [`tidied`], for a server that mounts more beside it. A layer that is put around
/// it sees which operation was asked for (`axum::extract::MatchedPath`).
pub fn routes(engine: Engine, options: ApiOptions) -> Router {
    let request_ids = Arc::new(extract::RequestIds::new(engine.random()));
    let api = Api(Arc::new(Shared {
        engine,
        options,
        heavy: Arc::new(Heavy::new()),
        lists: lists::Lists::default(),
        logs_read: Semaphore::new(LOGS_READ_AT_ONCE),
        failures: failures::Failures::new(),
    }));
    Router::new()
        .nest("/api/v2", operations::routes(&api))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed)
        .layer(middleware::from_fn_with_state(
            request_ids,
            extract::request_id,
        ))
        .layer(DefaultBodyLimit::max(options.body_limit))
        .with_state(api)
}

/// Serves requests by what their paths mean: without doubled slashes and without one at the end.
pub fn tidied(routes: Router) -> Router {
    // A layer of `routes` would come after its choice of a route.
    Router::new()
        .fallback_service(routes)
        .layer(middleware::from_fn(extract::tidy_path))
}
