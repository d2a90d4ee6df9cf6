//! The sealing key as a command finds it, and what it opens.

use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::digest::{SHA256, digest};
use bowline_model::key::MachineKey;
use bowline_store::{Owner, SealedSecret, Sealer};
use zeroize::Zeroizing;

use crate::config::Settings;
use crate::open::{NOISE_SECRET, SEAL_FILE};

/// A sealing key that the settings or the data directory have.
pub(crate) struct FoundKey {
    pub(crate) sealer: Sealer,
    /// A file, or the name of the setting.
    pub(crate) place: String,
    /// Tells keys apart, and says nothing of the key: 12 hexadecimal digits.
    pub(crate) fingerprint: String,
}

impl FoundKey {
    pub(crate) fn new(key: &[u8], place: String) -> Result<Self> {
        let sealer = Sealer::new(key).with_context(|| format!("{place} is not a sealing key"))?;
        let text = Zeroizing::new([b"bowline sealing key\0", key].concat());
        let digest = digest(&SHA256, &text);
        let fingerprint = digest.as_ref()[..6]
            .iter()
            .fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        Ok(Self {
            sealer,
            place,
            fingerprint,
        })
    }
}

/// The key of the settings, or else that of the data directory; `None` when there is none.
///
/// # Errors
/// When it cannot be read, or others may read it.
pub(crate) fn find(settings: &Settings) -> Result<Option<FoundKey>> {
    if let Some(key) = &settings.seal.key {
        let place = "the setting seal.key".to_owned();
        return FoundKey::new(key.expose(), place).map(Some);
    }
    let path = settings.server.data.join(SEAL_FILE);
    let place = path.display().to_string();
    match std::fs::read(&path) {
        Ok(key) => {
            let mode = std::fs::metadata(&path)?.permissions().mode();
            if mode & 0o077 != 0 {
                bail!("{place} can be read by others; run: chmod 600 {place}");
            }
            FoundKey::new(&Zeroizing::new(key), place).map(Some)
        }
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read the sealing key {place}")),
    }
}

/// What a key opens.
pub(crate) struct Opens {
    /// The secrets that it does not open.
    pub(crate) closed: Vec<SealedSecret>,
    /// The public Noise key of the server, as clients know it.
    pub(crate) noise_key: Option<String>,
}

impl Opens {
    /// Tries a key on all secrets. Without a key, all stay closed.
    pub(crate) fn all(key: Option<&FoundKey>, secrets: &[SealedSecret]) -> Self {
        let mut opens = Self {
            closed: Vec::new(),
            noise_key: None,
        };
        for secret in secrets {
            let opened = key.and_then(|key| {
                let SealedSecret {
                    owner,
                    name,
                    sealed,
                } = secret;
                key.sealer.open(*owner, name, sealed).ok()
            });
            match opened {
                Some(plain) if secret.owner == Owner::Server && secret.name == NOISE_SECRET => {
                    opens.noise_key = noise_key(&plain);
                }
                Some(_) => {}
                None => opens.closed.push(secret.clone()),
            }
        }
        opens
    }
}

fn noise_key(secret: &[u8]) -> Option<String> {
    let secret = Zeroizing::new(<[u8; 32]>::try_from(secret).ok()?);
    let public = bowline_control::noise::handshake::public_key(&secret).ok()?;
    Some(MachineKey::from_bytes(public)?.to_string())
}

/// The names of secrets in one line: those of the server, and how many there are of others.
pub(crate) fn names(secrets: &[SealedSecret]) -> String {
    let own = secrets.iter().filter(|one| one.owner == Owner::Server);
    let mut names: Vec<String> = own.map(|one| one.name.clone()).collect();
    let others = secrets.len() - names.len();
    if others > 0 {
        names.push(format!("{others} of tailnets"));
    }
    names.join(", ")
}
