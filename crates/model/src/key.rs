//! The protocol's public keys: 32 bytes, written as a prefix and 64 lower-case hexadecimal digits.
//!
//! 32 zero bytes mean "none" in the protocol. No value here is that: a place where a key may be
//! missing is an `Option`, and a zero key in any other place is refused where it is read.
//!
//! Source: `docs/protocol/control-protocol.md`, section 3 (ts-go `types/key/`).

use std::fmt;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Another prefix, or none.
    #[error("key does not start with {0:?}")]
    Prefix(&'static str),
    /// Not exactly 64 hexadecimal digits.
    #[error("key is not 64 hexadecimal digits")]
    Hex,
    /// The zero key, which means "none", where there must be one.
    #[error("key is zero, which means none")]
    Zero,
}

fn parse_hex(text: &str) -> Result<[u8; 32], KeyError> {
    if text.len() != 64 {
        return Err(KeyError::Hex);
    }
    let mut out = [0u8; 32];
    HEXLOWER_PERMISSIVE
        .decode_mut(text.as_bytes(), &mut out)
        .map_err(|_| KeyError::Hex)?;
    Ok(out)
}

macro_rules! key {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The first key in the order of the bytes.
            pub const MIN: Self = {
                let mut bytes = [0; 32];
                bytes[31] = 1;
                Self(bytes)
            };

            /// Wraps 32 raw bytes; `None` for 32 zeros.
            pub fn from_bytes(bytes: [u8; 32]) -> Option<Self> {
                (bytes != [0; 32]).then_some(Self(bytes))
            }

            /// The 32 raw bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = [0u8; 64];
                f.write_str($prefix)?;
                f.write_str(HEXLOWER.encode_mut_str(&self.0, &mut text))
            }
        }

        impl fmt::Debug for $name {
            /// The prefix and eight digits: enough to tell keys apart in a log.
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:02x}{:02x}{:02x}{:02x}…"), self.0[0], self.0[1], self.0[2], self.0[3])
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                let digits = text.strip_prefix($prefix).ok_or(KeyError::Prefix($prefix))?;
                Self::from_bytes(parse_hex(digits)?).ok_or(KeyError::Zero)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

key!(
    /// Public half of a client installation's Noise key; also the server's own (`mkey:`). One
    /// machine key may carry devices of several users and several tailnets.
    MachineKey,
    "mkey:"
);
key!(
    /// Public half of a device's WireGuard key (`nodekey:`). Unique in the whole server, and bound
    /// to the machine key that registered it.
    NodeKey,
    "nodekey:"
);
key!(
    /// Public half of a device's path discovery key (`discokey:`). It changes whenever the client
    /// restarts.
    DiscoKey,
    "discokey:"
);

key!(
    /// Public half of a device's tailnet lock key (`nlpub:`). Opaque: the official Rust client makes
    /// up one of another kind.
    LockKey,
    "nlpub:"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_and_hexadecimal_case_does_not_matter() {
        let text = format!("nodekey:{}", "0aF1".repeat(16));
        let key: NodeKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text.to_lowercase());
        assert_eq!(
            serde_json::from_str::<NodeKey>(&format!("\"{text}\"")).unwrap(),
            key
        );
    }

    #[test]
    fn no_value_is_the_zero_key() {
        let zero = format!("nodekey:{}", "0".repeat(64));
        assert_eq!(zero.parse::<NodeKey>(), Err(KeyError::Zero));
        assert_eq!(NodeKey::from_bytes([0; 32]), None);
        assert!(serde_json::from_str::<NodeKey>(&format!("\"{zero}\"")).is_err());
    }

    #[test]
    fn other_prefixes_and_lengths_are_refused() {
        let digits = "ab".repeat(32);
        assert_eq!(
            format!("mkey:{digits}").parse::<NodeKey>(),
            Err(KeyError::Prefix("nodekey:"))
        );
        assert_eq!(
            format!("nodekey:{}", &digits[1..]).parse::<NodeKey>(),
            Err(KeyError::Hex)
        );
        assert_eq!(
            format!("nodekey:{}é", &digits[2..]).parse::<NodeKey>(),
            Err(KeyError::Hex)
        );
    }
}
