//! `GET /machine/ssh/action/{source}/to/{target}`: whether an SSH session may begin.
//!
//! Asked by the device that the session goes to, inside its encrypted connection. Source:
//! `docs/protocol/control-protocol.md`, section 8.3 (ts-go `ssh/tailssh/tailssh.go`, `fetchSSHAction`).

use std::sync::Arc;

use bowline_engine::{SshAnswer, SshSession};
use bowline_model::id::DeviceId;
use bowline_wire::ssh_action::SshAction;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use crate::server::{Body, Control, Peer, json_response, text_response};

/// What the path begins with.
pub(crate) const PATH: &str = "/machine/ssh/action/";

/// Longest name of a local user that anything is kept for.
const USER_MAX: usize = 256;

pub(crate) async fn handle(
    control: &Control,
    request: Request<Incoming>,
    path: &str,
    peer: &Arc<Peer>,
) -> Response<Body> {
    if control.0.ssh_limiter.take(peer.machine_key).is_err() {
        let text = "too many questions about sessions; ask again later";
        return text_response(StatusCode::TOO_MANY_REQUESTS, text);
    }
    let query = request.uri().query().unwrap_or("").to_owned();
    drop(request);
    let _answering = control.answering(peer);
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(&query).unwrap_or_default();
    let value = |name: &str| {
        let pair = pairs.iter().find(|(key, _)| key == name);
        pair.map(|(_, value)| value.as_str())
    };
    let (Some((source, target)), Some(user)) = (devices(path), value("local_user")) else {
        return text_response(
            StatusCode::BAD_REQUEST,
            "expected /machine/ssh/action/ID/to/ID?local_user=NAME",
        );
    };
    if user.len() > USER_MAX {
        return text_response(StatusCode::BAD_REQUEST, "the user's name is too long");
    }
    let engine = &control.0.engine;
    // Whether it is there and another machine's is not told.
    let Some(tailnet) = engine.tailnet_of(peer.machine_key, target) else {
        return text_response(StatusCode::NOT_FOUND, "no such device of this machine");
    };
    let session = SshSession {
        tailnet,
        source,
        target,
        user: user.to_owned(),
    };
    let action = match engine.ssh_answer(session, value("code")).await {
        None => {
            let text = "the server cannot say now; ask again";
            return text_response(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        Some(SshAnswer::Accept) => SshAction::accept(),
        Some(SshAnswer::Reject(reason)) => SshAction::reject(format!("{reason}\n")),
        Some(SshAnswer::Ask(code)) => {
            let user = serde_urlencoded::to_string([("local_user", user), ("code", &code)]);
            let Ok(query) = user else {
                return text_response(StatusCode::BAD_REQUEST, "the user's name is not text");
            };
            let message = format!(
                "This session must be confirmed before it begins. Open {}/ssh/{code}\n",
                control.0.config.url
            );
            let url = format!("https://unused{PATH}{source}/to/{target}?{query}");
            SshAction::hold(message, url)
        }
    };
    json_response(StatusCode::OK, &action)
}

/// The devices in a path; ids in decimal, as clients know them.
fn devices(path: &str) -> Option<(DeviceId, DeviceId)> {
    let (source, target) = path.strip_prefix(PATH)?.split_once("/to/")?;
    let id = |text: &str| text.parse().ok().and_then(DeviceId::new);
    Some((id(source)?, id(target)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_two_devices_by_number() {
        let ids = |path: &str| devices(path).map(|(a, b)| (a.get(), b.get()));
        assert_eq!(ids("/machine/ssh/action/12/to/34"), Some((12, 34)));
        for path in [
            "/machine/ssh/action/12",
            "/machine/ssh/action/12/to/",
            "/machine/ssh/action/x/to/1",
            "/machine/ssh/action/1/to/2/3",
            "/machine/ssh/action/0/to/2",
            "/machine/ssh/action/-1/to/2",
        ] {
            assert_eq!(ids(path), None, "{path}");
        }
    }
}
