//! `POST /oauth/token-exchange`: an access token for the token of a workload's own issuer.
//!
//! Not in the official OpenAPI document. Source: `docs/protocol/api-behaviour.md`, section 3.2;
//! `tailscale/tailscale-client-go-v2 identityfederation.go`;
//! `tailscale/tailscale feature/identityfederation`.

use bowline_engine::workload::exchange::ExchangeRefused;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use super::Issued;
use crate::Api;
use crate::call::Call;
use crate::caller::NoTailnet;
use crate::error::ApiError;
use crate::extract::Form;

/// What asks for an access token. The Go library of OAuth adds `grant_type=authorization_code`, an empty
/// `code` and an empty header `Authorization`; nothing but these is looked at.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct ShownToken {
    /// Id of the federated identity: `T…-k…`.
    #[schemars(required)]
    client_id: Option<String>,
    /// The token that the issuer signed.
    #[schemars(required)]
    jwt: Option<String>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Form<ShownToken>, NoTailnet>,
) -> Result<Issued, ApiError> {
    let body = call.body.0?;
    // An identity may have been revoked by whoever had the database between.
    api.engine.ensure_current().await?;
    let (Some(client), Some(token)) = (body.client_id, body.jwt) else {
        return Err(refused(ExchangeRefused::Request));
    };
    let address = call.actor.address();
    api.failures.check(address, None)?;
    match api.engine.exchange_token(&client, &token).await {
        Ok(issued) => {
            call.actor.establish();
            Ok(Issued(issued))
        }
        Err(ExchangeRefused::Store(failure)) => Err(failure.into()),
        Err(refusal) => {
            let counted = api.failures.failed(address, None);
            Err(if counted.status == StatusCode::TOO_MANY_REQUESTS {
                counted
            } else {
                refused(refusal)
            })
        }
    }
}

/// How a token is refused: a client that is not known in another way than a token that is not good, and
/// that in one way whatever the cause.
fn refused(refusal: ExchangeRefused) -> ApiError {
    match refusal {
        ExchangeRefused::Request => ApiError::bad_request(refusal.to_string()),
        ExchangeRefused::Token => ApiError::new(StatusCode::FORBIDDEN, refusal.to_string()),
        ExchangeRefused::Store(failure) => failure.into(),
    }
}
