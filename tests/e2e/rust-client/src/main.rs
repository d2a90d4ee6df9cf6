//! Two devices of the official Rust client, in one process, exchange TCP through the relay of the
//! server under test.
//!
//! Settings come from the environment: `BOWLINE_URL` (control URL), `BOWLINE_AUTH_KEY` (a reusable
//! auth key) and `BOWLINE_DEADLINE_SECONDS` (60 by default, for the whole run). The client itself
//! also wants `TS_RS_EXPERIMENT=this_is_unstable_software`.
//!
//! On success one JSON line is printed: what each device was told about itself, and how many bytes
//! came back. Any failure, and the deadline, end the process with a non-zero status.

use std::{
    env,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tailscale::{Config, Device, NodeInfo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

/// Port the first device listens on, inside the tailnet.
const PORT: u16 = 7000;
/// More than one relay frame (64 KiB) and more than one TCP window, so that flow control takes part.
const PAYLOAD_BYTES: usize = 100_000;

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let seconds = env::var("BOWLINE_DEADLINE_SECONDS").map_or(Ok(60), |text| text.parse())?;
    let report = timeout(Duration::from_secs(seconds), run())
        .await
        .with_context(|| format!("no result within {seconds} s"))??;
    println!("{report}");
    // Not `Device::shutdown`: in this release it always runs into its time limit.
    std::process::exit(0)
}

async fn run() -> Result<serde_json::Value> {
    let url = env::var("BOWLINE_URL").context("BOWLINE_URL is not set")?;
    let key = env::var("BOWLINE_AUTH_KEY").context("BOWLINE_AUTH_KEY is not set")?;
    let (first, second) = tokio::try_join!(
        join(&url, &key, "rust-first"),
        join(&url, &key, "rust-second"),
    )?;

    let here = sees(&second, &first)
        .await
        .context("second device looks for the first")?;
    let there = sees(&first, &second)
        .await
        .context("first device looks for the second")?;
    ensure!(
        here.ipv4 == first.ipv4 && here.ipv6 == first.ipv6,
        "the first device is shown with other addresses"
    );
    ensure!(
        there.ipv4 == second.ipv4 && there.ipv6 == second.ipv6,
        "the second device is shown with other addresses"
    );

    let over_ipv4 = echo(&first, &second, (first.ipv4, PORT).into())
        .await
        .context("TCP over IPv4")?;
    let over_ipv6 = echo(&first, &second, (first.ipv6, PORT).into())
        .await
        .context("TCP over IPv6")?;

    Ok(json!({
        "devices": [first.describe(), second.describe()],
        "echoed_bytes": { "ipv4": over_ipv4, "ipv6": over_ipv6 },
    }))
}

/// A registered device and what the server told it about itself.
struct Joined {
    device: Device,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
    info: NodeInfo,
}

impl Joined {
    fn describe(&self) -> serde_json::Value {
        json!({
            "hostname": self.info.hostname,
            "stable_id": self.info.stable_id.0,
            "ipv4": self.ipv4,
            "ipv6": self.ipv6,
        })
    }
}

async fn join(url: &str, key: &str, hostname: &str) -> Result<Joined> {
    let config = Config {
        control_server_url: url.parse().context("BOWLINE_URL is not a URL")?,
        requested_hostname: Some(hostname.to_owned()),
        client_name: Some("bowline-e2e".to_owned()),
        ..Config::default()
    };
    let device = Device::new(&config, Some(key.to_owned()))
        .await
        .with_context(|| format!("{hostname} could not start"))?;
    match device.is_authorized().await? {
        tailscale::AuthState::Authorized => {}
        tailscale::AuthState::NotAuthorized(url) => {
            bail!("{hostname} was sent to {url} in spite of its auth key")
        }
    }
    let ipv4 = device.ipv4_addr().await?;
    let ipv6 = device.ipv6_addr().await?;
    let info = device.self_node().await?;
    Ok(Joined {
        device,
        ipv4,
        ipv6,
        info,
    })
}

/// Waits until `viewer` has `other` in its netmap. The caller's deadline ends it.
async fn sees(viewer: &Joined, other: &Joined) -> Result<Seen> {
    loop {
        if let Some(peer) = viewer.device.peer_by_tailnet_ip(other.ipv4.into()).await? {
            return Ok(Seen {
                ipv4: peer.tailnet_address.ipv4.addr(),
                ipv6: peer.tailnet_address.ipv6.addr(),
            });
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// How one device is shown to the other.
struct Seen {
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
}

/// Sends a payload from `client` to `address`, where `server` sends it back; returns its size.
async fn echo(server: &Joined, client: &Joined, address: SocketAddr) -> Result<usize> {
    let listener = server.device.tcp_listen(address).await?;
    let payload: Vec<u8> = (0..=250).cycle().take(PAYLOAD_BYTES).collect();
    let serve = async {
        let stream = listener.accept().await?;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut left = PAYLOAD_BYTES;
        let mut buffer = vec![0; 16 * 1024];
        while left > 0 {
            let n = reader.read(&mut buffer).await?;
            ensure!(n > 0, "the connection ended {left} bytes early");
            writer.write_all(&buffer[..n]).await?;
            left -= n;
        }
        writer.flush().await?;
        anyhow::Ok(())
    };
    let call = async {
        let stream = client.device.tcp_connect(address).await?;
        let (mut reader, mut writer) = tokio::io::split(stream);
        let send = async {
            writer.write_all(&payload).await?;
            writer.flush().await?;
            anyhow::Ok(())
        };
        let receive = async {
            let mut answer = vec![0; PAYLOAD_BYTES];
            reader.read_exact(&mut answer).await?;
            anyhow::Ok(answer)
        };
        let ((), answer) = tokio::try_join!(send, receive)?;
        ensure!(answer == payload, "what came back is not what was sent");
        anyhow::Ok(answer.len())
    };
    let ((), echoed) = tokio::try_join!(serve, call)?;
    Ok(echoed)
}
