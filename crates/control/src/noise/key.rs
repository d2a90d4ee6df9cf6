//! The key of one direction of a channel.

use std::fmt;

use zeroize::Zeroize as _;

/// Key of one direction of a channel: 32 bytes for ChaCha20-Poly1305, good for one connection.
///
/// It cannot be printed, compared or copied, and is wiped when dropped.
pub struct Key([u8; 32]);

impl Key {
    /// Takes over the raw bytes of a key.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes, for the cipher.
    pub(super) const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}
