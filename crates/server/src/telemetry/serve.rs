//! The metrics listener.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::Metrics;
use crate::accept::Listening;

/// The format that is served; Prometheus takes it whatever it asks for.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves `GET /metrics` until `shutdown` is cancelled and the requests in flight are answered.
pub async fn serve_metrics(
    listening: Listening,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let router = Router::new()
        .route("/metrics", get(scrape))
        .with_state(metrics);
    let connections = TaskTracker::new();
    let ending = shutdown.clone();
    let accepting = listening.run(&connections, shutdown, |socket, _, ticket| {
        let (router, stop) = (router.clone(), ending.clone());
        async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let (router, busy) = (router.clone(), ticket.busy());
                async move {
                    let answer = router.oneshot(request.map(Body::new)).await;
                    drop(busy);
                    answer
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .max_buf_size(16 * 1024)
                .serve_connection(TokioIo::new(socket), service);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    let _ = connection.await;
                }
            }
        }
    });
    accepting.await;
    connections.close();
    // A client that does not read its answer is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(3), connections.wait()).await;
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> Response {
    // Counting what there is takes its time, which no other request is to wait for.
    let rendered = tokio::task::spawn_blocking(move || metrics.render()).await;
    match rendered.unwrap_or(Err(std::fmt::Error)) {
        Ok(text) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "could not write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use bowline_admission::{Admission, Listener};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    async fn ask(address: std::net::SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("an answer");
        text
    }

    #[tokio::test]
    async fn metrics_are_served_until_shutdown() {
        let listening = Listening {
            socket: crate::accept::bind(([127, 0, 0, 1], 0).into()).expect("a listener"),
            listener: Listener::Metrics,
            admission: Admission::unlimited(),
            trusted_proxies: [].into(),
        };
        let address = listening.socket.local_addr().expect("an address");
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve_metrics(listening, Metrics::new(), shutdown.clone()));
        let answer = ask(address, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.contains(&format!("content-type: {OPEN_METRICS}\r\n")),
            "{answer}"
        );
        assert!(answer.ends_with("# EOF\n"), "{answer}");
        assert!(ask(address, "/").await.starts_with("HTTP/1.1 404 "));
        // An idle connection does not hold the server.
        let _idle = TcpStream::connect(address).await.expect("a connection");
        shutdown.cancel();
        let ended = timeout(Duration::from_secs(5), server)
            .await
            .expect("an end within 5 s");
        ended.expect("a task");
        TcpStream::connect(address)
            .await
            .expect_err("nobody listens");
    }
}
