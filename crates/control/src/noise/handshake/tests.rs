use proptest::prelude::*;

use super::*;
use crate::noise::vectors::{bytes, key};

const RESPOND: &str = include_str!("../vectors/respond.txt");
const INITIATE: &str = include_str!("../vectors/initiate.txt");

const SERVER: [u8; 32] = [0x51; 32];
const MACHINE: [u8; 32] = [0x37; 32];

fn initiator(version: u16) -> Initiator {
    Initiator::new(&MACHINE, &public_key(&SERVER).unwrap(), version).unwrap()
}

#[test]
fn the_second_implementation_is_answered_as_it_expects() {
    let responded = respond_with(
        &key(RESPOND, "server_secret"),
        &bytes(RESPOND, "initiation"),
        Some(&key(RESPOND, "responder_ephemeral")),
    )
    .unwrap();
    assert_eq!(responded.protocol_version, 141);
    assert_eq!(responded.machine_key, key(RESPOND, "machine_public"));
    assert_eq!(responded.reply.as_slice(), bytes(RESPOND, "reply"));
    assert_eq!(
        *responded.rx.expose(),
        key(RESPOND, "initiator_to_responder")
    );
    assert_eq!(
        *responded.tx.expose(),
        key(RESPOND, "responder_to_initiator")
    );
}

#[test]
fn the_second_implementation_is_addressed_as_it_expects() {
    let initiator = Initiator::new_with(
        &key(INITIATE, "machine_secret"),
        &key(INITIATE, "server_public"),
        113,
        Some(&key(INITIATE, "initiator_ephemeral")),
    )
    .unwrap();
    assert_eq!(
        initiator.initiation().as_slice(),
        bytes(INITIATE, "initiation")
    );
    let (tx, rx) = initiator.finish(&bytes(INITIATE, "reply")).unwrap();
    assert_eq!(*tx.expose(), key(INITIATE, "initiator_to_responder"));
    assert_eq!(*rx.expose(), key(INITIATE, "responder_to_initiator"));
}

#[test]
fn public_key_is_the_one_of_the_vectors() {
    let public = public_key(&key(RESPOND, "machine_secret")).unwrap();
    assert_eq!(public, key(RESPOND, "machine_public"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn both_sides_agree_on_keys_version_and_machine_key(
        server: [u8; 32],
        machine: [u8; 32],
        version: u16,
    ) {
        let initiator = Initiator::new(&machine, &public_key(&server)?, version)?;
        let responded = respond(&server, initiator.initiation())?;
        prop_assert_eq!(responded.protocol_version, version);
        prop_assert_eq!(responded.machine_key, public_key(&machine)?);
        let (tx, rx) = initiator.finish(&responded.reply)?;
        prop_assert_eq!(tx.expose(), responded.rx.expose());
        prop_assert_eq!(rx.expose(), responded.tx.expose());
        prop_assert_ne!(tx.expose(), rx.expose());
    }
}

#[test]
fn two_handshakes_have_different_keys() {
    let initiator = initiator(141);
    let first = respond(&SERVER, initiator.initiation()).unwrap();
    let second = respond(&SERVER, initiator.initiation()).unwrap();
    assert_ne!(first.tx.expose(), second.tx.expose());
    assert_ne!(first.reply, second.reply);
}

#[test]
fn every_changed_bit_of_an_initiation_is_refused() {
    let good = *initiator(141).initiation();
    for bit in 0..good.len() * 8 {
        let mut bad = good;
        bad[bit / 8] ^= 1 << (bit % 8);
        // X25519 ignores the top bit of a point, but the hash of the handshake does not.
        assert!(respond(&SERVER, &bad).is_err(), "bit {bit} is not covered");
    }
}

#[test]
fn every_changed_bit_of_a_reply_is_refused() {
    for bit in 0..REPLY_LEN * 8 {
        let initiator = initiator(141);
        let mut reply = respond(&SERVER, initiator.initiation()).unwrap().reply;
        reply[bit / 8] ^= 1 << (bit % 8);
        assert!(
            initiator.finish(&reply).is_err(),
            "bit {bit} is not covered"
        );
    }
}

#[test]
fn every_other_length_is_refused() {
    let good = *initiator(141).initiation();
    let long = [good.as_slice(), &[0]].concat();
    for length in (0..good.len()).chain([long.len()]) {
        let outcome = respond(&SERVER, &long[..length]);
        assert!(
            matches!(outcome, Err(HandshakeError::Malformed(_))),
            "length {length}"
        );
    }
}

#[test]
fn another_server_key_does_not_authenticate() {
    let outcome = respond(&[0x52; 32], initiator(141).initiation());
    assert!(matches!(outcome, Err(HandshakeError::Unauthentic)));
}

#[test]
fn points_of_low_order_are_refused() {
    // The points of order 1, 2, 4 and 8, and their forms that are not reduced; each also with the
    // top bit set, which X25519 ignores. Source: cr.yp.to/ecdh.html.
    let mut p_minus_1 = [0xFF; 32];
    (p_minus_1[0], p_minus_1[31]) = (0xEC, 0x7F);
    let (mut p, mut p_plus_1) = (p_minus_1, p_minus_1);
    (p[0], p_plus_1[0]) = (0xED, 0xEE);
    let mut one = [0; 32];
    one[0] = 1;
    let order_8 = |hex: &str| key(&format!("x = {hex}"), "x");
    let points = [
        [0; 32],
        one,
        order_8("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        order_8("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
        p_minus_1,
        p,
        p_plus_1,
    ];
    for mut point in points {
        for top in [0, 0x80] {
            point[31] |= top;
            let mut initiation = *initiator(141).initiation();
            initiation[5..37].copy_from_slice(&point);
            let outcome = respond(&SERVER, &initiation);
            assert!(
                matches!(outcome, Err(HandshakeError::LowOrder)),
                "ephemeral {point:x?}"
            );

            let outcome = Initiator::new(&MACHINE, &point, 141);
            assert!(
                matches!(outcome, Err(HandshakeError::LowOrder)),
                "server key {point:x?}"
            );

            let mut reply = [0; REPLY_LEN];
            reply[..3].copy_from_slice(&[2, 0, 48]);
            reply[3..35].copy_from_slice(&point);
            let outcome = self::initiator(141).finish(&reply);
            assert!(
                matches!(outcome, Err(HandshakeError::LowOrder)),
                "reply {point:x?}"
            );
        }
    }
}

#[test]
fn a_machine_key_of_low_order_is_refused() {
    // A client that names a key it cannot hold: only `ss` shows it. snow's own resolver lets the
    // client build such a message.
    let server_public = public_key(&SERVER).unwrap();
    let mut state = Builder::with_resolver(PATTERN.parse().unwrap(), Box::new(FakeStatic))
        .prologue(prologue(141).as_bytes())
        .and_then(|builder| builder.local_private_key(&MACHINE))
        .and_then(|builder| builder.remote_public_key(&server_public))
        .unwrap()
        .build_initiator()
        .unwrap();
    let mut initiation = [0; INITIATION_LEN];
    initiation[..5].copy_from_slice(&[0, 141, 1, 0, 96]);
    state.write_message(&[], &mut initiation[5..]).unwrap();
    let outcome = respond(&SERVER, &initiation);
    assert!(
        matches!(outcome, Err(HandshakeError::LowOrder)),
        "{outcome:?}"
    );
}

/// Algorithms of a client whose static key claims to be the zero point.
struct FakeStatic;

impl CryptoResolver for FakeStatic {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }
    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(ZeroPublic(DefaultResolver.resolve_dh(choice)?)))
    }
    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }
    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct ZeroPublic(Box<dyn Dh>);

impl Dh for ZeroPublic {
    fn name(&self) -> &'static str {
        self.0.name()
    }
    fn pub_len(&self) -> usize {
        self.0.pub_len()
    }
    fn priv_len(&self) -> usize {
        self.0.priv_len()
    }
    fn set(&mut self, privkey: &[u8]) {
        self.0.set(privkey);
    }
    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        self.0.generate(rng)
    }
    fn pubkey(&self) -> &[u8] {
        if self.0.privkey() == MACHINE {
            &[0; 32]
        } else {
            self.0.pubkey()
        }
    }
    fn privkey(&self) -> &[u8] {
        self.0.privkey()
    }
    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        self.0.dh(pubkey, out)
    }
}

#[test]
fn the_first_record_is_the_one_of_a_general_noise_library() {
    // With nonce zero the order of its bytes does not show, so snow's own transport is an oracle.
    let server_public = public_key(&SERVER).unwrap();
    let mut snow = Builder::new(PATTERN.parse().unwrap())
        .prologue(prologue(141).as_bytes())
        .and_then(|builder| builder.local_private_key(&MACHINE))
        .and_then(|builder| builder.remote_public_key(&server_public))
        .unwrap()
        .build_initiator()
        .unwrap();
    let mut initiation = [0; INITIATION_LEN];
    initiation[..5].copy_from_slice(&[0, 141, 1, 0, 96]);
    snow.write_message(&[], &mut initiation[5..]).unwrap();
    let responded = respond(&SERVER, &initiation).unwrap();
    snow.read_message(&responded.reply[3..], &mut []).unwrap();
    let mut snow = snow.into_transport_mode().unwrap();

    let mut sending = crate::noise::record::Direction::new(responded.tx);
    let mut record = Vec::new();
    sending
        .cipher()
        .unwrap()
        .seal(&mut record, |out| out.extend_from_slice(b"hello"))
        .unwrap();
    let mut plaintext = [0; 5];
    snow.read_message(&record[3..], &mut plaintext).unwrap();
    assert_eq!(&plaintext, b"hello");

    let mut ciphertext = [0; 21];
    snow.write_message(b"world", &mut ciphertext).unwrap();
    let mut receiving = crate::noise::record::Direction::new(responded.rx);
    assert_eq!(
        receiving.cipher().unwrap().open(&mut ciphertext).unwrap(),
        5
    );
    assert_eq!(&ciphertext[..5], b"world");
}

#[test]
fn an_error_frame_reaches_the_client_as_text() {
    let outcome = initiator(141).finish(&error_frame("client too old"));
    assert!(matches!(outcome, Err(HandshakeError::Refused(text)) if text == "client too old"));
}

#[test]
fn a_long_error_text_is_cut_between_characters() {
    let frame = error_frame(&format!("x{}", "é".repeat(600)));
    assert_eq!(&frame[..3], [3, 3, 0xFF]);
    assert_eq!(frame.len(), 3 + 1023);
    assert!(std::str::from_utf8(&frame[3..]).is_ok());
}

#[test]
fn keys_cannot_be_printed() {
    let responded = respond(&SERVER, initiator(141).initiation()).unwrap();
    let printed = format!("{responded:?}");
    assert!(
        printed.contains("tx: Key(…)") && printed.contains("rx: Key(…)"),
        "{printed}"
    );
}
