//! Sealing of secrets that the server itself must use again: the database holds them encrypted,
//! with a key that is kept outside of it and of its backups.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::owner::Owner;
use crate::store::Store;

/// Seals and opens with one key. Cheap to clone.
#[derive(Clone)]
pub struct Sealer(Arc<LessSafeKey>);

/// Says nothing of the key.
impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// Why a secret could not be sealed or opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SealError {
    /// The key has another length.
    #[error("the seal key must be 32 bytes")]
    KeyLength,
    /// It is longer than the cipher takes, which is gigabytes.
    #[error("secret {0} is too long to be sealed")]
    TooLong(String),
    /// It was sealed with another key, under another name, or for another owner.
    #[error(
        "the seal key does not open the database's secrets; use the key that this database was made \
         with (file seal.key of its data directory, or the setting seal.key)"
    )]
    WrongKey,
    /// It is not what was stored.
    #[error("stored secret {0} is damaged")]
    Damaged(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] Error),
}

impl Sealer {
    /// A sealer with a key of 32 random bytes.
    ///
    /// # Errors
    /// When the key has another length.
    pub fn new(key: &[u8]) -> Result<Self, SealError> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError::KeyLength)?;
        Ok(Self(Arc::new(LessSafeKey::new(key))))
    }

    /// Seals a secret for a place: it opens only under this name of this owner. `nonce` is random,
    /// another one for each call.
    ///
    /// # Errors
    /// When the secret is too long.
    pub fn seal(
        &self,
        owner: impl Into<Owner>,
        name: &str,
        secret: &[u8],
        nonce: [u8; NONCE_LEN],
    ) -> Result<Vec<u8>, SealError> {
        let mut sealed = secret.to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                place(owner.into(), name),
                &mut sealed,
            )
            .map_err(|_| SealError::TooLong(name.to_owned()))?;
        Ok([&nonce[..], &sealed].concat())
    }

    /// Opens what [`Sealer::seal`] made for this place.
    ///
    /// # Errors
    /// When it was sealed with another key or for another place, or is damaged.
    pub fn open(
        &self,
        owner: impl Into<Owner>,
        name: &str,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let damaged = || SealError::Damaged(name.to_owned());
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN).ok_or_else(damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| damaged())?;
        let mut secret = Zeroizing::new(sealed.to_vec());
        let opened = self
            .0
            .open_in_place(nonce, place(owner.into(), name), &mut secret);
        let length = opened.map_err(|_| SealError::WrongKey)?.len();
        secret.truncate(length);
        Ok(secret)
    }

    /// The server's 32 secret bytes of this name in the store; made if they are not there. Whoever
    /// is first decides, and all others get the same. `random` fills with random bytes.
    ///
    /// # Errors
    /// When the store fails, or the key is another than the one that sealed them.
    pub async fn secret(
        &self,
        store: &Store,
        name: &str,
        random: impl Fn(&mut [u8]),
    ) -> Result<Zeroizing<[u8; 32]>, SealError> {
        let sealed = if let Some(sealed) = store.secret(Owner::Server, name).await? {
            sealed
        } else {
            let mut fresh = Zeroizing::new([0; 32]);
            let mut nonce = [0; NONCE_LEN];
            random(&mut *fresh);
            random(&mut nonce);
            let sealed = self.seal(Owner::Server, name, &*fresh, nonce)?;
            store
                .put_secret_if_absent(Owner::Server, name, &sealed)
                .await?
        };
        let secret = self.open(Owner::Server, name, &sealed)?;
        let mut bytes = Zeroizing::new([0; 32]);
        if secret.len() != bytes.len() {
            return Err(SealError::Damaged(name.to_owned()));
        }
        bytes.copy_from_slice(&secret);
        Ok(bytes)
    }
}

/// What a sealed secret is bound to: whoever can write to the database cannot put one tailnet's
/// secret in the place of another's.
fn place(owner: Owner, name: &str) -> Aad<Vec<u8>> {
    Aad::from([&owner.get().to_be_bytes(), name.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use bowline_model::id::TailnetId;

    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_place_only() {
        let sealer = Sealer::new(&[1; 32]).unwrap();
        let sealed = sealer
            .seal(Owner::Server, "noise", b"secret", [3; NONCE_LEN])
            .unwrap();
        let opened = sealer.open(Owner::Server, "noise", &sealed).unwrap();
        assert_eq!(&**opened, b"secret");
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
        let tailnet = TailnetId::new(1).unwrap();
        for outcome in [
            sealer.open(Owner::Server, "relay", &sealed),
            sealer.open(tailnet, "noise", &sealed),
            Sealer::new(&[2; 32])
                .unwrap()
                .open(Owner::Server, "noise", &sealed),
        ] {
            assert!(matches!(outcome, Err(SealError::WrongKey)));
        }
        let cut = sealer.open(Owner::Server, "noise", &sealed[..5]);
        assert!(matches!(cut, Err(SealError::Damaged(_))));
        assert!(matches!(Sealer::new(&[1; 31]), Err(SealError::KeyLength)));
    }
}
