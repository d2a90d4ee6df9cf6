//! The relay's certificate, its place in the DERP map, and its listener.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::digest::{SHA256, digest};
use bowline_derp::{Admission, NodeKey, RelayServer, TailnetId};
use bowline_engine::{Engine, Notice};
use bowline_netmap::{DerpMap, Region, Relay};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::{Listening, Transport};
use crate::config::{RelayTls, Settings};
use crate::datadir::DataDir;
use crate::tls::Certificate;

/// The relay's self-signed certificate and its key, in the data directory.
pub const CERTIFICATE_FILE: &str = "relay-certificate.json";

/// Admits the devices of this server to the relay.
pub struct Members(pub Engine);

impl Admission for Members {
    fn admit(&self, node: NodeKey, _source: IpAddr) -> Option<TailnetId> {
        self.0.admitted(&node)
    }
}

/// What TLS the relay speaks, and how clients know its certificate.
pub struct RelayCertificate {
    /// For the listener. `None`: plain HTTP, since a proxy ends TLS.
    pub tls: Option<Arc<Certificate>>,
    /// `sha256-raw:<hex>` of a self-signed certificate that clients see; `None` when they verify
    /// what they see by the authorities that they trust.
    pub pin: Option<String>,
}

/// A self-signed certificate as it is kept in the data directory.
#[derive(Serialize, Deserialize)]
struct Kept {
    host: String,
    certificate: String,
    key: String,
}

/// Reads the certificate that the settings name, or makes a self-signed one and keeps it.
///
/// # Errors
/// When a file cannot be read or is not what it should be.
pub fn certificate(settings: &Settings, data: &DataDir) -> Result<RelayCertificate> {
    let derp = &settings.derp;
    if derp.tls == RelayTls::ProxyPlain {
        return Ok(RelayCertificate {
            tls: None,
            pin: None,
        });
    }
    let (certificate, pin) = match (&derp.certificate_file, &derp.key_file) {
        (Some(certificate), Some(key)) => (
            Certificate::open("relay", certificate, key)
                .context("cannot use the relay's certificate")?,
            None,
        ),
        _ => self_signed(derp.hostname.as_str(), data)?,
    };
    Ok(RelayCertificate {
        tls: Some(certificate),
        // Clients see the proxy's certificate, which is another.
        pin: pin.filter(|_| derp.tls == RelayTls::Here),
    })
}

fn self_signed(host: &str, data: &DataDir) -> Result<(Arc<Certificate>, Option<String>)> {
    let make = || -> Result<Vec<u8>> {
        let key = rcgen::KeyPair::generate().context("cannot make a key for the relay")?;
        let mut parameters = rcgen::CertificateParams::new(vec![host.to_owned()])
            .with_context(|| format!("cannot make a certificate for {host}"))?;
        parameters
            .distinguished_name
            .push(rcgen::DnType::CommonName, host);
        parameters.not_before = rcgen::date_time_ymd(2025, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(2045, 1, 1);
        let certificate = parameters
            .self_signed(&key)
            .context("cannot sign the relay's certificate")?;
        let kept = Kept {
            host: host.to_owned(),
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        };
        Ok(serde_json::to_vec_pretty(&kept)?)
    };
    let read = |bytes: &[u8]| {
        serde_json::from_slice::<Kept>(bytes).with_context(|| {
            format!("{CERTIFICATE_FILE} in the data directory is damaged; remove it")
        })
    };
    let mut kept = read(&data.private_file(CERTIFICATE_FILE, make)?)?;
    if kept.host != host {
        // The name changed: clients check it, so the old certificate is of no use.
        let bytes = make()?;
        data.write_private(CERTIFICATE_FILE, &bytes)?;
        kept = read(&bytes)?;
    }
    let certificate = CertificateDer::from_pem_slice(kept.certificate.as_bytes())
        .context("cannot read the relay's certificate")?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(kept.key.as_bytes())
        .context("cannot read the relay's key")?;
    let hash = digest(&SHA256, &certificate);
    let hex = data_encoding::HEXLOWER.encode(hash.as_ref());
    Ok((
        Certificate::fixed("relay", vec![certificate], key.into())?,
        Some(format!("sha256-raw:{hex}")),
    ))
}

/// The DERP map that clients are told: the embedded relay (where `relay` says that it listens),
/// and the regions of `derp.map_file`.
///
/// # Errors
/// When the map file cannot be read, or there is no relay at all.
pub fn derp_map(
    settings: &Settings,
    pin: Option<&str>,
    relay: Option<SocketAddr>,
    stun: Option<SocketAddr>,
) -> Result<DerpMap> {
    let derp = &settings.derp;
    let mut map = match &derp.map_file {
        Some(file) => read_map(file)?,
        None => DerpMap::default(),
    };
    map.omit_default_regions = true;
    if let Some(bound) = relay {
        let id = u32::from(derp.region());
        let host = derp.hostname.as_str();
        let address: Option<IpAddr> = host.parse().ok();
        let none = || "none".to_owned();
        let node = Relay {
            name: format!("{id}a"),
            region_id: id,
            host_name: host.to_owned(),
            cert_name: pin.unwrap_or_default().to_owned(),
            ipv4: address.map_or_else(String::new, |a| {
                if a.is_ipv4() { a.to_string() } else { none() }
            }),
            ipv6: address.map_or_else(String::new, |a| {
                if a.is_ipv6() { a.to_string() } else { none() }
            }),
            stun_port: stun.map_or(-1, |bound| i32::from(settings.stun.told_port(bound.port()))),
            derp_port: derp.told_port(bound.port()),
            insecure_for_tests: pin.is_some(),
            ..Relay::default()
        };
        let region = Region {
            id,
            code: derp.region_code.as_str().to_owned(),
            name: derp.region_name.as_str().to_owned(),
            nodes: vec![node],
            ..Region::default()
        };
        map.regions.insert(id, region);
    }
    map.regions.retain(|_, region| !region.nodes.is_empty());
    if map.regions.is_empty() {
        bail!(
            "there is no relay: clients never start without one; set derp.listen or derp.map_file"
        );
    }
    Ok(map)
}

fn read_map(file: &Path) -> Result<DerpMap> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not a DERP map in JSON", file.display()))
}

/// Accepts connections to the relay until `stop`.
pub async fn serve<T: Transport>(
    listening: Listening,
    transport: T,
    relay: RelayServer,
    stop: CancellationToken,
) {
    let sessions = TaskTracker::new();
    let ending = stop.clone();
    let accepting = listening.run(&sessions, stop, |socket, peer, ticket| {
        let (transport, relay, stop) = (transport.clone(), relay.clone(), ending.clone());
        async move {
            let stream = match transport.open(socket, peer, &ticket).await {
                Ok(stream) => stream,
                Err(error) => {
                    return tracing::debug!(source.ip = %peer.ip(), %error, "TLS failed");
                }
            };
            if let Err(error) = relay.serve_connection_in(ticket, stream, peer, stop).await {
                tracing::debug!(source.ip = %peer.ip(), %error, "a relay session ended");
            }
        }
    });
    accepting.await;
    sessions.close();
    // They end by the same token; one that does not read is not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(3), sessions.wait()).await;
}

/// Ends relay connections of devices that were deleted or expired, until `stop`.
pub async fn end_revoked(
    mut notices: broadcast::Receiver<Notice>,
    relay: RelayServer,
    stop: CancellationToken,
) {
    loop {
        let notice = tokio::select! {
            notice = notices.recv() => notice,
            () = stop.cancelled() => return,
        };
        match notice {
            Ok(Notice::NodeKeyRevoked(key)) => {
                relay.disconnect(&key);
            }
            // Whose keys were revoked is lost, so everyone who is connected is asked about.
            Err(RecvError::Lagged(missed)) => {
                let closed = relay.recheck().await;
                tracing::info!(missed, closed, "looked through the relay's connections");
            }
            Err(RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use bowline_derp::{RelayConfig, SecretKey, client};

    use super::*;

    #[derive(Clone, Default)]
    struct Known(Arc<Mutex<BTreeSet<NodeKey>>>);

    impl Admission for Known {
        fn admit(&self, node: NodeKey, _source: IpAddr) -> Option<TailnetId> {
            let known = self.0.lock().unwrap();
            known.contains(&node).then_some(TailnetId::MIN)
        }
    }

    /// More revocations than the channel holds: which keys they were is lost.
    #[tokio::test]
    async fn no_lag_of_notices_leaves_a_revoked_device_connected() {
        let known = Known::default();
        let secret = |seed: u8| SecretKey::from_bytes([seed; 32]);
        let relay = RelayServer::new(secret(200), Arc::new(known.clone()), RelayConfig::default());
        let stop = CancellationToken::new();
        let mut clients = Vec::new();
        for seed in 1..=10 {
            known.0.lock().unwrap().insert(secret(seed).public());
            let (near, far) = tokio::io::duplex(4096);
            let (relay, stop) = (relay.clone(), stop.clone());
            tokio::spawn(async move {
                let peer = SocketAddr::from(([192, 0, 2, 1], 4242));
                relay.serve(far, peer, stop).await
            });
            let client = client::connect(near, &secret(seed), &client::Options::default()).await;
            clients.push(client.unwrap());
        }
        let (notices, receiver) = tokio::sync::broadcast::channel(2);
        for seed in 1..=8 {
            known.0.lock().unwrap().remove(&secret(seed).public());
            let revoked = Notice::NodeKeyRevoked(secret(seed).public());
            assert!(notices.send(revoked).is_ok());
        }
        tokio::spawn(end_revoked(receiver, relay.clone(), stop.clone()));
        for (number, client) in clients.iter_mut().enumerate() {
            if number < 8 {
                let ended = async { while client.recv().await.is_ok() {} };
                let ended = tokio::time::timeout(std::time::Duration::from_secs(10), ended).await;
                assert!(ended.is_ok(), "{number} stays");
            } else {
                let seed = u8::try_from(number).unwrap() + 1;
                assert!(
                    relay.is_connected(&secret(seed).public()),
                    "{number} is gone"
                );
            }
        }
        stop.cancel();
    }

    /// What clients see is the proxy's certificate: a pin of another one would keep them away.
    #[test]
    fn where_a_proxy_ends_tls_clients_are_told_of_no_pin() {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDir::open(directory.path()).unwrap();
        for (tls, speaks_tls, is_pinned) in [
            ("here", true, true),
            ("proxy", true, false),
            ("proxy-plain", false, false),
        ] {
            let variables = [
                ("BOWLINE_DERP_TLS", tls),
                ("BOWLINE_DERP_HOSTNAME", "relay.example.com"),
                ("BOWLINE_DERP_PUBLIC_PORT", "443"),
            ];
            let environment = crate::config::Environment::new(variables);
            let flags = crate::config::CliFlags::default();
            let settings = Settings::load(&flags, &environment).unwrap().settings;
            let made = certificate(&settings, &data).unwrap();
            assert_eq!(made.tls.is_some(), speaks_tls, "{tls}");
            let bound = Some(SocketAddr::from(([127, 0, 0, 1], 8443)));
            let map = derp_map(&settings, made.pin.as_deref(), bound, None).unwrap();
            let node = &map.regions[&900].nodes[0];
            assert_eq!(
                node.cert_name.starts_with("sha256-raw:"),
                is_pinned,
                "{tls}"
            );
            assert_eq!(node.cert_name.is_empty(), !is_pinned, "{tls}");
            assert_eq!(node.insecure_for_tests, is_pinned, "{tls}");
            assert_eq!(
                (node.host_name.as_str(), node.derp_port),
                ("relay.example.com", 443)
            );
        }
    }
}
