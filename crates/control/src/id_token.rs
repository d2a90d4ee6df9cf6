//! `POST /machine/id-token`: a token that says which device the client is, for services elsewhere.
//!
//! Source: `tailscale/tailscale tailcfg/tailcfg.go TokenRequest`. The client hands status and text of a
//! refusal to whoever asked it.

use std::sync::Arc;

use bowline_engine::workload::device_token::DeviceTokenRefused;
use bowline_wire::id_token::{TokenRequest, TokenResponse};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::server::{Body, Control, Peer, bad_request, body, json_response, text_response};

pub(crate) async fn handle(
    control: &Control,
    request: Request<Incoming>,
    peer: &Arc<Peer>,
) -> Response<Body> {
    if control.0.token_limiter.take(peer.machine_key).is_err() {
        let text = "too many requests for tokens; ask again later";
        return text_response(StatusCode::TOO_MANY_REQUESTS, text);
    }
    let body = match body(control, request, peer).await {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let _answering = control.answering(peer);
    let request = match TokenRequest::parse(&body) {
        Ok(request) => request,
        Err(error) => return bad_request(&error),
    };
    drop(body);
    let TokenRequest { node_key, audience } = request;
    let engine = &control.0.engine;
    let token = engine.device_token(peer.machine_key, &node_key, &audience);
    match token.await {
        Ok(id_token) => json_response(StatusCode::OK, &TokenResponse { id_token }),
        Err(DeviceTokenRefused::Store(failure)) => {
            tracing::error!(error = %failure.with_causes(), "a device got no token");
            text_response(
                StatusCode::SERVICE_UNAVAILABLE,
                "the server cannot sign a token now; try again later",
            )
        }
        Err(refused) => {
            let status = match refused {
                DeviceTokenRefused::NoDevice => StatusCode::NOT_FOUND,
                DeviceTokenRefused::OtherMachine => StatusCode::UNAUTHORIZED,
                DeviceTokenRefused::NotAuthorized => StatusCode::FORBIDDEN,
                DeviceTokenRefused::Audience | DeviceTokenRefused::Store(_) => {
                    StatusCode::BAD_REQUEST
                }
            };
            text_response(status, &refused.to_string())
        }
    }
}
