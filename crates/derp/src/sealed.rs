//! NaCl boxes (X25519, XSalsa20, Poly1305) of the handshake: a 24-byte nonce, then the box.

use bowline_model::key::NodeKey;
use crypto_box::aead::Aead as _;

use crate::{
    entropy::{Entropy, NoEntropy},
    key::SecretKey,
};

/// Length of the nonce in front of a box, in bytes.
pub const NONCE_LEN: usize = 24;
/// What sealing adds to a text, in bytes: the nonce and the authenticator.
pub const OVERHEAD: usize = NONCE_LEN + 16;

/// A box that does not open: not made by the holder of the named key for this receiver, or altered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("box does not open with the sender's key")]
pub struct NotOpened;

/// Seals `text` from `secret` to `peer`, the nonce in front.
///
/// # Errors
/// When the source of randomness gave nothing.
pub fn seal(
    secret: &SecretKey,
    peer: &NodeKey,
    text: &[u8],
    entropy: &Entropy,
) -> Result<Vec<u8>, NoEntropy> {
    let mut nonce = [0; NONCE_LEN];
    entropy.fill(&mut nonce)?;
    Ok(seal_with_nonce(secret, peer, text, nonce))
}

/// As [`seal`] with a nonce of the caller's choice, which must never repeat for a pair of keys.
pub(crate) fn seal_with_nonce(
    secret: &SecretKey,
    peer: &NodeKey,
    text: &[u8],
    nonce: [u8; NONCE_LEN],
) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(text.len() + OVERHEAD);
    sealed.extend_from_slice(&nonce);
    // XSalsa20 takes 2^70 bytes under one nonce, so sealing a text that fits in memory cannot fail;
    // were it to, an empty box is sent, which no receiver opens.
    if let Ok(body) = secret.with_peer(peer).encrypt(&nonce.into(), text) {
        sealed.extend_from_slice(&body);
    }
    sealed
}

/// Opens what [`seal`] made.
///
/// # Errors
/// When it is shorter than a nonce and an authenticator, or was not sealed by `peer` for `secret`.
pub fn open(secret: &SecretKey, peer: &NodeKey, sealed: &[u8]) -> Result<Vec<u8>, NotOpened> {
    let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(NotOpened)?;
    secret
        .with_peer(peer)
        .decrypt(&(*nonce).into(), body)
        .map_err(|_| NotOpened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{key::hex, testing::unhex};

    fn key(hex: &str) -> [u8; 32] {
        unhex(hex).try_into().unwrap()
    }

    /// The example that NaCl and libsodium ship as `tests/box.c` and `tests/box2.c`.
    #[test]
    fn the_published_nacl_example_seals_and_opens_byte_for_byte() {
        let alice = SecretKey::from_bytes(key(
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        ));
        let bob = SecretKey::from_bytes(key(
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        ));
        assert_eq!(
            hex(&alice.public()),
            "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
        );
        assert_eq!(
            hex(&bob.public()),
            "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
        );
        let nonce = unhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let text = unhex(
            "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc\
             e5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb31\
             0e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde\
             048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f93776384864\
             5e0705",
        );
        let boxed = unhex(
            "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce\
             48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c972\
             71d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae\
             90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b3\
             7973f622a43d14a6599b1f654cb45a74e355a5",
        );
        let sealed = seal_with_nonce(
            &alice,
            &bob.public(),
            &text,
            nonce.clone().try_into().unwrap(),
        );
        assert_eq!(sealed, [nonce, boxed].concat());
        assert_eq!(open(&bob, &alice.public(), &sealed).unwrap(), text);
    }

    #[test]
    fn an_altered_short_or_foreign_box_does_not_open() {
        let [a, b, c] = [[1; 32], [2; 32], [3; 32]].map(SecretKey::from_bytes);
        let sealed = seal(&a, &b.public(), b"text", &Entropy::system()).unwrap();
        assert_eq!(open(&b, &a.public(), &sealed).unwrap(), b"text");
        assert_eq!(open(&b, &c.public(), &sealed), Err(NotOpened));
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert_eq!(open(&b, &a.public(), &altered), Err(NotOpened), "byte {at}");
            assert_eq!(
                open(&b, &a.public(), &sealed[..at]),
                Err(NotOpened),
                "length {at}"
            );
        }
    }

    #[test]
    fn two_boxes_of_one_text_differ() {
        let (a, b) = (
            SecretKey::from_bytes([1; 32]),
            SecretKey::from_bytes([2; 32]).public(),
        );
        let seal = || seal(&a, &b, b"text", &Entropy::system()).unwrap();
        assert_ne!(seal(), seal());
    }

    #[test]
    fn without_randomness_nothing_is_sealed() {
        let (a, b) = (
            SecretKey::from_bytes([1; 32]),
            SecretKey::from_bytes([2; 32]).public(),
        );
        let dry = Entropy::from_fn(|_| Err(NoEntropy));
        assert_eq!(seal(&a, &b, b"text", &dry), Err(NoEntropy));
    }
}
