//! Access tokens of OAuth clients over restarts and at the end of what they come from.

use bowline_engine::Actor;
use bowline_engine::credential::NewAuthKey;
use bowline_engine::credential::access_token::{NarrowedToken, TokenRefused};
use bowline_engine::credential::client::NewOAuthClient;
use bowline_model::id::KeyId;
use bowline_model::principal::Principal;
use bowline_model::requirement::Requirement;
use bowline_model::scope::Scope;
use jiff::SignedDuration;

use crate::net::Net;

async fn client(net: &Net, scopes: &[Scope]) -> (KeyId, String) {
    let new = NewOAuthClient {
        scopes: scopes.iter().copied().collect(),
        ..NewOAuthClient::default()
    };
    let made = net.engine.create_oauth_client(&net.admin, new).await;
    let (minted, credential) = made.unwrap();
    (credential.id, minted.expose().to_owned())
}

async fn token(net: &Net, secret: &str) -> Result<String, TokenRefused> {
    let issued = net
        .engine
        .client_token(secret, NarrowedToken::default())
        .await?;
    Ok(issued.minted.expose().to_owned())
}

/// Who presents a token: known, or found in the database.
async fn found(net: &Net, token: &str) -> (bool, bool) {
    let known = net.engine.authenticate(token).is_some();
    let stored = net.engine.authenticate_stored(token).await.unwrap();
    (known, stored.is_some())
}

fn is_client(actor: &Actor, id: KeyId) -> bool {
    matches!(&actor.principal, Principal::OAuthClient(client) if client.id == id)
}

#[tokio::test]
async fn a_token_is_known_when_it_is_made_and_read_once_after_a_restart() {
    let net = Net::new().await;
    let (id, secret) = client(&net, &[Scope::DNS]).await;
    let good = token(&net, &secret).await.unwrap();
    let revoked = token(&net, &secret).await.unwrap();
    let actor = net.engine.authenticate(&good).unwrap();
    assert!(is_client(&actor, id));
    let own = net.engine.authenticate(&revoked).unwrap();
    let own = own.asking(Requirement::CALLER);
    let own_id = own.credential.unwrap();
    net.engine.revoke_credential(&own, own_id).await.unwrap();
    assert_eq!(found(&net, &revoked).await, (false, false));

    let net = net.restart(SignedDuration::ZERO).await;
    assert!(net.engine.authenticate(&good).is_none());
    let actor = net.engine.authenticate_stored(&good).await.unwrap();
    assert!(is_client(&actor.unwrap(), id));
    assert!(net.engine.authenticate(&good).is_some());
    assert_eq!(found(&net, &revoked).await, (false, false));
    let wrong = format!("{good}x");
    assert_eq!(found(&net, &wrong).await, (false, false));
    assert_eq!(found(&net, &secret).await, (false, false));
    assert_eq!(found(&net, "x").await, (false, false));
}

#[tokio::test]
async fn a_token_ends_after_its_hour_and_with_its_client() {
    let net = Net::new().await;
    let (id, secret) = client(&net, &[Scope::DNS]).await;
    let old = token(&net, &secret).await.unwrap();
    net.clock.pass(SignedDuration::from_secs(3599));
    assert!(net.engine.authenticate(&old).is_some());
    let new = token(&net, &secret).await.unwrap();
    net.clock.pass(SignedDuration::from_secs(1));
    assert_eq!(found(&net, &old).await, (false, false));
    assert!(net.engine.authenticate(&new).is_some());
    net.engine.revoke_credential(&net.admin, id).await.unwrap();
    assert_eq!(found(&net, &new).await, (false, false));
    let refused = token(&net, &secret).await.unwrap_err();
    assert!(matches!(refused, TokenRefused::Unauthenticated));
    let net = net.restart(SignedDuration::ZERO).await;
    assert_eq!(found(&net, &new).await, (false, false));
}

#[tokio::test]
async fn a_secret_of_another_kind_gets_no_token() {
    let net = Net::new().await;
    let (_, secret) = client(&net, &[Scope::DNS]).await;
    let own = token(&net, &secret).await.unwrap();
    let made = net
        .engine
        .create_auth_key(&net.admin, None, NewAuthKey::default());
    let auth_key = made.await.unwrap().0.expose().to_owned();
    let renamed = secret.replace("tskey-client-", "tskey-api-");
    for wrong in [&own, &auth_key, &renamed, &secret.to_lowercase(), ""] {
        let refused = token(&net, wrong).await.unwrap_err();
        assert!(matches!(refused, TokenRefused::Unauthenticated), "{wrong}");
    }
    // Nor is the secret of the client itself a token.
    assert_eq!(found(&net, &renamed).await, (false, false));
}
