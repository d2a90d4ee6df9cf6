//! `POST /oauth/token`: an access token for the secret of an OAuth client.
//!
//! Not in the official OpenAPI document. Source: `docs/protocol/api-behaviour.md`, section 3.1;
//! `tailscale/tailscale feature/oauthkey`; `golang/oauth2 clientcredentials` and `internal/token.go`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bowline_engine::credential::access_token::{NarrowedToken, TokenRefused};
use bowline_model::scope::Scope;
use bowline_model::secret::Presented;
use http::header::AUTHORIZATION;
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;

use super::{Issued, refused};
use crate::Api;
use crate::call::Call;
use crate::caller::NoTailnet;
use crate::error::ApiError;
use crate::extract::Form;

/// What asks for an access token. The client may show its secret in the header `Authorization` (Basic)
/// instead.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct WantedToken {
    /// `client_credentials`; so it is too where it is absent.
    grant_type: Option<String>,
    /// Not looked at: the secret says which client it is of.
    #[expect(dead_code, reason = "clients send it, some a wrong one")]
    client_id: Option<String>,
    /// `tskey-client-…`
    client_secret: Option<String>,
    /// Scopes, with a space between two. Absent: all that the client has.
    scope: Option<String>,
    /// Tags, with a space between two. Absent: those of the client.
    tags: Option<String>,
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Form<WantedToken>, NoTailnet>,
) -> Result<Issued, ApiError> {
    let body = call
        .body
        .0
        .map_err(|error| error.with_oauth("invalid_request", false))?;
    // A client may have been revoked by whoever had the database between.
    let current = api.engine.ensure_current().await;
    current.map_err(|failure| ApiError::from(failure).with_oauth("server_error", false))?;
    if body
        .grant_type
        .as_deref()
        .is_some_and(|grant| grant != "client_credentials")
    {
        return Err(
            ApiError::bad_request("grant_type must be client_credentials")
                .with_oauth("unsupported_grant_type", false),
        );
    }
    let in_header = basic_secret(&call.headers);
    let by_header = in_header.is_some();
    let secret = match (in_header, body.client_secret) {
        (Some(header), Some(body)) if header != body => {
            return Err(ApiError::bad_request(
                "the secret of the client is there twice, in the header and in the body",
            )
            .with_oauth("invalid_request", by_header));
        }
        (Some(secret), _) | (None, Some(secret)) => secret,
        (None, None) => return Err(refused(TokenRefused::Unauthenticated, false)),
    };
    let wanted = NarrowedToken {
        scopes: scopes(body.scope.as_deref(), by_header)?,
        tags: words(body.tags.as_deref()).map(str::to_owned).collect(),
    };
    let (address, client) = (
        call.actor.address(),
        Presented::parse(&secret).map(|shown| shown.id),
    );
    let too_many = |error: ApiError| error.with_oauth("temporarily_unavailable", by_header);
    api.failures.check(address, client).map_err(too_many)?;
    match api.engine.client_token(&secret, wanted).await {
        Ok(issued) => {
            call.actor.establish();
            Ok(Issued(issued))
        }
        Err(TokenRefused::Unauthenticated) => {
            let error = api.failures.failed(address, client);
            Err(if error.status == StatusCode::TOO_MANY_REQUESTS {
                too_many(error)
            } else {
                error.with_oauth("invalid_client", by_header)
            })
        }
        Err(refusal) => Err(refused(refusal, by_header)),
    }
}

fn words(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split_ascii_whitespace()
}

fn scopes(text: Option<&str>, by_header: bool) -> Result<Vec<Scope>, ApiError> {
    let read = words(text).map(str::parse::<Scope>);
    read.collect::<Result<Vec<Scope>, _>>().map_err(|error| {
        ApiError::bad_request(error.to_string()).with_oauth("invalid_scope", by_header)
    })
}

/// The secret that Basic authentication shows: the password, as a form encodes it. An empty one is
/// none: the library of Go sends such a header where it was given nothing.
/// Source: RFC 6749, section 2.3.1.
fn basic_secret(headers: &HeaderMap) -> Option<String> {
    let header = headers.get_all(AUTHORIZATION).iter().next_back()?;
    let (scheme, rest) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(rest.trim()).ok()?).ok()?;
    let (_, password) = decoded.split_once(':')?;
    let pairs: Vec<(String, String)> = serde_urlencoded::from_str(&format!("s={password}")).ok()?;
    // An `&` in it would begin another member: no secret of ours has one.
    match <[_; 1]>::try_from(pairs) {
        Ok([(_, secret)]) if !secret.is_empty() => Some(secret),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_is_the_password_as_forms_encode_it() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            let value = format!("Basic {}", BASE64_STANDARD.encode(text));
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            basic_secret(&headers)
        };
        assert_eq!(read("id:secret").as_deref(), Some("secret"));
        assert_eq!(read("k1%2B:a%2Db+c").as_deref(), Some("a-b c"));
        for text in [":", "id:", "id", "id:a&b=c"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
