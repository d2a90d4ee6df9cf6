//! The keys of a simulated client.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use anyhow::Context as _;
use bowline_control::noise::handshake;

/// The keys of one simulated device.
///
/// Only the machine key has a secret half: the server sees no proof of the others, so they are
/// arbitrary bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    machine_secret: [u8; 32],
    /// The node key, as in `nodekey:…`.
    pub node_key: [u8; 32],
    /// The disco key, as in `discokey:…`.
    pub disco_key: [u8; 32],
}

impl Identity {
    /// Keys that are the same for the same number and different for another.
    pub fn numbered(number: u64) -> Self {
        Self::of_group([0; 16], number)
    }

    /// Keys that are the same for the same group and number and different for any other.
    pub fn of_group(group: [u8; 16], number: u64) -> Self {
        // The number of a machine key is not in its last byte: X25519 sets two bits of that, and
        // every 64th number would have the same one.
        let key = |kind: u8, at: usize| {
            let mut key = [kind; 32];
            key[..16].copy_from_slice(&group);
            key[at..at + 8].copy_from_slice(&number.to_be_bytes());
            key
        };
        Self {
            machine_secret: key(0x4D, 16),
            node_key: key(0x4E, 24),
            disco_key: key(0x44, 24),
        }
    }

    /// New keys.
    ///
    /// # Errors
    /// When the operating system has no randomness.
    pub fn random() -> anyhow::Result<Self> {
        let mut group = [0; 16];
        getrandom::fill(&mut group).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        Ok(Self::of_group(group, 0))
    }

    /// The same device with another node key, as after `tailscale up --force-reauth`.
    #[must_use]
    pub fn with_node_key(&self, node_key: [u8; 32]) -> Self {
        Self {
            node_key,
            ..self.clone()
        }
    }

    /// The secret half of the machine key.
    pub const fn machine_secret(&self) -> &[u8; 32] {
        &self.machine_secret
    }

    /// `mkey:…`
    ///
    /// # Errors
    /// Only when the cryptographic library fails.
    pub fn machine_key_text(&self) -> anyhow::Result<String> {
        Ok(text("mkey", &handshake::public_key(&self.machine_secret)?))
    }

    /// `nodekey:…`
    pub fn node_key_text(&self) -> String {
        text("nodekey", &self.node_key)
    }

    /// `discokey:…`
    pub fn disco_key_text(&self) -> String {
        text("discokey", &self.disco_key)
    }
}

/// The text form of a key.
pub(super) fn text(prefix: &str, key: &[u8; 32]) -> String {
    format!("{prefix}:{}", HEXLOWER.encode(key))
}

/// The 32 bytes of a key in its text form.
pub(super) fn parse_key(text: &str, prefix: &str) -> anyhow::Result<[u8; 32]> {
    let digits = text
        .strip_prefix(prefix)
        .with_context(|| format!("not a key with prefix {prefix}"))?;
    let key = HEXLOWER_PERMISSIVE.decode(digits.as_bytes())?;
    key.try_into()
        .map_err(|_| anyhow::anyhow!("not a key of 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_text_is_read_back() {
        let identity = Identity::numbered(7);
        let read = parse_key(&identity.node_key_text(), "nodekey:").unwrap();
        assert_eq!(read, identity.node_key);
        parse_key(&identity.node_key_text(), "mkey:").unwrap_err();
        parse_key("nodekey:00", "nodekey:").unwrap_err();
    }

    #[test]
    fn numbers_and_groups_give_different_keys() {
        let keys = [
            Identity::numbered(1),
            Identity::numbered(2),
            Identity::numbered(1 + 64), // X25519 would not tell these apart in its last byte
            Identity::of_group([1; 16], 1),
            Identity::random().unwrap(),
        ];
        for (index, one) in keys.iter().enumerate() {
            for other in &keys[..index] {
                assert_ne!(
                    one.machine_key_text().unwrap(),
                    other.machine_key_text().unwrap()
                );
                assert_ne!(one.node_key, other.node_key);
            }
        }
    }
}
