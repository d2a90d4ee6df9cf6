//! Tailnets of the server: for its operator only. Operations of ours.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use crate::Api;
use crate::caller::ServerOperator;
use crate::error::ApiError;
use crate::extract::{Json, json};
use crate::text::time;

/// `GET /tailnets`: list the server's tailnets.
pub(crate) async fn list(
    _operator: ServerOperator,
    State(api): State<Api>,
) -> Result<Response, ApiError> {
    let tailnets: Vec<_> = api
        .engine
        .tailnets()
        .into_iter()
        .filter_map(|id| api.engine.snapshot(id))
        .map(|snapshot| {
            let tailnet = snapshot.tailnet();
            json!({
                "id": tailnet.id.stable(),
                "name": tailnet.name,
                "dnsName": tailnet.dns_name,
                "created": time(tailnet.created),
                "deviceCount": snapshot.device_count(),
            })
        })
        .collect();
    json(&json!({"tailnets": tailnets}))
}

/// Body of "create tailnet".
#[derive(Deserialize)]
pub(crate) struct CreateBody {
    owner: String,
    name: Option<String>,
}

/// `POST /tailnets`: make a tailnet with its owner and their first API access token.
pub(crate) async fn create(
    _operator: ServerOperator,
    State(api): State<Api>,
    Json(body): Json<CreateBody>,
) -> Result<Response, ApiError> {
    let made = api
        .engine
        .create_tailnet(&body.owner, body.name.as_deref())
        .await?;
    json(&json!({
        "id": made.tailnet.stable(),
        "owner": body.owner,
        "userId": made.owner.stable(),
        "token": made.token.expose(),
        "expires": made.credential.expires.map(time),
    }))
}
