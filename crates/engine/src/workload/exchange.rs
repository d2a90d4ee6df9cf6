//! The exchange: a token of an issuer that a federated identity trusts for an access token.

use std::sync::Arc;

use bowline_model::credential::{FederatedIdentity, Kind};
use bowline_model::id::{KeyId, TailnetId};
use jiff::{SignedDuration, Timestamp};

use crate::core::engine::Engine;
use crate::core::failure::StoreFailure;
use crate::credential::access_token::{IssuedToken, NarrowedToken, TokenRefused};

use super::identity::parse_client_id;
use super::issuer::{Issuers, Unavailable};
use super::token::{Rejected, Shown};

/// Pause between two lines of the log about tokens of one identity that were refused: whoever knows its
/// id could fill the log.
const LOG_PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// Why no access token was made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExchangeRefused {
    /// The client id is not that of a federated identity that is good.
    #[error("invalid request")]
    Request,
    /// The token was refused. Why is in the server's log, and nowhere else: it would tell whoever
    /// guesses what the identity expects.
    #[error("Unauthorized. The log of the server says why")]
    Token,
    /// The access token could not be stored.
    #[error(transparent)]
    Store(#[from] StoreFailure),
}

/// Why a token was refused, for the log.
#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("the token is refused: {0}")]
    Token(#[from] Rejected),
    #[error("the issuer's keys cannot be had: {0}")]
    Issuer(#[from] Unavailable),
}

/// When a refusal of each identity was logged last.
#[derive(Default)]
struct Logged(papaya::HashMap<KeyId, Timestamp>);

impl Engine {
    /// Gives an access token to whoever shows a token that a federated identity trusts.
    ///
    /// # Errors
    /// How it is refused.
    pub async fn exchange_token(
        &self,
        client_id: &str,
        token: &str,
    ) -> Result<IssuedToken, ExchangeRefused> {
        let (tailnet, id) = parse_client_id(client_id).ok_or(ExchangeRefused::Request)?;
        let identity = self.federated_identity(tailnet, id)?;
        if let Err(reason) = self.check_token(tailnet, &identity, token).await {
            self.note_rejected(id, &reason);
            return Err(ExchangeRefused::Token);
        }
        let issued = self
            .issue_access_token(tailnet, id, NarrowedToken::default())
            .await;
        let issued = issued.map_err(|refused| match refused {
            TokenRefused::Store(failure) => ExchangeRefused::Store(failure),
            // It was revoked meanwhile.
            TokenRefused::Unauthenticated | TokenRefused::Scopes(_) | TokenRefused::Tags(_) => {
                ExchangeRefused::Request
            }
        })?;
        self.0.memory.get(Logged::default).0.pin().remove(&id);
        Ok(issued)
    }

    fn federated_identity(
        &self,
        tailnet: TailnetId,
        id: KeyId,
    ) -> Result<FederatedIdentity, ExchangeRefused> {
        if self.0.directory.credential(id) != Some(tailnet) {
            return Err(ExchangeRefused::Request);
        }
        let Some(view) = self.snapshot(tailnet) else {
            // Whether it is good is known when its tailnet is served.
            return Err(StoreFailure::WriterLost.into());
        };
        match view.credential(id) {
            Some(credential) if credential.is_valid(self.now()) => match &credential.kind {
                Kind::Federated(identity) => Ok(identity.clone()),
                Kind::Auth(_) | Kind::Api | Kind::Client(_) | Kind::Scim => {
                    Err(ExchangeRefused::Request)
                }
            },
            _ => Err(ExchangeRefused::Request),
        }
    }

    async fn check_token(
        &self,
        tailnet: TailnetId,
        identity: &FederatedIdentity,
        token: &str,
    ) -> Result<(), Reason> {
        let shown = Shown::read(token, identity, self.now())?;
        let issuers: Arc<Issuers> = self.0.memory.get(Issuers::default);
        let keys = issuers.keys(self, tailnet, &identity.issuer).await?;
        let verified = shown.verify(&keys, identity, self.now());
        let may_be_newer = match verified {
            Err(Rejected::NoKey) => true,
            // An issuer with one key that it does not name may have another one now.
            Err(Rejected::Signature) => !shown.names_key(),
            _ => false,
        };
        if may_be_newer
            && let Some(newer) = issuers.newer(self, tailnet, &identity.issuer, &keys).await
        {
            return Ok(shown.verify(&newer, identity, self.now())?);
        }
        Ok(verified?)
    }

    fn note_rejected(&self, id: KeyId, reason: &Reason) {
        let now = self.now();
        let logged = self.0.memory.get(Logged::default);
        let logged = logged.0.pin();
        let last = logged.get(&id);
        if last.is_some_and(|last| *last <= now && now.duration_since(*last) < LOG_PAUSE) {
            return;
        }
        logged.insert(id, now);
        let mut causes = String::new();
        let mut cause = std::error::Error::source(reason);
        while let Some(error) = cause {
            causes = format!("{causes}: {error}");
            cause = error.source();
        }
        tracing::info!(
            credential.id = %id.stable(),
            reason = %format!("{reason}{causes}"),
            "refused the token of a workload"
        );
    }
}
