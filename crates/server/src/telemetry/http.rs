//! Metrics of HTTP requests.

use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::Method;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::metrics::Timer;

/// The label of a request that no route answered.
const NO_ROUTE: &str = "none";

/// Counts requests and measures how long they take.
#[derive(Debug, Clone)]
pub struct HttpMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<RouteLabels, Histogram, fn() -> Histogram>,
}

/// Route, method and class of the answer: all from closed sets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: &'static str,
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

impl HttpMetrics {
    pub(super) fn registered_in(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(|| Timer::new().histogram()),
        };
        registry.register(
            "bowline_http_requests",
            "Requests answered, by route, method and class of status",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "bowline_http_request",
            "Time from a request to its answer's headers",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        metrics
    }

    /// Counts one request. `route` is the pattern that matched (`/device/{deviceId}`), never the
    /// path: paths hold ids, and there is no end of them.
    pub fn record(&self, route: Option<&str>, method: &Method, status: u16, duration: Duration) {
        let route = route.unwrap_or(NO_ROUTE).to_owned();
        let labels = RequestLabels {
            route: route.clone(),
            method: known(method),
            status: class(status),
        };
        self.requests.get_or_create(&labels).inc();
        self.durations
            .get_or_create(&RouteLabels { route })
            .observe(duration.as_secs_f64());
    }
}

/// A middleware for `axum::middleware::from_fn_with_state` that counts every request of a router.
pub async fn track(State(metrics): State<HttpMetrics>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map(MatchedPath::as_str);
    metrics.record(route, &method, response.status().as_u16(), began.elapsed());
    response
}

/// The methods that the server answers; a client can make up others.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn class(status: u16) -> &'static str {
    match status / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use http::StatusCode;
    use tower::ServiceExt as _;

    use super::super::Metrics;
    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_route_and_not_by_path() {
        let metrics = Metrics::new();
        let app = Router::new()
            .route("/device/{id}", get(|| async {}))
            .route(
                "/broken",
                get(|| async { StatusCode::INTERNAL_SERVER_ERROR }),
            )
            .layer(from_fn_with_state(metrics.http(), track));
        for (method, path) in [
            ("GET", "/device/1"),
            ("GET", "/device/2"),
            ("BREW", "/device/3"),
            ("GET", "/broken"),
            ("GET", "/nowhere/4"),
        ] {
            let request = Request::builder()
                .method(method)
                .uri(path)
                .body(Body::empty());
            let request = request.expect("a request");
            app.clone().oneshot(request).await.expect("an answer");
        }
        let text = metrics.render().expect("text");
        let count = |route: &str, method: &str, status: &str, count: u32| {
            let line = format!(
                "bowline_http_requests_total{{route=\"{route}\",method=\"{method}\",\
                 status=\"{status}\"}} {count}"
            );
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        };
        count("/device/{id}", "GET", "2xx", 2);
        count("/device/{id}", "other", "4xx", 1);
        count("/broken", "GET", "5xx", 1);
        count("none", "GET", "4xx", 1);
        let line = "bowline_http_request_seconds_count{route=\"/device/{id}\"} 3";
        assert!(text.lines().any(|found| found == line), "{text}");
    }
}
