//! Certificates of listeners: read from files, and read again while the server runs.
//!
//! A certificate that a tool renews is in force a few seconds later, without a restart and without
//! a connection being cut. What the files hold in between (one of them new, half of a file) changes
//! nothing: the pair before it stays, and when it lasts, the log and a metric say so.

mod expiry;

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use bowline_engine::Engine;
use jiff::Timestamp;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::telemetry::Metrics;

pub use self::expiry::not_after;

/// How often the files are looked at.
const PERIOD: Duration = Duration::from_secs(5);
/// How long before its end a certificate is worth a warning: tools renew weeks before.
const NEAR: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);
/// Bytes of a file with certificates or a key: far more than any chain has.
const FILE_MAX: u64 = 1 << 20;

/// A certificate chain with its key, as a listener uses it.
pub struct Certificate {
    /// For the metrics and the log: `main` or `relay`.
    pub listener: &'static str,
    files: Option<Files>,
    current: ArcSwap<Pair>,
    /// Pairs that took the place of another.
    replaced: AtomicU64,
    /// Whether the files hold something else that cannot be used.
    is_refused: AtomicBool,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// What was read from the files, and what it came from.
struct Pair {
    key: Arc<CertifiedKey>,
    /// When the certificate is no longer good; `None` where that cannot be read.
    expires: Option<Timestamp>,
    /// A digest of the files' content, to see a change, so that no key lies about in memory twice.
    digest: [u8; 32],
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("listener", &self.listener)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load().key.clone())
    }
}

impl Certificate {
    /// Reads a pair of files that is watched from then on (see [`watch()`]).
    ///
    /// # Errors
    /// When a file cannot be read, is not what it should be, or they do not fit each other.
    pub fn open(listener: &'static str, certificate: &Path, key: &Path) -> Result<Arc<Self>> {
        let files = Files {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        let pair = files.content()?.pair(&files)?;
        Ok(Arc::new(Self {
            listener,
            files: Some(files),
            current: ArcSwap::from_pointee(pair),
            replaced: AtomicU64::new(0),
            is_refused: AtomicBool::new(false),
        }))
    }

    /// A certificate that does not change.
    ///
    /// # Errors
    /// When certificate and key do not fit each other.
    pub fn fixed(
        listener: &'static str,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<Self>> {
        let expires = chain.first().and_then(|end| not_after(end));
        let pair = Pair {
            key: Arc::new(certified(chain, key)?),
            expires,
            digest: [0; 32],
        };
        Ok(Arc::new(Self {
            listener,
            files: None,
            current: ArcSwap::from_pointee(pair),
            replaced: AtomicU64::new(0),
            is_refused: AtomicBool::new(false),
        }))
    }

    /// TLS with whatever certificate is in force when a client comes. HTTP/1.1 alone: neither the
    /// control protocol nor DERP can be reached by HTTP/2.
    ///
    /// # Errors
    /// Never in practice: the versions of TLS are the library's own.
    pub fn server_config(self: &Arc<Self>) -> Result<Arc<ServerConfig>> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("cannot set up TLS")?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// When the certificate in force is no longer good.
    pub fn expires(&self) -> Option<Timestamp> {
        self.current.load().expires
    }

    /// How often another pair took the place of the one before.
    pub fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Relaxed)
    }

    /// Whether the files now hold what cannot be used, so that an older pair is in force.
    pub fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// Looks at the files, and takes what is new and good.
    fn look(&self) -> Look {
        let Some(files) = &self.files else {
            return Look::Same;
        };
        let read = || -> Result<Option<Pair>> {
            let content = files.content()?;
            if content.digest() == self.current.load().digest {
                return Ok(None);
            }
            content.pair(files).map(Some)
        };
        match read() {
            Ok(None) => Look::Same,
            Ok(Some(pair)) => {
                self.current.store(Arc::new(pair));
                self.replaced.fetch_add(1, Ordering::Relaxed);
                Look::Replaced
            }
            Err(error) => Look::Refused(error),
        }
    }
}

/// What a look at the files came to.
enum Look {
    Same,
    Replaced,
    Refused(anyhow::Error),
}

/// The bytes of both files.
struct Content {
    certificate: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Files {
    fn content(&self) -> Result<Content> {
        Ok(Content {
            certificate: read(&self.certificate)?,
            key: Zeroizing::new(read(&self.key)?),
        })
    }
}

impl Content {
    fn digest(&self) -> [u8; 32] {
        let digests = [
            digest(&SHA256, &self.certificate),
            digest(&SHA256, &self.key),
        ];
        let both: Vec<u8> = digests
            .iter()
            .flat_map(|one| one.as_ref().to_vec())
            .collect();
        let mut digested = [0; 32];
        digested.copy_from_slice(digest(&SHA256, &both).as_ref());
        digested
    }

    fn pair(&self, files: &Files) -> Result<Pair> {
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| {
                format!(
                    "cannot read certificates from {}",
                    files.certificate.display()
                )
            })?;
        let Some(end) = chain.first() else {
            bail!("{} has no certificate in it", files.certificate.display());
        };
        let expires = not_after(end);
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .with_context(|| format!("cannot read a private key from {}", files.key.display()))?;
        let key = certified(chain, key).with_context(|| {
            format!(
                "cannot use {} with {}",
                files.certificate.display(),
                files.key.display()
            )
        })?;
        Ok(Pair {
            key: Arc::new(key),
            expires,
            digest: self.digest(),
        })
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", path.display()))?;
    if bytes.len() as u64 > FILE_MAX {
        bail!("{} is too long for certificates or a key", path.display());
    }
    Ok(bytes)
}

fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey> {
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key)
        .context("the private key is of a kind that TLS cannot use")?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        // Unknown: the key cannot tell its public half, and the handshake will show it.
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(error) => Err(error).context("certificate and key do not fit each other"),
    }
}

/// Registers what metrics say of certificates.
pub fn register_metrics(metrics: &Arc<Metrics>, certificates: &[Arc<Certificate>]) {
    let of = |read: fn(&Certificate) -> Option<i64>| {
        let certificates = certificates.to_vec();
        move || {
            let read = |one: &Arc<Certificate>| Some(([one.listener], read(one)?));
            certificates.iter().filter_map(read).collect::<Vec<_>>()
        }
    };
    metrics.gauges(
        "tls_certificate_expires_timestamp_seconds",
        "When the certificate of a listener ends, in seconds since 1970",
        ["listener"],
        of(|one| one.expires().map(Timestamp::as_second)),
    );
    metrics.gauges(
        "tls_certificate_refused",
        "1 while the certificate files of a listener hold what cannot be used",
        ["listener"],
        of(|one| Some(i64::from(one.is_refused()))),
    );
    let certificates = certificates.to_vec();
    metrics.counters(
        "tls_certificates_replaced",
        "Certificates that took the place of another while the server ran",
        "listener",
        move || {
            let of = |one: &Arc<Certificate>| (one.listener, one.replaced());
            certificates.iter().map(of).collect()
        },
    );
}

/// Looks at the files of all certificates now and then, and at once when `reload` changes, until
/// `stop`.
///
/// A pair that cannot be used is said at the second look in a row: tools write one file after the
/// other. After `reload` it is said at once, since somebody waits for the answer.
pub async fn watch(
    certificates: Vec<Arc<Certificate>>,
    engine: Engine,
    mut reload: watch::Receiver<u64>,
    stop: CancellationToken,
) {
    let mut watched: Vec<Watched> = certificates.into_iter().map(Watched::new).collect();
    for one in &mut watched {
        one.warn_of_end(engine.now());
    }
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        let is_asked = tokio::select! {
            _ = ticks.tick() => false,
            changed = reload.changed() => match changed {
                Ok(()) => true,
                Err(_) => std::future::pending().await,
            },
            () = stop.cancelled() => return,
        };
        for one in &mut watched {
            let certificate = one.certificate.clone();
            // A file system that hangs holds up a thread for such work, and no other.
            let Ok(look) = tokio::task::spawn_blocking(move || certificate.look()).await else {
                continue;
            };
            one.note(look, is_asked);
            one.warn_of_end(engine.now());
        }
    }
}

/// A certificate, and what the log was told about it.
struct Watched {
    certificate: Arc<Certificate>,
    /// Looks in a row that found what cannot be used.
    refusals: u32,
    is_said: bool,
    /// The end that was warned of, and whether it was past.
    warned: Option<(Timestamp, bool)>,
}

impl Watched {
    fn new(certificate: Arc<Certificate>) -> Self {
        Self {
            certificate,
            refusals: 0,
            is_said: false,
            warned: None,
        }
    }

    fn note(&mut self, look: Look, is_asked: bool) {
        let listener = self.certificate.listener;
        let expires = self.certificate.expires().map(tracing::field::display);
        match look {
            Look::Refused(error) => {
                self.refusals += 1;
                if (self.refusals >= 2 || is_asked) && !self.is_said {
                    self.is_said = true;
                    self.certificate.is_refused.store(true, Ordering::Relaxed);
                    let cause = format!("{error:#}");
                    tracing::error!(
                        listener,
                        expires,
                        "the new certificate files cannot be used, the certificate before stays: {cause}"
                    );
                }
                return;
            }
            Look::Replaced => tracing::info!(listener, expires, "a new certificate is in force"),
            Look::Same if self.is_said => {
                tracing::info!(listener, expires, "the certificate files are as they were");
            }
            Look::Same if is_asked && self.certificate.files.is_some() => {
                tracing::info!(listener, expires, "the certificate files have not changed");
            }
            Look::Same => {}
        }
        self.refusals = 0;
        self.is_said = false;
        self.certificate.is_refused.store(false, Ordering::Relaxed);
    }

    /// One line when the end is near, one when it is past.
    fn warn_of_end(&mut self, now: Timestamp) {
        let Some(expires) = self.certificate.expires() else {
            return;
        };
        let is_past = expires <= now;
        let is_near = now.saturating_add(NEAR).is_ok_and(|then| expires <= then);
        if !is_near || self.warned == Some((expires, is_past)) {
            return;
        }
        self.warned = Some((expires, is_past));
        let listener = self.certificate.listener;
        if is_past {
            tracing::error!(listener, %expires, "the certificate has expired: clients refuse it");
        } else {
            tracing::warn!(listener, %expires, "the certificate expires soon");
        }
    }
}

#[cfg(test)]
mod tests;
