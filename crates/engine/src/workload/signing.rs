//! The keys that this server signs its own tokens with.
//!
//! There is one for each period of thirty days, made when it is first needed and sealed in the database,
//! where the first process that makes it decides for all. The one of the next period is made and listed
//! a period ahead, so that whoever keeps the list knows a key before it signs; the one of the last
//! period is listed until the present one ends, though its tokens are good for minutes. Older keys are
//! listed nowhere, and good for nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use bowline_store::{Owner, SealError, Sealer};
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::core::engine::Engine;
use crate::core::failure::StoreFailure;

/// The one algorithm that every consumer knows: OpenID Connect Discovery 1.0, section 3, demands it.
const ALGORITHM: Algorithm = Algorithm::RS256;
/// How long a key signs.
const PERIOD_SECONDS: i64 = 30 * 24 * 3600;

/// A key with its public half.
pub(super) struct SigningKey {
    private: EncodingKey,
    public: Jwk,
}

/// The keys that this process has opened, by period.
#[derive(Default)]
struct Opened {
    keys: Mutex<HashMap<i64, Arc<SigningKey>>>,
    /// Held while one is made: it takes a good part of a second.
    making: tokio::sync::Mutex<()>,
}

impl SigningKey {
    /// Reads a private key: PKCS #1.
    fn read(der: &[u8]) -> Option<Self> {
        let private = EncodingKey::from_rsa_der(der);
        let mut public = Jwk::from_encoding_key(&private, ALGORITHM).ok()?;
        public.common.key_id = Some(public.thumbprint(ThumbprintHash::SHA256).ok()?);
        public.common.public_key_use = Some(PublicKeyUse::Signature);
        Some(Self { private, public })
    }

    /// Signs claims.
    pub(super) fn sign(&self, claims: &impl Serialize) -> Option<String> {
        let mut header = Header::new(ALGORITHM);
        header.kid.clone_from(&self.public.common.key_id);
        jsonwebtoken::encode(&header, claims, &self.private).ok()
    }
}

impl Engine {
    /// The public keys of the tokens that this server signs: a JWKS document.
    ///
    /// # Errors
    /// When a key cannot be read or made.
    pub async fn signing_keys(&self) -> Result<Value, StoreFailure> {
        let period = period(self.now());
        let mut keys = Vec::new();
        for (period, is_made) in [(period - 1, false), (period, true), (period + 1, true)] {
            if let Some(key) = self.key_of(period, is_made).await? {
                keys.push(key.public.clone());
            }
        }
        Ok(json!({"keys": keys}))
    }

    /// The key that signs now.
    pub(super) async fn signing_key(&self) -> Result<Arc<SigningKey>, StoreFailure> {
        let key = self.key_of(period(self.now()), true).await?;
        key.ok_or(StoreFailure::Defect("a signing key was not made"))
    }

    async fn key_of(
        &self,
        period: i64,
        is_made: bool,
    ) -> Result<Option<Arc<SigningKey>>, StoreFailure> {
        let opened: Arc<Opened> = self.0.memory.get(Opened::default);
        let known = || {
            let keys = opened.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.get(&period).cloned()
        };
        if let Some(key) = known() {
            return Ok(Some(key));
        }
        let _making = opened.making.lock().await;
        if let Some(key) = known() {
            return Ok(Some(key));
        }
        let sealer = self.settings().sealer.clone();
        let sealer = sealer.ok_or(StoreFailure::Defect("there is nothing to seal keys with"))?;
        let name = format!("id-token-{period}");
        let store = &self.0.store;
        let stored = store.secret(Owner::Server, &name).await;
        let sealed = match stored.map_err(StoreFailure::of_reading)? {
            Some(sealed) => sealed,
            None if is_made => {
                let sealed = self.sealed_key(&sealer, &name).await?;
                let put = store.put_secret_if_absent(Owner::Server, &name, &sealed);
                put.await.map_err(StoreFailure::of_reading)?
            }
            None => return Ok(None),
        };
        let der = sealer.open(Owner::Server, &name, &sealed);
        let der = der.map_err(|error| match error {
            SealError::WrongKey => StoreFailure::Defect("another seal key sealed a signing key"),
            _ => StoreFailure::Defect("a stored signing key is damaged"),
        })?;
        let key = SigningKey::read(&der);
        let key = Arc::new(key.ok_or(StoreFailure::Defect("a stored signing key is damaged"))?);
        let mut keys = opened.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|kept, _| period - 2 <= *kept);
        keys.insert(period, key.clone());
        Ok(Some(key))
    }

    async fn sealed_key(&self, sealer: &Sealer, name: &str) -> Result<Vec<u8>, StoreFailure> {
        // The library's own random source: it takes no other one.
        let made = tokio::task::spawn_blocking(make).await;
        let der = made
            .ok()
            .flatten()
            .ok_or(StoreFailure::Defect("a signing key cannot be made"))?;
        let mut nonce = [0; 12];
        self.0.random.fill(&mut nonce);
        sealer
            .seal(Owner::Server, name, &der, nonce)
            .map_err(|_| StoreFailure::Defect("a signing key cannot be sealed"))
    }
}

fn period(now: Timestamp) -> i64 {
    now.as_second().div_euclid(PERIOD_SECONDS)
}

/// A new private key: PKCS #1.
fn make() -> Option<Zeroizing<Vec<u8>>> {
    let pair = KeyPair::generate(KeySize::Rsa2048).ok()?;
    let pkcs8 = pair.as_der().ok()?;
    rsa_private_key(pkcs8.as_ref()).map(|der| Zeroizing::new(der.to_vec()))
}

/// The RSA private key inside of a PKCS #8 document, which is what one library writes and the other does
/// not read.
///
/// Source: RFC 5958, section 2: version, algorithm, and the key as an octet string.
fn rsa_private_key(pkcs8: &[u8]) -> Option<&[u8]> {
    const INTEGER: u8 = 0x02;
    const OCTET_STRING: u8 = 0x04;
    const SEQUENCE: u8 = 0x30;
    let (document, _) = element(pkcs8, SEQUENCE)?;
    let (_, rest) = element(document, INTEGER)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    element(rest, OCTET_STRING).map(|(key, _)| key)
}

/// The content of a DER element of this kind, and what follows it.
fn element(bytes: &[u8], kind: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = if length < 0x80 {
        (usize::from(length), rest)
    } else {
        let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
        if digits.len() > 4 {
            return None;
        }
        let length = digits
            .iter()
            .fold(0, |length, digit| length << 8 | usize::from(*digit));
        (length, rest)
    };
    (first == kind).then_some(())?;
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_signs_what_its_public_half_verifies() {
        let key = SigningKey::read(&make().unwrap()).unwrap();
        let token = key.sign(&json!({"sub": "laptop"})).unwrap();
        let public = jsonwebtoken::DecodingKey::from_jwk(&key.public).unwrap();
        let mut validation = jsonwebtoken::Validation::new(ALGORITHM);
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        let read = jsonwebtoken::decode::<Value>(&token, &public, &validation).unwrap();
        assert_eq!(read.claims["sub"], "laptop");
        assert_eq!(read.header.kid, key.public.common.key_id);
        let listed = serde_json::to_value(&key.public).unwrap();
        let mut members: Vec<_> = listed.as_object().unwrap().keys().collect();
        members.sort();
        assert_eq!(members, ["alg", "e", "kid", "kty", "n", "use"]);
    }

    #[test]
    fn a_document_that_is_cut_off_has_no_key() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 5],
            &[0x30, 0x85, 1, 1, 1, 1, 1],
            &[0x31, 0],
        ] {
            assert_eq!(rsa_private_key(bytes), None);
        }
    }
}
