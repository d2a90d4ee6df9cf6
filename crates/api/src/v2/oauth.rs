//! Access tokens for those who are no users, as OAuth 2.0 hands them out.
//!
//! Source: RFC 6749, sections 2.3, 4.4 and 5; `docs/protocol/api-behaviour.md`, section 3.

pub(crate) mod exchange;
pub(crate) mod token;

use axum::response::Response;
use bowline_engine::credential::access_token::{IssuedToken, TokenRefused};
use bowline_model::access_token::LIFETIME_SECONDS;
use schemars::JsonSchema;
use serde::Serialize;

use crate::answer::Answer;
use crate::error::{ApiError, not_stored};
use crate::extract::Json;
use crate::schema::{Content, Schemas};

/// An access token that was just made. Its secret is in this answer only.
#[derive(Serialize, JsonSchema)]
pub(crate) struct AccessToken {
    access_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// For how many seconds it is good: 3600.
    expires_in: u32,
    /// Its scopes, with a space between two.
    scope: String,
}

/// The answer with an access token in it, which nobody on the way may keep.
pub(crate) struct Issued(pub(crate) IssuedToken);

impl Answer for Issued {
    fn content(schemas: &mut Schemas) -> Option<Content> {
        Json::<AccessToken>::content(schemas)
    }

    fn into_response(self) -> Result<Response, ApiError> {
        let IssuedToken { minted, token } = self.0;
        let shown = Json(AccessToken {
            access_token: minted.expose().to_owned(),
            token_type: "Bearer",
            expires_in: LIFETIME_SECONDS,
            scope: token.scopes.to_string(),
        });
        let mut response = shown.into_response()?;
        not_stored(response.headers_mut());
        Ok(response)
    }
}

/// How a request for an access token was refused. `by_header`: the client showed its secret in the
/// header `Authorization`.
pub(crate) fn refused(refusal: TokenRefused, by_header: bool) -> ApiError {
    match refusal {
        TokenRefused::Unauthenticated => {
            ApiError::unauthorized().with_oauth("invalid_client", by_header)
        }
        TokenRefused::Scopes(_) => {
            ApiError::bad_request(refusal.to_string()).with_oauth("invalid_scope", by_header)
        }
        // Source: RFC 8707, section 2. What is asked for besides scopes has no code in RFC 6749.
        TokenRefused::Tags(text) => {
            ApiError::bad_request(text).with_oauth("invalid_target", by_header)
        }
        TokenRefused::Store(failure) => {
            ApiError::from(failure).with_oauth("server_error", by_header)
        }
    }
}
