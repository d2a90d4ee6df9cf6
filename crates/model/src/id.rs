//! Ids of tailnets, users, devices, credentials, and of what waits.
//!
//! Every id is a positive integer below 2^53 (it must survive JavaScript and the clients' JSON),
//! never reused, and unique in the whole server for its kind. Each has two visible forms: decimal
//! digits (the API's legacy `id`, the protocol's integers) and the stable form: a letter, base 58,
//! and `CNTRL`. Both carry the same number, so looking one up needs no second index.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Ids are below this: the largest integer that JSON readers keep exactly.
pub const LIMIT: u64 = 1 << 53;
const SUFFIX: &str = "CNTRL";

fn encode(number: u64) -> String {
    let bytes = number.to_be_bytes();
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bs58::encode(&bytes[zeros..]).into_string()
}

fn decode(text: &str) -> Option<u64> {
    if text.is_empty() || text.len() > 10 || text.starts_with('1') {
        return None; // a leading zero digit would be a second spelling of the same id
    }
    let mut bytes = [0; 8]; // ten digits are less than 2^64
    let length = bs58::decode(text).onto(&mut bytes[..]).ok()?;
    let number = bytes[..length]
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte));
    (number < LIMIT).then_some(number)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name(u64);

        impl $name {
            /// The smallest id.
            pub const MIN: Self = Self(1);
            /// The largest id.
            pub const MAX: Self = Self(LIMIT - 1);

            /// Wraps a number. `None` for zero and for 2^53 and above.
            pub const fn new(number: u64) -> Option<Self> {
                if number == 0 || number >= LIMIT { None } else { Some(Self(number)) }
            }

            /// The number, 1 to 2^53 - 1.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The stable form: a letter, the number in base 58, and `CNTRL`.
            pub fn stable(self) -> String {
                format!(concat!($letter, "{}", "CNTRL"), encode(self.0))
            }

            /// Reads either visible form. `None` when the text is neither, so that callers answer
            /// as for an id that does not exist.
            pub fn parse(text: &str) -> Option<Self> {
                if let Some(inner) = text.strip_prefix($letter).and_then(|t| t.strip_suffix(SUFFIX)) {
                    return decode(inner).and_then(Self::new);
                }
                if text.starts_with('0') || !text.bytes().all(|b| b.is_ascii_digit()) {
                    return None;
                }
                text.parse().ok().and_then(Self::new)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl From<$name> for u64 {
            fn from(id: $name) -> u64 {
                id.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = OutOfRange;

            fn try_from(number: u64) -> Result<Self, OutOfRange> {
                Self::new(number).ok_or(OutOfRange(number))
            }
        }
    };
}

/// A number that is not an id: zero, or 2^53 and above.
#[derive(Debug, thiserror::Error)]
#[error("{0} is not an id: ids are 1 to 2^53 - 1")]
pub struct OutOfRange(pub u64);

id!(
    /// One private network. Stable form `T…CNTRL`.
    TailnetId,
    "T"
);
id!(
    /// A user of one tailnet. Stable form `u…CNTRL`.
    UserId,
    "u"
);
id!(
    /// A device: the protocol's `NodeID`; its stable form `n…CNTRL` is the protocol's
    /// `StableNodeID` and the API's `nodeId`.
    DeviceId,
    "n"
);
id!(
    /// A credential: auth key, API access token, OAuth client. Stable form `k…CNTRL`.
    KeyId,
    "k"
);
id!(
    /// A login that waits to be confirmed. It is never shown: people know its code.
    WaitingLoginId,
    "l"
);
id!(
    /// An SSH session that waits to be confirmed. It is never shown: people know its code.
    WaitingSessionId,
    "s"
);
id!(
    /// A webhook endpoint. Stable form `w…CNTRL`.
    WebhookId,
    "w"
);
id!(
    /// An event that webhook endpoints are to be told of, or one that an endpoint was not told. Stable
    /// form `e…CNTRL`.
    NoticeId,
    "e"
);
id!(
    /// An SSH session that was confirmed. It is never shown.
    ConfirmedSessionId,
    "c"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn both_forms_read_back_to_the_same_id(number in 1..LIMIT) {
            let id = DeviceId::new(number).unwrap();
            prop_assert_eq!(DeviceId::parse(&id.stable()), Some(id));
            prop_assert_eq!(DeviceId::parse(&id.to_string()), Some(id));
            prop_assert_eq!(UserId::parse(&id.stable()), None);
        }

        #[test]
        fn any_text_that_parses_is_one_of_the_two_forms(text in "[n0-9a-zA-Z]{0,20}") {
            if let Some(id) = DeviceId::parse(&text) {
                prop_assert!(id.stable() == text || id.to_string() == text);
            }
        }
    }

    #[test]
    fn zero_and_large_numbers_are_not_ids() {
        assert_eq!(DeviceId::new(0), None);
        assert_eq!(DeviceId::new(LIMIT), None);
        assert_eq!(DeviceId::parse("0"), None);
        assert_eq!(DeviceId::parse("n1CNTRL"), None);
        assert_eq!(DeviceId::parse(""), None);
        assert_eq!(DeviceId::parse("nCNTRL"), None);
    }
}
