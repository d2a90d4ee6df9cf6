//! Whose certificates are believed.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The authorities whose certificates are believed.
#[derive(Debug, Clone)]
pub struct Roots {
    /// Those of the machine as well, which are read at the first request: a command that makes none
    /// does not wait for them.
    machine: bool,
    added: RootCertStore,
}

/// Why a file of certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// It can't be read.
    #[error("could not read the certificates in {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// It has none, or one of them is damaged.
    #[error("{path} has no certificates of authorities that can be used")]
    Unusable {
        /// The file.
        path: PathBuf,
    },
}

impl Roots {
    /// Those that this machine trusts. None at all is not an error here: a server that never makes a
    /// request needs none, and a request then
    /// says that the certificate is not trusted.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self {
            machine: true,
            ..Self::none()
        }
    }

    /// None: tests add their own.
    #[must_use]
    pub fn none() -> Self {
        Self {
            machine: false,
            added: RootCertStore::empty(),
        }
    }

    /// Adds one certificate.
    ///
    /// # Errors
    /// When it is not a certificate that can be an authority's.
    pub fn add(&mut self, certificate: CertificateDer<'static>) -> Result<(), rustls::Error> {
        self.added.add(certificate)
    }

    /// Adds all certificates of a PEM file.
    ///
    /// # Errors
    /// When it can't be read, has none, or has one that can't be used.
    pub fn add_file(&mut self, path: &Path) -> Result<(), RootsError> {
        let unusable = || RootsError::Unusable {
            path: path.to_owned(),
        };
        let read = |source| RootsError::Read {
            path: path.to_owned(),
            source,
        };
        let mut count = 0;
        for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
            self.add(certificate.map_err(read)?)
                .map_err(|_| unusable())?;
            count += 1;
        }
        if count == 0 {
            return Err(unusable());
        }
        Ok(())
    }
}

/// How a client speaks TLS to believed servers.
pub(crate) fn config(roots: &Roots) -> io::Result<Arc<ClientConfig>> {
    let mut believed = roots.added.clone();
    if roots.machine {
        believed.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(believed)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
