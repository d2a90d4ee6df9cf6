//! Sealing of secrets that the server itself must use again: the store holds them encrypted, with
//! a key that is kept outside the database and its backups.

use anyhow::{Context as _, Result, anyhow, bail};
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bowline_engine::{Random, SystemRandom};
use bowline_store::Store;
use zeroize::Zeroizing;

/// Seals and opens with one key.
pub struct Sealer(LessSafeKey);

impl Sealer {
    /// A sealer with a key of 32 random bytes.
    ///
    /// # Errors
    /// When the key has another length.
    pub fn new(key: &[u8]) -> Result<Self> {
        let key = UnboundKey::new(&AES_256_GCM, key)
            .map_err(|_| anyhow!("the seal key must be 32 bytes"))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    fn seal(&self, name: &str, secret: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom.fill(&mut nonce);
        let mut sealed = secret.to_vec();
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(name.as_bytes()),
                &mut sealed,
            )
            .map_err(|_| anyhow!("could not seal {name}"))?;
        Ok([&nonce[..], &sealed].concat())
    }

    fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = sealed
            .split_at_checked(NONCE_LEN)
            .with_context(|| format!("stored secret {name} is damaged"))?;
        let nonce = Nonce::try_assume_unique_for_key(nonce)
            .map_err(|_| anyhow!("stored secret {name} is damaged"))?;
        let mut secret = Zeroizing::new(sealed.to_vec());
        let length = match self
            .0
            .open_in_place(nonce, Aad::from(name.as_bytes()), &mut secret)
        {
            Ok(plain) => plain.len(),
            Err(_) => bail!(
                "the seal key does not open the database's secrets; use the key that this database was made with \
                 (file seal.key of its data directory, or the setting seal.key)"
            ),
        };
        secret.truncate(length);
        Ok(secret)
    }

    /// The 32 secret bytes of this name in the store; made if they are not there.
    ///
    /// # Errors
    /// When the store fails, or the key is another than the one that sealed them.
    pub async fn secret(&self, store: &Store, name: &str) -> Result<Zeroizing<[u8; 32]>> {
        let sealed = if let Some(sealed) = store.secret(name).await? {
            sealed
        } else {
            let mut fresh = Zeroizing::new([0; 32]);
            SystemRandom.fill(&mut *fresh);
            // Another process may have been first: then its secret counts.
            store
                .put_secret_if_absent(name, &self.seal(name, &*fresh)?)
                .await?
        };
        let secret = self.open(name, &sealed)?;
        let mut bytes = Zeroizing::new([0; 32]);
        if secret.len() != bytes.len() {
            bail!("stored secret {name} is damaged");
        }
        bytes.copy_from_slice(&secret);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_and_name_only() {
        let sealer = Sealer::new(&[1; 32]).unwrap();
        let sealed = sealer.seal("noise", b"secret").unwrap();
        assert_eq!(&**sealer.open("noise", &sealed).unwrap(), b"secret");
        assert!(sealer.open("relay", &sealed).is_err());
        assert!(
            Sealer::new(&[2; 32])
                .unwrap()
                .open("noise", &sealed)
                .is_err()
        );
        assert!(sealer.open("noise", &sealed[..5]).is_err());
    }
}
