//! Finding the server that a command is about.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use bowline_api::ApiOptions;
use bowline_netmap::DerpMap;
use http::{HeaderValue, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

use super::api::{Api, Way};
use super::tls;
use crate::config::{DatabaseUrl, Settings, open_to_all};
use crate::datadir::InUse;
use crate::open;
use crate::serve::SOCKET;

/// Environment variable with the API access token for `--server`.
const TOKEN_VARIABLE: &str = "BOWLINE_TOKEN";
/// How long a server elsewhere has to take a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long who has the data directory has to open its socket, or to finish: a server that
/// starts, or another command.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const BUSY_INTERVAL: Duration = Duration::from_millis(50);

/// Which server, and which tailnet of it.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct TargetFlags {
    /// Name or id of the tailnet, where the server has several
    #[arg(
        long,
        global = true,
        value_name = "NAME",
        help_heading = "Which server"
    )]
    tailnet: Option<String>,

    /// URL of a server elsewhere, with an API access token in BOWLINE_TOKEN or --token-file
    #[arg(long, global = true, value_name = "URL", help_heading = "Which server")]
    server: Option<String>,

    /// File with the API access token for --server
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        requires = "server",
        help_heading = "Which server"
    )]
    token_file: Option<PathBuf>,
}

impl TargetFlags {
    /// The URL of a server elsewhere, if one is meant.
    pub(super) fn server(&self) -> Option<&str> {
        self.server.as_deref()
    }

    /// Whether a server or a tailnet is named.
    pub(super) fn is_named(&self) -> bool {
        self.server.is_some() || self.tailnet.is_some()
    }

    /// The API of the server elsewhere at `url`.
    pub(super) async fn remote(&self, url: &str) -> Result<Api> {
        let token = self.token()?;
        let uri: Uri = url
            .parse()
            .map_err(|error| anyhow!("--server {url} is not a URL: {error}"))?;
        let (Some(scheme @ ("http" | "https")), Some(authority), None) =
            (uri.scheme_str(), uri.authority(), uri.query())
        else {
            bail!("--server {url} must be like https://bowline.example.com");
        };
        let is_tls = scheme == "https";
        let host = authority.host();
        let bare_host = host.trim_start_matches('[').trim_end_matches(']');
        let port = authority
            .port_u16()
            .unwrap_or(if is_tls { 443 } else { 80 });
        let connected = async {
            let stream = TcpStream::connect((bare_host, port)).await?;
            if is_tls {
                handshake(tls::connect(bare_host, stream).await?).await
            } else {
                handshake(stream).await
            }
        };
        let sender = tokio::time::timeout(CONNECT_TIMEOUT, connected)
            .await
            .unwrap_or_else(|_| Err(anyhow!("no answer within {CONNECT_TIMEOUT:?}")))
            .with_context(|| format!("cannot reach the server {url}"))?;
        let mut authorization =
            HeaderValue::from_str(&format!("Bearer {}", *token)).map_err(|_| {
                anyhow!("the API access token contains characters that a token cannot have")
            })?;
        authorization.set_sensitive(true);
        let way = Way::Connection {
            sender,
            authority: authority.as_str().to_owned(),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            authorization: Some(authorization),
        };
        Ok(Api::new(way, self.tailnet.clone()))
    }

    fn token(&self) -> Result<zeroize::Zeroizing<String>> {
        if let Some(warning) = self.token_file.as_deref().and_then(open_to_all) {
            let mut stderr = std::io::stderr().lock();
            writeln!(stderr, "bowline: warning: {warning}")?;
        }
        let text = match &self.token_file {
            Some(path) => std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the token file {}", path.display()))?,
            None => std::env::var(TOKEN_VARIABLE).unwrap_or_default(),
        };
        let text = zeroize::Zeroizing::new(text);
        let token = text.trim();
        if token.is_empty() {
            bail!(
                "--server needs an API access token in BOWLINE_TOKEN or the file of --token-file; \
                 on the server itself, bowline token create makes one"
            );
        }
        Ok(zeroize::Zeroizing::new(token.to_owned()))
    }

    /// The API of this machine's server: by its socket, or on the data directory where no server
    /// runs.
    pub(super) async fn local(&self, settings: &Settings) -> Result<Api> {
        let data = &settings.server.data;
        let socket = data.join(SOCKET);
        if matches!(settings.database.url, DatabaseUrl::Sqlite) {
            match std::fs::metadata(data.join(open::SQLITE_FILE)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
                    "this user may not look into {}; run this as the user that runs the server, \
                     or use --server with a token",
                    data.display()
                ),
                Err(_) => bail!(
                    "there is no server's data in {}; name its directory with --data, start one \
                     there with bowline serve, or reach one elsewhere with --server",
                    data.display()
                ),
            }
        }
        let deadline = Instant::now() + BUSY_TIMEOUT;
        loop {
            let silence = match UnixStream::connect(&socket).await {
                Ok(stream) => {
                    let way = Way::Connection {
                        sender: handshake(stream).await?,
                        authority: "localhost".to_owned(),
                        prefix: String::new(),
                        authorization: None,
                    };
                    return Ok(Api::new(way, self.tailnet.clone()));
                }
                Err(error) => nobody_listens(error, &socket)?,
            };
            match in_process(settings).await {
                Ok(way) => return Ok(Api::new(way, self.tailnet.clone())),
                Err(error) => match error.downcast::<InUse>() {
                    Ok(in_use) if Instant::now() >= deadline => {
                        bail!(
                            "{} uses the data directory {}, but does not answer on {} ({silence}); \
                             stop it, or try again when it has started",
                            in_use.holder,
                            data.display(),
                            socket.display()
                        );
                    }
                    Ok(_) => tokio::time::sleep(BUSY_INTERVAL).await,
                    Err(other) => return Err(other),
                },
            }
        }
    }
}

/// Passes an error that means that no server runs, as text; fails for any other.
fn nobody_listens(error: io::Error, socket: &Path) -> Result<&'static str> {
    match error.kind() {
        io::ErrorKind::NotFound => Ok("it is not there"),
        io::ErrorKind::ConnectionRefused => Ok("connection refused"),
        io::ErrorKind::PermissionDenied => bail!(
            "this user may not use {}; run this as the user that runs the server, or use --server \
             with a token",
            socket.display()
        ),
        _ => Err(error).with_context(|| format!("cannot use the socket {}", socket.display())),
    }
}

/// Takes the data directory and serves the API to this process alone.
async fn in_process(settings: &Settings) -> Result<Way> {
    let opened = open::open(settings, open::Purpose::Command).await?;
    let engine = open::engine(
        &opened,
        bowline_engine::Settings {
            serves_devices: false,
            // A command has nothing else to do meanwhile.
            start_patience: std::time::Duration::from_mins(10),
            ..open::engine_settings(settings, DerpMap::default())?
        },
    )
    .await?;
    let options = ApiOptions {
        operator: true,
        ..open::api_options(settings)
    };
    Ok(Way::InProcess {
        router: bowline_api::router(engine.clone(), options),
        engine,
        opened: Box::new(opened),
    })
}

async fn handshake<S>(stream: S) -> Result<http1::SendRequest<http_body_util::Full<bytes::Bytes>>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the sender, and what goes wrong the request is told too.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    Ok(sender)
}
