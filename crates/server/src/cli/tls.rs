//! TLS to a server elsewhere: its certificate must be one that this machine trusts.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Makes TLS over a connection.
///
/// # Errors
/// When the certificate is not trusted or not for `host`.
pub(super) async fn connect(host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>> {
    // The machine's own store, and not one in the program: it has the authority of a company too.
    // SSL_CERT_FILE names another.
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        bail!(
            "this machine has no certificates of authorities; install its package \
             ca-certificates, or name a file of them in SSL_CERT_FILE"
        );
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set up TLS")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = ServerName::try_from(host.to_owned())
        .with_context(|| format!("{host} is not a host name"))?;
    Ok(TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?)
}
