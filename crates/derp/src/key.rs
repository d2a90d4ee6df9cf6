//! The keys of relay clients and of the relay itself.
//!
//! Both are X25519; public halves are [`NodeKey`] throughout, the relay's own included, as the
//! official clients have it.

use std::fmt;

use bowline_model::key::NodeKey;

/// Length of a public key on the wire in bytes.
pub(crate) const KEY_LEN: usize = 32;

/// 64 lower-case hex digits, as the `Derp-Public-Key` header has a key.
pub(crate) fn hex(key: &NodeKey) -> String {
    key.to_string().trim_start_matches("nodekey:").to_owned()
}

/// An X25519 pair: the relay's, or that of a client made by [`crate::client`].
///
/// It is wiped when dropped and neither prints nor serialises its secret half.
#[derive(Clone)]
pub struct SecretKey(crypto_box::SecretKey);

impl SecretKey {
    /// Takes the 32 secret bytes. They need not be clamped.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(crypto_box::SecretKey::from(bytes))
    }

    /// The public half.
    #[expect(
        clippy::missing_panics_doc,
        clippy::expect_used,
        reason = "X25519 clamps the secret half, and no clamped number times the base point is zero"
    )]
    pub fn public(&self) -> NodeKey {
        NodeKey::from_bytes(*self.0.public_key().as_bytes()).expect("a public key is not zero")
    }

    pub(crate) fn with_peer(&self, peer: &NodeKey) -> crypto_box::SalsaBox {
        crypto_box::SalsaBox::new(&crypto_box::PublicKey::from(*peer.as_bytes()), &self.0)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}
