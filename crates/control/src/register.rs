//! `POST /machine/register`.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bowline_engine::{Followed, Registered, Registration, RegistrationRefused, StoreFailure};
use bowline_model::id::{DeviceId, TailnetId};
use bowline_netmap::render::{node, profiles};
use bowline_wire::capability;
use bowline_wire::hostinfo::TooLarge;
use bowline_wire::register::{Login, RegisterRequest, RegisterResponse, ResponseUser};
use http::header::RETRY_AFTER;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::server::{Body, Control, Peer, bad_request, body, json_response, text_response};

/// Characters of a login's code.
const CODE_LENGTH: usize = 32;

pub(crate) async fn handle(
    control: &Control,
    request: Request<Incoming>,
    peer: &Arc<Peer>,
) -> Response<Body> {
    // Before anything is received: what is over a limit holds nothing.
    let Some(_open) = peer.begin_registration() else {
        return text_response(
            StatusCode::TOO_MANY_REQUESTS,
            "this connection has too many registrations at once",
        );
    };
    if let Err(wait) = control.0.limiter.take(peer.machine_key) {
        let mut response = text_response(
            StatusCode::TOO_MANY_REQUESTS,
            "too many registrations; try again later",
        );
        // Clients below capability version 137 do not look at it.
        response
            .headers_mut()
            .insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + 1));
        return response;
    }
    let body = match body(control, request, peer).await {
        Ok(body) => body,
        Err(response) => return *response,
    };
    let _answering = control.answering(peer);
    let mut request = match RegisterRequest::parse(&body) {
        Ok(request) => request,
        Err(error) => return bad_request(&error),
    };
    if request.version < capability::MINIMUM {
        let text = "this client is too old for this server: install Tailscale 1.80 or later";
        return json_response(StatusCode::OK, &RegisterResponse::refused(text));
    }
    // What comes next may be held for an hour.
    drop(body);
    let followup = code(&std::mem::take(&mut request.followup)).to_owned();
    let request = match registration(request, peer) {
        Ok(request) => request,
        Err(TooLarge) => return answer(control, Err(RegistrationRefused::HostinfoTooLarge), peer),
    };
    let outcome = control.0.engine.register(request.clone()).await;
    if matches!(outcome, Ok(Registered::NeedsLogin)) {
        return interactive(control, &followup, request, peer).await;
    }
    answer(control, outcome, peer)
}

/// A device without an auth key: somebody must say whose it is. Its user is shown where to learn
/// how; then it follows that address up, and that request is held until somebody has decided.
async fn interactive(
    control: &Control,
    followup: &str,
    request: Registration,
    peer: &Peer,
) -> Response<Body> {
    let engine = &control.0.engine;
    match engine.follow_login(followup, request, peer.source).await {
        Ok(Followed::In { tailnet, device }) => {
            answer(control, Ok(Registered::In { tailnet, device }), peer)
        }
        Ok(Followed::Refused) => answer(control, Err(RegistrationRefused::LoginRefused), peer),
        Ok(Followed::Stopping) => {
            let text = "the server is stopping; try again";
            text_response(StatusCode::SERVICE_UNAVAILABLE, text)
        }
        Ok(Followed::Replaced) => {
            let text = "another request of this device waits for the login";
            text_response(StatusCode::CONFLICT, text)
        }
        // Never the same address as before: clients take that for a login that does not begin.
        Ok(Followed::Begun(code)) => {
            let response = RegisterResponse {
                auth_url: format!("{}/login/{code}", control.0.config.url),
                ..RegisterResponse::empty()
            };
            json_response(StatusCode::OK, &response)
        }
        Err(refused) => answer(control, Err(refused), peer),
    }
}

/// The code in a login's address; empty where there is none.
fn code(url: &str) -> &str {
    let path = url.split(['?', '#']).next().unwrap_or("");
    let code = path.rsplit('/').next().unwrap_or("");
    if code.len() == CODE_LENGTH { code } else { "" }
}

fn answer(
    control: &Control,
    outcome: Result<Registered, RegistrationRefused>,
    peer: &Peer,
) -> Response<Body> {
    let counters = &control.0.counters;
    match outcome {
        Ok(Registered::In { tailnet, device }) => {
            counters.registrations.fetch_add(1, Ordering::Relaxed);
            match admitted(control, tailnet, device) {
                Some(response) => json_response(StatusCode::OK, &response),
                // Deleted in between: the client starts again.
                None => text_response(StatusCode::CONFLICT, "the device was deleted meanwhile"),
            }
        }
        // The last has been answered before.
        Ok(Registered::LoggedOut | Registered::KeyExpired | Registered::NeedsLogin) => {
            let response = RegisterResponse {
                node_key_expired: true,
                ..RegisterResponse::empty()
            };
            json_response(StatusCode::OK, &response)
        }
        Err(RegistrationRefused::Store(failure)) => {
            if failure.is_condition() {
                // The log has said so once, when it began.
                tracing::debug!(
                    error = failure.with_causes(),
                    "a registration could not be stored"
                );
            } else {
                tracing::error!(
                    error = failure.with_causes(),
                    "a registration could not be stored"
                );
            }
            let (status, text) = match failure {
                StoreFailure::Unavailable(_)
                | StoreFailure::Stalled
                | StoreFailure::Undecided
                | StoreFailure::WriterLost
                | StoreFailure::Stopping => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the server cannot store anything now; try again later",
                ),
                StoreFailure::Taken(_) => (
                    StatusCode::CONFLICT,
                    "the device came in elsewhere at the same moment; try again",
                ),
                StoreFailure::Defect(_) => {
                    (StatusCode::INTERNAL_SERVER_ERROR, "internal server error")
                }
            };
            text_response(status, text)
        }
        Err(refused) => {
            counters
                .refused_registrations
                .fetch_add(1, Ordering::Relaxed);
            let response = RegisterResponse::refused(refused.to_string());
            tracing::info!(machine.key = ?peer.machine_key, reason = %response.error, "refused a registration");
            json_response(StatusCode::OK, &response)
        }
    }
}

fn registration(request: RegisterRequest, peer: &Peer) -> Result<Registration, TooLarge> {
    let hostinfo = request.hostinfo?;
    Ok(Registration {
        machine_key: peer.machine_key,
        node_key: request.node_key,
        old_node_key: request.old_node_key,
        lock_key: request
            .lock_key
            .map(|key| key.to_string())
            .unwrap_or_default(),
        auth_key: request.auth_key,
        expiry: request.expiry,
        ephemeral: request.ephemeral,
        capability_version: request.version,
        hostinfo: hostinfo.json,
        facts: hostinfo.facts,
    })
}

fn admitted(control: &Control, tailnet: TailnetId, device: DeviceId) -> Option<RegisterResponse> {
    let snapshot = control.0.engine.snapshot(tailnet)?;
    let entry = snapshot.device(device)?;
    let owner = profiles::of_owner(node::owner_id(&entry.device), &snapshot);
    Some(RegisterResponse {
        user: ResponseUser {
            id: owner.id,
            display_name: owner.display_name.clone(),
        },
        login: Login {
            id: owner.id,
            provider: "bowline".to_owned(),
            login_name: owner.login_name,
            display_name: owner.display_name,
        },
        machine_authorized: entry.device.authorized,
        ..RegisterResponse::empty()
    })
}
