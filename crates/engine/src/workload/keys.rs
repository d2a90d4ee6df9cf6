//! The keys of an issuer, as its JWKS document lists them.
//!
//! Source: RFC 7517.

use jiff::Timestamp;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;

/// The most keys of a document that are looked at.
const KEYS_MAX: usize = 100;

/// Signatures that are believed. `none` is not one, and neither are those that are made with a shared
/// secret: their key would be the issuer's public one, which everybody has (RFC 8725, section 2.1).
pub(super) const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The keys of an issuer at a moment.
pub(super) struct KeySet {
    keys: Vec<Key>,
    /// When they were fetched.
    pub(super) fetched: Timestamp,
    /// Until when nobody asks for newer ones.
    pub(super) fresh_until: Timestamp,
}

struct Key {
    id: Option<String>,
    algorithm: Option<KeyAlgorithm>,
    kind: Kind,
    key: DecodingKey,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    const fn of(algorithm: Algorithm) -> Option<Self> {
        match algorithm {
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => Some(Self::Rsa),
            Algorithm::ES256 => Some(Self::P256),
            Algorithm::ES384 => Some(Self::P384),
            Algorithm::EdDSA => Some(Self::Ed25519),
            _ => None,
        }
    }
}

impl KeySet {
    /// Reads a JWKS document. Keys that are of no use here (for encryption, shared secrets, kinds that
    /// nobody here knows) are left out; an issuer may list such beside others. `None`: it is not one.
    pub(super) fn read(bytes: &[u8], fetched: Timestamp, fresh_until: Timestamp) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<serde_json::Value>,
        }
        let document: Document = serde_json::from_slice(bytes).ok()?;
        let keys = document.keys.into_iter().take(KEYS_MAX);
        Some(Self {
            keys: keys.filter_map(Key::read).collect(),
            fetched,
            fresh_until,
        })
    }

    /// The keys that may have made a signature. A token that names no key is for issuers that have one
    /// alone.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<&DecodingKey> {
        let fitting = self.keys.iter().filter(|key| key.fits(algorithm));
        let found: Vec<&DecodingKey> = fitting
            .filter(|key| id.is_none() || key.id.as_deref() == id)
            .map(|key| &key.key)
            .collect();
        if id.is_none() && found.len() > 1 {
            return Vec::new();
        }
        found
    }
}

impl Key {
    fn read(value: serde_json::Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value).ok()?;
        let for_signatures = matches!(
            jwk.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        );
        let kind = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => Kind::Rsa,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
                Kind::P256
            }
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => {
                Kind::P384
            }
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
                Kind::Ed25519
            }
            _ => return None,
        };
        for_signatures.then_some(())?;
        Some(Self {
            key: DecodingKey::from_jwk(&jwk).ok()?,
            id: jwk.common.key_id,
            algorithm: jwk.common.key_algorithm,
            kind,
        })
    }

    /// Whether it can have made signatures of an algorithm: of its kind, and the very one that its
    /// document names, if it names one.
    fn fits(&self, algorithm: Algorithm) -> bool {
        Kind::of(algorithm) == Some(self.kind)
            && self.algorithm.is_none_or(|named| named == algorithm.into())
    }
}
