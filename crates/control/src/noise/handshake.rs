//! Noise IK: the client proves its machine key and both sides get a key for each direction.
//!
//! The client sends an *initiation* in a header of the upgrade request, the server answers with a
//! *reply* as the first bytes after the 101. Both have an empty payload, so each key of the
//! handshake is used once with nonce zero, which is why `snow` fits here although it does not fit
//! the records.

use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};

use super::key::Key;

/// Length of an initiation in bytes, header included.
pub const INITIATION_LEN: usize = INITIATION_HEADER_LEN + INITIATION_BODY_LEN;
/// Length of a reply in bytes, header included.
pub const REPLY_LEN: usize = FRAME_HEADER_LEN + REPLY_BODY_LEN;

const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
const PROLOGUE: &str = "Tailscale Control Protocol v";

const INITIATION_HEADER_LEN: usize = 5;
const INITIATION_BODY_LEN: usize = 96;
const FRAME_HEADER_LEN: usize = 3;
const REPLY_BODY_LEN: usize = 48;

/// Type and u16 big-endian body length.
const INITIATION_FRAME: [u8; FRAME_HEADER_LEN] = [1, 0, 96];
const REPLY_FRAME: [u8; FRAME_HEADER_LEN] = [2, 0, 48];
const TYPE_ERROR: u8 = 3;

/// Why a handshake came to nothing. No message holds bytes of a key or of the handshake.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The message has the wrong length, type or declared length.
    #[error("malformed handshake message: {0}")]
    Malformed(&'static str),
    /// The message does not decrypt: other server key, other protocol version, or tampered with.
    #[error("handshake message does not authenticate; is the client using this server's key?")]
    Unauthentic,
    /// A public key of the peer is a point of low order, which would make the secret predictable.
    #[error("handshake uses a public key of low order")]
    LowOrder,
    /// The server answered with an error frame. The text is the peer's own: do not trust it.
    #[error("server refused the handshake: {0}")]
    Refused(String),
    /// The library failed in a way that depends on no input, such as no randomness.
    #[error("handshake failed inside the cryptographic library")]
    Internal(#[source] snow::Error),
}

/// What the server knows after it accepted an initiation.
#[derive(Debug)]
pub struct Responded {
    /// The client's machine key (an X25519 public key), proved by the handshake.
    pub machine_key: [u8; 32],
    /// The client's protocol version, which is its capability version.
    pub protocol_version: u16,
    /// The bytes to send to the client before any record.
    pub reply: [u8; REPLY_LEN],
    /// Key of the direction server to client.
    pub tx: Key,
    /// Key of the direction client to server.
    pub rx: Key,
}

/// Answers an initiation, as the server does.
///
/// `initiation` is the decoded `X-Tailscale-Handshake` header, [`INITIATION_LEN`] bytes: u16
/// big-endian protocol version, type 1, u16 big-endian body length, ephemeral key, encrypted
/// machine key, tag. About 200 µs of computing, so it may run on a runtime thread, but a storm of
/// connections needs an admission limit.
///
/// # Errors
/// Every fault of the client; only [`HandshakeError::Internal`] is the server's own.
pub fn respond(
    server_static_secret: &[u8; 32],
    initiation: &[u8],
) -> Result<Responded, HandshakeError> {
    respond_with(server_static_secret, initiation, None)
}

fn respond_with(
    server_static_secret: &[u8; 32],
    initiation: &[u8],
    fixed_ephemeral: Option<&[u8; 32]>,
) -> Result<Responded, HandshakeError> {
    let (protocol_version, body) = parse_initiation(initiation)?;
    let prologue = prologue(protocol_version);
    let mut builder = builder()?
        .prologue(prologue.as_bytes())
        .and_then(|builder| builder.local_private_key(server_static_secret))
        .map_err(HandshakeError::Internal)?;
    if let Some(ephemeral) = fixed_ephemeral {
        builder = builder.fixed_ephemeral_key_for_testing_only(ephemeral);
    }
    let mut state = builder
        .build_responder()
        .map_err(HandshakeError::Internal)?;

    read_empty(&mut state, body)?;
    let machine_key = state
        .get_remote_static()
        .and_then(|key| key.try_into().ok())
        .ok_or(HandshakeError::Unauthentic)?;
    let mut reply = [0; REPLY_LEN];
    reply[..FRAME_HEADER_LEN].copy_from_slice(&REPLY_FRAME);
    write_empty(&mut state, &mut reply[FRAME_HEADER_LEN..])?;

    let (from_initiator, from_responder) = state.dangerously_get_raw_split();
    Ok(Responded {
        machine_key,
        protocol_version,
        reply,
        tx: Key::from_bytes(from_responder),
        rx: Key::from_bytes(from_initiator),
    })
}

/// The client's side, for tests and simulated clients.
///
/// ```
/// use bowline_control::noise::{Initiator, respond};
///
/// # fn main() -> Result<(), bowline_control::noise::HandshakeError> {
/// let server_secret = [7; 32];
/// let server_public = bowline_control::noise::handshake::public_key(&server_secret)?;
/// let initiator = Initiator::new(&[9; 32], &server_public, 141)?;
/// let responded = respond(&server_secret, initiator.initiation())?;
/// let keys = initiator.finish(&responded.reply)?;
/// # let _ = keys;
/// # Ok(())
/// # }
/// ```
pub struct Initiator {
    state: HandshakeState,
    initiation: [u8; INITIATION_LEN],
}

impl Initiator {
    /// Starts a handshake with the server that holds the secret of `server_static_public`.
    ///
    /// # Errors
    /// `LowOrder` when the server's key is a point of low order.
    pub fn new(
        machine_secret: &[u8; 32],
        server_static_public: &[u8; 32],
        protocol_version: u16,
    ) -> Result<Self, HandshakeError> {
        Self::new_with(machine_secret, server_static_public, protocol_version, None)
    }

    fn new_with(
        machine_secret: &[u8; 32],
        server_static_public: &[u8; 32],
        protocol_version: u16,
        fixed_ephemeral: Option<&[u8; 32]>,
    ) -> Result<Self, HandshakeError> {
        let prologue = prologue(protocol_version);
        let mut builder = builder()?
            .prologue(prologue.as_bytes())
            .and_then(|builder| builder.local_private_key(machine_secret))
            .and_then(|builder| builder.remote_public_key(server_static_public))
            .map_err(HandshakeError::Internal)?;
        if let Some(ephemeral) = fixed_ephemeral {
            builder = builder.fixed_ephemeral_key_for_testing_only(ephemeral);
        }
        let mut state = builder
            .build_initiator()
            .map_err(HandshakeError::Internal)?;

        let mut initiation = [0; INITIATION_LEN];
        initiation[..2].copy_from_slice(&protocol_version.to_be_bytes());
        initiation[2..INITIATION_HEADER_LEN].copy_from_slice(&INITIATION_FRAME);
        write_empty(&mut state, &mut initiation[INITIATION_HEADER_LEN..])?;
        Ok(Self { state, initiation })
    }

    /// The bytes for the `X-Tailscale-Handshake` header, before base64.
    pub const fn initiation(&self) -> &[u8; INITIATION_LEN] {
        &self.initiation
    }

    /// Ends the handshake with the server's answer and yields the keys `(tx, rx)`: client to
    /// server, then server to client. `reply` is a whole frame: a reply or an error frame.
    ///
    /// # Errors
    /// `Refused` with the server's text when the frame is an error frame.
    pub fn finish(mut self, reply: &[u8]) -> Result<(Key, Key), HandshakeError> {
        if reply.first() == Some(&TYPE_ERROR) {
            let text = reply.get(FRAME_HEADER_LEN..).unwrap_or_default();
            return Err(HandshakeError::Refused(
                String::from_utf8_lossy(text).into_owned(),
            ));
        }
        let reply: &[u8; REPLY_LEN] = reply
            .try_into()
            .map_err(|_| HandshakeError::Malformed("wrong length of a reply"))?;
        if reply[..FRAME_HEADER_LEN] != REPLY_FRAME {
            return Err(HandshakeError::Malformed("wrong header of a reply"));
        }
        read_empty(&mut self.state, &reply[FRAME_HEADER_LEN..])?;
        let (from_initiator, from_responder) = self.state.dangerously_get_raw_split();
        Ok((
            Key::from_bytes(from_initiator),
            Key::from_bytes(from_responder),
        ))
    }
}

/// An error frame: what a server may send instead of a reply. `text` is cut at 1,024 bytes.
pub fn error_frame(text: &str) -> Vec<u8> {
    const LIMIT: usize = 1024;
    let mut end = text.len().min(LIMIT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let [high, low] = u16::try_from(end).unwrap_or_default().to_be_bytes();
    let mut frame = vec![TYPE_ERROR, high, low];
    frame.extend_from_slice(&text.as_bytes()[..end]);
    frame
}

/// The X25519 public key of a secret: what `/key` announces for the server's own.
///
/// # Errors
/// `Internal` only.
pub fn public_key(secret: &[u8; 32]) -> Result<[u8; 32], HandshakeError> {
    let mut dh = StrictResolver
        .resolve_dh(&DHChoice::Curve25519)
        .ok_or_else(no_algorithm)?;
    dh.set(secret);
    dh.pubkey().try_into().map_err(|_| no_algorithm())
}

fn parse_initiation(initiation: &[u8]) -> Result<(u16, &[u8]), HandshakeError> {
    let initiation: &[u8; INITIATION_LEN] = initiation
        .try_into()
        .map_err(|_| HandshakeError::Malformed("wrong length of an initiation"))?;
    let [high, low, frame @ ..] = initiation;
    let (frame, body) = frame.split_at(FRAME_HEADER_LEN);
    if frame != INITIATION_FRAME {
        return Err(HandshakeError::Malformed("not an initiation of 96 bytes"));
    }
    Ok((u16::from_be_bytes([*high, *low]), body))
}

fn prologue(protocol_version: u16) -> String {
    format!("{PROLOGUE}{protocol_version}")
}

fn builder<'a>() -> Result<Builder<'a>, HandshakeError> {
    let params = PATTERN.parse().map_err(HandshakeError::Internal)?;
    Ok(Builder::with_resolver(params, Box::new(StrictResolver)))
}

fn read_empty(state: &mut HandshakeState, message: &[u8]) -> Result<(), HandshakeError> {
    // The messages have a fixed length that leaves no room for a payload, so nothing is written.
    state
        .read_message(message, &mut [0; INITIATION_BODY_LEN])
        .map_err(classify)
        .map(drop)
}

fn write_empty(state: &mut HandshakeState, message: &mut [u8]) -> Result<(), HandshakeError> {
    let written = state.write_message(&[], message).map_err(classify)?;
    if written == message.len() {
        Ok(())
    } else {
        Err(HandshakeError::Malformed(
            "unexpected length of an own message",
        ))
    }
}

fn classify(error: snow::Error) -> HandshakeError {
    match error {
        snow::Error::Decrypt | snow::Error::Input => HandshakeError::Unauthentic,
        snow::Error::Dh => HandshakeError::LowOrder,
        other => HandshakeError::Internal(other),
    }
}

fn no_algorithm() -> HandshakeError {
    HandshakeError::Internal(snow::Error::Init(snow::error::InitStage::GetDhImpl))
}

/// snow's own algorithms, with one rule added: a shared secret of zero is refused. snow leaves
/// that to its user, and a peer that sends a point of low order would otherwise know the secret
/// whatever our key is.
struct StrictResolver;

impl CryptoResolver for StrictResolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        DefaultResolver.resolve_rng()
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        Some(Box::new(ContributoryDh(
            DefaultResolver.resolve_dh(choice)?,
        )))
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

struct ContributoryDh(Box<dyn Dh>);

impl Dh for ContributoryDh {
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
        self.0.pubkey()
    }

    fn privkey(&self) -> &[u8] {
        self.0.privkey()
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        self.0.dh(pubkey, out)?;
        // Folded without an early exit: the secret's bytes must not decide how long this takes.
        if out[..self.0.dh_len()]
            .iter()
            .fold(0, |all, byte| all | byte)
            == 0
        {
            return Err(snow::Error::Dh);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
