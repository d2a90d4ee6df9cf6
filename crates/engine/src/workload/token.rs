//! A token of another issuer: reading it, and all that must hold of it.
//!
//! The library checks the signature. The moments are checked here, since time is passed in, and so are
//! the claims, because a federated identity has patterns where the library has values.

use bowline_model::credential::FederatedIdentity;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Header, Validation, dangerous};
use serde_json::Value;

use super::keys::{ALGORITHMS, KeySet};
use super::rules::{self, ClaimPath};

/// The longest token, in bytes. Those of the common issuers have one to three thousand.
pub(super) const TOKEN_MAX: usize = 16 << 10;
/// How far an issuer's clock and this one may lie apart.
const LEEWAY: SignedDuration = SignedDuration::from_secs(30);

/// What is wrong with a token. It goes to the log, and not to whoever showed the token: it would tell
/// them what the identity expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejected {
    #[error("it is not a signed JSON Web Token")]
    Malformed,
    #[error("it is signed with an algorithm that is not believed")]
    Algorithm,
    #[error("its header has a critical member that is not known here")]
    Critical,
    #[error("its issuer (iss) is another one")]
    Issuer,
    #[error("it has no moment of expiry (exp)")]
    Endless,
    #[error("it has expired (exp)")]
    Expired,
    #[error("it is not good yet (nbf, iat)")]
    Future,
    #[error("the issuer lists no key for it (kid, alg)")]
    NoKey,
    #[error("the issuer did not sign it")]
    Signature,
    #[error("it is for another audience (aud)")]
    Audience,
    #[error("its subject (sub) does not match")]
    Subject,
    #[error("another claim does not match its rule")]
    Claim,
}

/// A token, of which nothing is believed.
pub(super) struct Shown<'a> {
    text: &'a str,
    header: Header,
}

impl<'a> Shown<'a> {
    /// Reads a token, and checks what needs no key: that it says to be of this identity's issuer, is
    /// signed in a way that is believed, and is good now. No request is made for any other.
    pub(super) fn read(
        text: &'a str,
        identity: &FederatedIdentity,
        now: Timestamp,
    ) -> Result<Self, Rejected> {
        if text.len() > TOKEN_MAX {
            return Err(Rejected::Malformed);
        }
        let header = jsonwebtoken::decode_header(text).map_err(|error| {
            // `none`, and names that nobody knows.
            if is_signed_otherwise(text) {
                Rejected::Algorithm
            } else {
                drop(error);
                Rejected::Malformed
            }
        })?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(Rejected::Algorithm);
        }
        if header.crit.is_some() {
            return Err(Rejected::Critical);
        }
        let claims: Value =
            dangerous::insecure_decode_claims(text).map_err(|_| Rejected::Malformed)?;
        check_origin(&claims, identity, now)?;
        Ok(Self { text, header })
    }

    /// Whether it names its key.
    pub(super) fn names_key(&self) -> bool {
        self.header.kid.is_some()
    }

    /// Checks the signature with the issuer's keys, and every claim.
    pub(super) fn verify(
        &self,
        keys: &KeySet,
        identity: &FederatedIdentity,
        now: Timestamp,
    ) -> Result<(), Rejected> {
        let candidates = keys.candidates(self.header.kid.as_deref(), self.header.alg);
        if candidates.is_empty() {
            return Err(Rejected::NoKey);
        }
        let mut signature_only = Validation::new(self.header.alg);
        signature_only.required_spec_claims.clear();
        signature_only.validate_exp = false;
        signature_only.validate_nbf = false;
        signature_only.validate_aud = false;
        let claims = candidates
            .into_iter()
            .find_map(|key| jsonwebtoken::decode::<Value>(self.text, key, &signature_only).ok())
            .ok_or(Rejected::Signature)?
            .claims;
        check_origin(&claims, identity, now)?;
        check_claims(&claims, identity)
    }
}

/// Whether a text is a token whose header can be read, but for its algorithm.
fn is_signed_otherwise(text: &str) -> bool {
    let header = text.split('.').next().unwrap_or_default();
    data_encoding::BASE64URL_NOPAD
        .decode(header.as_bytes())
        .ok()
        .and_then(|header| serde_json::from_slice::<Value>(&header).ok())
        .is_some_and(|header| header["alg"].is_string())
}

/// Issuer and moments.
fn check_origin(
    claims: &Value,
    identity: &FederatedIdentity,
    now: Timestamp,
) -> Result<(), Rejected> {
    if claims["iss"].as_str() != Some(&identity.issuer) {
        return Err(Rejected::Issuer);
    }
    let expires = moment(&claims["exp"])?.ok_or(Rejected::Endless)?;
    if expires <= seconds(now - LEEWAY) {
        return Err(Rejected::Expired);
    }
    let latest = seconds(now + LEEWAY);
    for claim in ["nbf", "iat"] {
        if moment(&claims[claim])?.is_some_and(|moment| latest < moment) {
            return Err(Rejected::Future);
        }
    }
    Ok(())
}

/// Seconds since 1970, with a fraction where somebody writes one. Absent: the claim is.
fn moment(claim: &Value) -> Result<Option<f64>, Rejected> {
    match claim {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(number.as_f64()),
        _ => Err(Rejected::Malformed),
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds of all years that a timestamp has fit into 53 bits"
)]
fn seconds(moment: Timestamp) -> f64 {
    moment.as_second() as f64
}

fn check_claims(claims: &Value, identity: &FederatedIdentity) -> Result<(), Rejected> {
    let is_audience = |value: &Value| value.as_str() == Some(&identity.audience);
    let is_for_us = match &claims["aud"] {
        Value::Array(several) => several.iter().any(is_audience),
        one => is_audience(one),
    };
    if !is_for_us {
        return Err(Rejected::Audience);
    }
    let subject = claims["sub"].as_str();
    if !subject.is_some_and(|subject| rules::matches(&identity.subject, subject)) {
        return Err(Rejected::Subject);
    }
    let all_met = identity.custom_claim_rules.iter().all(|(path, pattern)| {
        ClaimPath::parse(path).is_some_and(|path| path.is_met(pattern, claims))
    });
    if all_met {
        Ok(())
    } else {
        Err(Rejected::Claim)
    }
}
