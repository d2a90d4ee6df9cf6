//! Operations: what the table says of each, and how a request becomes a call and its outcome an answer.

use std::future::Future;

use axum::extract::{DefaultBodyLimit, FromRequestParts as _, RawPathParams, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use bowline_model::requirement::{Requirement, Rule};
use http::StatusCode;

use crate::Api;
use crate::answer::Answer;
use crate::call::{Call, FromBody, FromPath, FromQuery};
use crate::caller::Caller;
use crate::error::{ApiError, NOT_PERMITTED};
use crate::extract::pairs;
use crate::schema::{Content, Schemas};

/// Method of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// `DELETE`.
    Delete,
    /// `GET`.
    Get,
    /// `PATCH`.
    Patch,
    /// `POST`.
    Post,
    /// `PUT`.
    Put,
}

impl Verb {
    /// The method as requests name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }

    const fn filter(self) -> MethodFilter {
        match self {
            Self::Delete => MethodFilter::DELETE,
            Self::Get => MethodFilter::GET,
            Self::Patch => MethodFilter::PATCH,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
        }
    }
}

/// What the table says of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// Method.
    pub verb: Verb,
    /// Path below `/api/v2`, with parameters as `{name}`.
    pub path: &'static str,
    /// Name, unique; the official one where there is one.
    pub id: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
    /// What a caller must have.
    pub requirement: Requirement,
    /// Names of the parameters in the path that name an object of the tailnet.
    pub objects: &'static [&'static str],
    /// Status where it was done.
    pub success: u16,
    /// Statuses beside that and those that follow from the rest of the row.
    pub statuses: &'static [u16],
    /// Headers that the operation reads, beside those that all do.
    pub headers: &'static [&'static str],
    /// Whether a request has a body.
    pub takes_body: bool,
    /// Whether a request has parameters in its query.
    pub takes_query: bool,
}

impl Operation {
    /// Whether it changes something: what only asks may be a `POST` too.
    pub fn changes(&self) -> bool {
        self.verb != Verb::Get && !self.requirement.only_reads()
    }

    /// Names of the parameters in the path.
    pub fn path_parameters(&self) -> impl Iterator<Item = &'static str> {
        self.path
            .split('/')
            .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
    }

    /// Every status that it answers with, but for what no caller can do anything about (500 and
    /// above; 501 where it is part of the operation).
    pub fn all_statuses(&self) -> Vec<u16> {
        let mut statuses = vec![self.success];
        let is_open = matches!(self.requirement.rule, Rule::Anybody);
        if self.takes_body || self.takes_query || self.path.contains('{') {
            statuses.push(400);
        }
        if self.takes_body {
            statuses.extend([408, 413]);
        }
        if !is_open {
            statuses.extend([401, 403]);
        }
        let is_hidden = self.requirement.denied == bowline_model::requirement::Denied::NotFound;
        if is_hidden || self.path.contains('{') {
            statuses.push(404);
        }
        statuses.extend(self.statuses);
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }
}

/// A row of the table: an operation and its handler.
pub(crate) struct Row {
    pub(crate) operation: Operation,
    served: Served,
}

/// A row without more statuses than usual.
pub(crate) fn row(
    verb: Verb,
    path: &'static str,
    id: &'static str,
    summary: &'static str,
    requirement: Requirement,
    served: Served,
) -> Row {
    let mut schemas = Schemas::new();
    Row {
        operation: Operation {
            verb,
            path,
            id,
            summary,
            requirement,
            objects: served.path,
            success: served.success,
            statuses: &[],
            headers: &[],
            takes_body: (served.body)(&mut schemas).is_some(),
            takes_query: !(served.query)(&mut schemas).is_null(),
        },
        served,
    }
}

impl Row {
    /// Statuses that do not follow from the rest of the row.
    pub(crate) fn and(mut self, statuses: &'static [u16]) -> Self {
        self.operation.statuses = statuses;
        self
    }

    /// Headers that it reads.
    pub(crate) fn with_headers(mut self, headers: &'static [&'static str]) -> Self {
        self.operation.headers = headers;
        self
    }

    /// Schema of the query's parameters: an object with a member for each. `null`: there are none.
    pub(crate) fn query(&self, schemas: &mut Schemas) -> serde_json::Value {
        (self.served.query)(schemas)
    }

    /// The body.
    pub(crate) fn body(&self, schemas: &mut Schemas) -> Option<Content> {
        (self.served.body)(schemas)
    }

    /// The answer.
    pub(crate) fn answer(&self, schemas: &mut Schemas) -> Option<Content> {
        (self.served.answer)(schemas)
    }

    /// Reads a body as the operation does.
    pub(crate) fn try_body(&self, bytes: &[u8]) {
        (self.served.try_body)(bytes);
    }

    /// The route. A body with a policy file has a limit of its own.
    pub(crate) fn route(&self, api: &Api) -> MethodRouter<Api> {
        let route = (self.served.route)(self.operation);
        if self.served.has_policy {
            route.layer(DefaultBodyLimit::max(api.options.policy_limit))
        } else {
            route
        }
    }
}

/// A handler, and what its types say of the operation.
pub(crate) struct Served {
    route: Box<dyn Fn(Operation) -> MethodRouter<Api> + Send + Sync>,
    path: &'static [&'static str],
    success: u16,
    query: fn(&mut Schemas) -> serde_json::Value,
    body: fn(&mut Schemas) -> Option<Content>,
    answer: fn(&mut Schemas) -> Option<Content>,
    try_body: fn(&[u8]),
    has_policy: bool,
}

/// An operation that is served by a handler.
pub(crate) fn by<C, P, Q, B, A, H, F>(handler: H) -> Served
where
    C: Caller + 'static,
    P: FromPath + 'static,
    Q: FromQuery + 'static,
    B: FromBody + 'static,
    A: Answer + 'static,
    H: Fn(Api, Call<P, Q, B, C>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Result<A, ApiError>> + Send + 'static,
{
    Served {
        route: Box::new(move |operation| {
            let handler = handler.clone();
            let filter = operation.verb.filter();
            on(filter, move |State(api): State<Api>, request: Request| {
                let handler = handler.clone();
                async move { serve(operation, api, request, handler).await }
            })
        }),
        path: P::NAMES,
        success: A::STATUS.as_u16(),
        query: |schemas| {
            let schema = schemas.query::<Q>();
            schema
                .get("properties")
                .cloned()
                .map_or_else(Default::default, |_| schema)
        },
        body: B::content,
        answer: A::content,
        try_body: B::try_bytes,
        has_policy: B::HAS_POLICY,
    }
}

/// Serves one request: the caller and the requirement first, so that nobody learns more who may not
/// call the operation; then path, query and body. What is refused for lack of permission and would
/// have changed something leaves an audit event.
async fn serve<C, P, Q, B, A, H, F>(
    operation: Operation,
    api: Api,
    request: Request,
    handler: H,
) -> Response
where
    C: Caller,
    P: FromPath,
    Q: FromQuery,
    B: FromBody,
    A: Answer,
    H: Fn(Api, Call<P, Q, B, C>) -> F,
    F: Future<Output = Result<A, ApiError>>,
{
    let (mut parts, body) = request.into_parts();
    let Ok(params) = RawPathParams::from_request_parts(&mut parts, &()).await else {
        return ApiError::not_found().into_response();
    };
    let admission = C::admit(&mut parts, &params, &api, operation.requirement).await;
    // Whoever is refused is named by the event, and so is what they asked for.
    let noted = admission.known.filter(|_| operation.changes());
    let asked = noted
        .as_ref()
        .map(|_| format!("{} {}", parts.method, parts.uri.path()));
    let outcome = async {
        let actor = admission.caller?;
        let path = P::read(&params).ok_or_else(ApiError::not_found)?;
        let query = Q::read(pairs(parts.uri.query()))?;
        let headers = std::mem::take(&mut parts.headers);
        let body = B::read(Request::from_parts(parts, body)).await?;
        let call = Call {
            actor,
            path,
            query,
            headers,
            body,
        };
        handler(api.clone(), call).await?.into_response()
    };
    let response = match outcome.await {
        Ok(response) => response,
        Err(error) => {
            error.log();
            error.into_response()
        }
    };
    if response.status() == StatusCode::FORBIDDEN
        && let (Some(actor), Some(asked)) = (noted, asked)
    {
        api.engine
            .note_refused(&actor, operation.id, &asked, NOT_PERMITTED)
            .await;
    }
    response
}
