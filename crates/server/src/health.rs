//! Whether the server is ready for requests, and whether it lives.
//!
//! `GET /health` is for balancers and monitoring: it fails while changes cannot be stored, so that a
//! balancer goes to another server. `GET /health/live` is for what restarts processes: it answers as
//! long as this one works at all, since a restart mends no database.
//!
//! The format is that of `draft-inadarei-api-health-check`, "Health Check Response Format for HTTP
//! APIs": `{"status":"pass"}`, and with `warn` or `fail` an `output` and `checks`.

use axum::body::Body;
use bowline_engine::Engine;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

/// What is wrong, worst first.
fn problems(engine: &Engine) -> Vec<Problem> {
    let mut problems = Vec::new();
    if engine.ending().is_cancelled() {
        problems.push(Problem {
            check: "process",
            is_failure: true,
            output: "the server is stopping".to_owned(),
            value: json!("stopping"),
        });
    }
    if let Some(trouble) = engine.store_report().trouble {
        problems.push(Problem {
            check: "database",
            is_failure: true,
            output: trouble.condition.to_string(),
            value: json!(trouble.condition.name()),
        });
    }
    let out_of_order = engine.tailnets_out_of_order().len();
    if out_of_order > 0 {
        // While others are served, taking the server from its balancer would end it for them too.
        let served = engine.tailnets().len();
        problems.push(Problem {
            check: "tailnets",
            is_failure: out_of_order >= served,
            output: format!("{out_of_order} tailnets are out of order; the log says why"),
            value: json!(out_of_order),
        });
    }
    if engine.is_server_out_of_order() {
        // Devices that are in are served.
        problems.push(Problem {
            check: "server",
            is_failure: false,
            output: "logins cannot begin; the log says why".to_owned(),
            value: json!("out of order"),
        });
    }
    let clock = engine.clock();
    if clock.is_held {
        // Everybody is served by the time that has passed.
        problems.push(Problem {
            check: "clock",
            is_failure: false,
            output: format!(
                "the machine's clock jumped and shows {}; see `bowline clock show`",
                clock.wall
            ),
            value: json!("held"),
        });
    }
    problems.sort_by_key(|problem| !problem.is_failure);
    problems
}

struct Problem {
    check: &'static str,
    is_failure: bool,
    output: String,
    value: Value,
}

impl Problem {
    const fn status(&self) -> &'static str {
        if self.is_failure { "fail" } else { "warn" }
    }
}

/// `GET /health`: 200 with `pass` or `warn`, 503 with `fail`.
pub(crate) fn ready(engine: &Engine) -> Response<Body> {
    let problems = problems(engine);
    let Some(worst) = problems.first() else {
        return live();
    };
    let checks: serde_json::Map<String, Value> = problems
        .iter()
        .map(|problem| {
            let check = json!([{
                "status": problem.status(),
                "observedValue": problem.value,
                "output": problem.output,
            }]);
            (problem.check.to_owned(), check)
        })
        .collect();
    let body = json!({"status": worst.status(), "output": worst.output, "checks": checks});
    let status = if worst.is_failure {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    answer(status, Body::from(body.to_string()))
}

/// `GET /health/live`: 200 while the process works.
pub(crate) fn live() -> Response<Body> {
    answer(StatusCode::OK, Body::from(r#"{"status":"pass"}"#))
}

fn answer(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/health+json");
    headers.insert(CONTENT_TYPE, json);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
