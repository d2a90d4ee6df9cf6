//! `bowline serve`: everything wired together, until SIGTERM.

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail};
use bowline_admission::{Admission, BodyLimits, Listener};
use bowline_api::ApiOptions;
use bowline_control::Control;
use bowline_derp::stun::StunServer;
use bowline_derp::{RelayConfig, RelayServer, SecretKey};
use bowline_engine::{Counters, Engine};
use http::HeaderValue;
use ipnet::IpNet;
use tokio::net::{TcpListener, UdpSocket, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::accept::{Listening, Plain, Tls};
use crate::cli::api::SERVER_URL;
use crate::config::{Loaded, Settings};
use crate::datadir::DataDir;
use crate::greeting::{Bound, FirstToken, api_url, greet};
use crate::listen::{self, Site};
use crate::signals::{Signals, watch_signals};
use crate::telemetry::{self, Metrics, serve_metrics};
use crate::tls::{self, Certificate};
use crate::{accept, descriptors, holder, memory, mounts, open, relay};

/// Name of the operator's socket in the data directory.
pub const SOCKET: &str = "bowline.sock";
/// Who owns the tailnet that a server makes at its first start.
const FIRST_OWNER: &str = "owner@bowline.internal";
/// Time for the last writes, however long the requests in flight took.
const LAST_WRITES: std::time::Duration = std::time::Duration::from_secs(2);
/// Name of that tailnet.
const FIRST_TAILNET: &str = "bowline.internal";

/// The sockets of a server, all bound before anything is served.
struct Sockets {
    main: TcpListener,
    api: Option<TcpListener>,
    relay: Option<TcpListener>,
    stun: Option<UdpSocket>,
    metrics: Option<TcpListener>,
}

impl Sockets {
    async fn bind(settings: &Settings) -> Result<Self> {
        let stun = match settings.stun.listen.address() {
            Some(address) => Some(
                StunServer::bind(address)
                    .await
                    .map_err(|error| in_use(error, address, "--stun-listen", "STUN"))?,
            ),
            None => None,
        };
        Ok(Self {
            main: bind(settings.server.listen, "--listen", "the server")?,
            api: bind_optional(
                settings.server.api_listen,
                "the setting api_listen",
                "the API",
            )?,
            relay: bind_optional(settings.derp.listen.address(), "--derp-listen", "the relay")?,
            stun,
            metrics: bind_optional(
                settings.metrics.listen.address(),
                "--metrics-listen",
                "metrics",
            )?,
        })
    }
}

fn in_use(error: io::Error, address: SocketAddr, flag: &str, what: &str) -> anyhow::Error {
    let hint = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let holder = holder::of_port(address, flag == "--stun-listen");
            let holder = holder.unwrap_or_else(|| "another process".to_owned());
            format!("{holder} uses {address}; stop it, or choose another address with {flag}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("this user may not listen on {address}; choose a port above 1023 with {flag}")
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "this machine has no address {}; choose one of its own with {flag}",
            address.ip()
        ),
        _ => format!("choose another address with {flag}"),
    };
    anyhow::Error::new(error).context(format!("cannot listen on {address} for {what}: {hint}"))
}

fn bind(address: SocketAddr, flag: &str, what: &str) -> Result<TcpListener> {
    accept::bind(address).map_err(|error| in_use(error, address, flag, what))
}

fn bind_optional(
    address: Option<SocketAddr>,
    flag: &str,
    what: &str,
) -> Result<Option<TcpListener>> {
    address.map(|address| bind(address, flag, what)).transpose()
}

/// The admission layer of all listeners, as the settings say.
fn admission(settings: &Settings) -> Admission {
    let limits = &settings.limits;
    let descriptors = descriptors::raise();
    tracing::debug!(
        limit = descriptors.limit,
        reserve = descriptors.reserve,
        "open files"
    );
    let bodies = limits.bodies_in_flight_bytes.size();
    Admission::new(bowline_admission::Limits {
        half_open: descriptors::half_open(descriptors, limits.half_open_connections.size()),
        half_open_timeout: limits.handshake_seconds.duration(),
        per_source: limits.connections_per_source.size(),
        per_machine: limits.connections_per_machine.size(),
        descriptors: Some(descriptors),
        bodies: BodyLimits {
            timeout: limits.body_seconds.duration(),
            total: bodies,
            // One source never keeps all others out.
            per_source: bodies / 2,
        },
        ..bowline_admission::Limits::default()
    })
}

/// Runs the server until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start; each error says what to do.
pub async fn run(loaded: &Loaded, is_json: bool) -> Result<()> {
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let Signals { stop, reload } = watch_signals(loaded.settings.limits.drain_seconds.duration())?;

    // Nothing is served yet, so a start that hangs, on a database that does not answer, just ends.
    let Some(opened) = until(&stop, open::open(&loaded.settings, open::Purpose::Serve)).await?
    else {
        return Ok(());
    };
    let sockets = Sockets::bind(&loaded.settings).await?;
    let main_address = sockets.main.local_addr()?;
    let mut loaded = loaded.clone();
    loaded.bound(main_address);
    let settings = &loaded.settings;
    let address = |listener: &Option<TcpListener>| {
        let listener = listener.as_ref();
        listener.map(TcpListener::local_addr).transpose()
    };
    let relay_address = address(&sockets.relay)?;
    let api_address = address(&sockets.api)?;
    let metrics_address = address(&sockets.metrics)?;
    let stun_address = sockets
        .stun
        .as_ref()
        .map(UdpSocket::local_addr)
        .transpose()?;
    let main_certificate = main_certificate(settings)?;
    let certificate = match relay_address {
        Some(_) => Some(relay::certificate(settings, &opened.data)?),
        None => None,
    };
    let pin = certificate
        .as_ref()
        .and_then(|certificate| certificate.pin.as_deref());
    let map = relay::derp_map(settings, pin, relay_address, stun_address)?;
    let (store, sealer) = (&opened.store, &opened.sealer);
    let noise_secret = open::shared_secret(sealer, store, open::NOISE_SECRET).await?;
    let relay_certificate = certificate.and_then(|certificate| certificate.tls);
    let relay_secret = open::shared_secret(sealer, store, "relay").await?;

    let engine = open::engine(&opened, open::engine_settings(settings, map)?);
    let Some(engine) = until(&stop, engine).await? else {
        return Ok(());
    };
    let first_token = first_start(&engine, &opened.data).await?;

    let limits = &settings.limits;
    let admission = admission(settings);
    let control = Control::new(
        engine.clone(),
        bowline_control::Config {
            noise_secret,
            url: settings.server.url.as_str().to_owned(),
            log_upload: settings.tailnet.allow_log_upload,
            body_limit: limits.body_bytes.size(),
            registrations_per_second: f64::from(
                u32::try_from(limits.registrations_per_second.get()).unwrap_or(u32::MAX),
            ),
            liveness: bowline_control::Liveness {
                interval: limits.ping_seconds.duration(),
                mobile_interval: limits.ping_mobile_seconds.duration(),
                timeout: limits.ping_timeout_seconds.duration(),
                stuck: limits.stuck_stream_seconds.duration(),
            },
        },
    )
    .context("the stored Noise key is damaged")?;
    let relay = RelayServer::new(
        SecretKey::from_bytes(*relay_secret),
        Arc::new(relay::Members(engine.clone())),
        RelayConfig {
            handshake_timeout: limits.handshake_seconds.duration(),
            ..RelayConfig::default()
        },
    );
    let metrics = Metrics::new();
    let stun = StunServer::new();
    register_metrics(&metrics, &engine, &control, &relay, &stun);
    telemetry::register_admission(&metrics, &admission);
    telemetry::register_state(&metrics, &engine);

    let timeout = limits.request_seconds.duration();
    let certificates: Vec<Arc<Certificate>> = [&main_certificate, &relay_certificate]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
    tls::register_metrics(&metrics, &certificates);
    let options = open::api_options(settings);
    let api = bowline_api::routes(engine.clone(), options)
        .layer(axum::middleware::from_fn(move |request, next| {
            in_time(timeout, request, next)
        }))
        .layer(axum::middleware::from_fn_with_state(
            metrics.http(),
            crate::telemetry::track,
        ));
    let operator_api = bowline_api::router(
        engine.clone(),
        ApiOptions {
            operator: true,
            ..options
        },
    );
    // Commands tell people what this server calls itself, whatever settings they find.
    let own_url = HeaderValue::from_str(settings.server.url.as_str())?;
    let operator_api = operator_api.layer(axum::middleware::map_response(
        move |mut response: axum::response::Response| {
            let own_url = own_url.clone();
            async move {
                response.headers_mut().insert(SERVER_URL, own_url);
                response
            }
        },
    ));
    let socket_path = opened.data.join(SOCKET);
    let operator = operator_socket(&socket_path)?;

    let tasks = TaskTracker::new();
    let trusted_proxies: Arc<[IpNet]> = settings.server.trusted_proxies.clone().into();
    let warned = Arc::default();
    let site = |routes| Site {
        routes,
        trusted_proxies: trusted_proxies.clone(),
        warned: Arc::clone(&warned),
    };
    let clients = mounts::Clients {
        control: control.clone(),
        engine: engine.clone(),
        url: settings.server.url.clone(),
        api_url: api_url(settings, api_address),
    };
    let (main_site, api_site) = if sockets.api.is_some() {
        let own = site(mounts::api(engine.clone(), api));
        (site(mounts::clients(clients, None)), Some(own))
    } else {
        (site(mounts::clients(clients, Some(api))), None)
    };
    let listening = |socket, listener| Listening {
        socket,
        listener,
        admission: admission.clone(),
        trusted_proxies: trusted_proxies.clone(),
    };
    tasks.spawn({
        let (admission, stop) = (admission.clone(), stop.clone());
        async move { admission.tend(stop).await }
    });
    let drain = limits.drain_seconds.duration();
    let main_tls = server_config(main_certificate.as_ref())?;
    let mut places = vec![(listening(sockets.main, Listener::Main), main_site)];
    if let (Some(listener), Some(site)) = (sockets.api, api_site) {
        places.push((listening(listener, Listener::Api), site));
    }
    for (listening, site) in places {
        let stop = stop.clone();
        match main_tls.clone() {
            Some(tls) => tasks.spawn(listen::serve(listening, Tls(tls), site, drain, stop)),
            None => tasks.spawn(listen::serve(listening, Plain, site, drain, stop)),
        };
    }
    tasks.spawn(tls::watch(
        certificates,
        engine.clone(),
        reload,
        stop.clone(),
    ));
    tasks.spawn(listen::serve_operator(operator, operator_api, stop.clone()));
    tasks.spawn(memory::give_back(engine.store().clone(), stop.clone()));
    tasks.spawn(relay::end_revoked(
        engine.notices(),
        relay.clone(),
        stop.clone(),
    ));
    if let Some(listener) = sockets.relay {
        let (listening, stop) = (listening(listener, Listener::Relay), stop.clone());
        match server_config(relay_certificate.as_ref())? {
            Some(tls) => tasks.spawn(relay::serve(listening, Tls(tls), relay, stop)),
            None => tasks.spawn(relay::serve(listening, Plain, relay, stop)),
        };
    }
    if let Some(socket) = sockets.stun {
        let (stun, stop) = (stun.clone(), stop.clone());
        tasks.spawn(async move {
            if let Err(error) = stun.serve(socket, stop).await {
                tracing::error!(%error, "STUN ended");
            }
        });
    }
    if let Some(listener) = sockets.metrics {
        let listening = listening(listener, Listener::Metrics);
        tasks.spawn(serve_metrics(listening, metrics, stop.clone()));
    }
    let bound = Bound {
        main: main_address,
        api: api_address,
        relay: relay_address,
        metrics: metrics_address,
    };
    greet(settings, bound, first_token.as_ref(), is_json)?;
    tracing::info!(
        listen = %main_address,
        api = api_address.map(tracing::field::display),
        tls = main_certificate.is_some(),
        url = %settings.server.url,
        relay = relay_address.map(tracing::field::display),
        stun = stun_address.map(tracing::field::display),
        tailnets = engine.tailnets().len(),
        "ready"
    );

    stop.cancelled().await;
    let stopping = tokio::time::Instant::now();
    tracing::info!("stopping");
    // Streams end; requests in flight are answered; then the writers flush.
    engine.end_streams();
    tasks.close();
    tasks.wait().await;
    let closed = tokio::time::timeout(std::time::Duration::from_secs(5), control.closed()).await;
    if closed.is_err() {
        tracing::warn!("some clients were still connected");
    }
    // What the database has not answered by the end of the drain is given up, as in a crash.
    let rest = drain.saturating_sub(stopping.elapsed());
    let is_written = engine.close_within(rest.max(LAST_WRITES)).await;
    let _ = std::fs::remove_file(&socket_path);
    if is_written {
        tracing::info!("stopped");
    } else {
        tracing::warn!(
            "stopped although the database has not answered; what was acknowledged is stored"
        );
    }
    Ok(())
}

/// What comes of a step of the start; `None` when the server is to stop before.
async fn until<T>(
    stop: &CancellationToken,
    step: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    tokio::select! {
        outcome = step => outcome.map(Some),
        () = stop.cancelled() => Ok(None),
    }
}

/// The certificate of the listeners for clients, if they speak TLS.
fn main_certificate(settings: &Settings) -> Result<Option<Arc<Certificate>>> {
    let server = &settings.server;
    match (&server.tls_certificate_file, &server.tls_key_file) {
        (Some(certificate), Some(key)) => Certificate::open("main", certificate, key)
            .context("cannot use the server's certificate")
            .map(Some),
        _ => Ok(None),
    }
}

fn server_config(
    certificate: Option<&Arc<Certificate>>,
) -> Result<Option<Arc<rustls::ServerConfig>>> {
    certificate.map(Certificate::server_config).transpose()
}

/// Answers 504 where a request takes too long. What it had begun to change is finished all the same.
async fn in_time(
    timeout: std::time::Duration,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    use axum::response::IntoResponse as _;
    if let Ok(response) = tokio::time::timeout(timeout, next.run(request)).await {
        return response;
    }
    let body = r#"{"message":"request took too long to process, please try again later"}"#;
    let json = [(http::header::CONTENT_TYPE, "application/json")];
    (http::StatusCode::GATEWAY_TIMEOUT, json, body).into_response()
}

/// A socket that only this user can open. One that a killed process left behind goes first: the
/// data directory's lock says that nobody uses it.
fn operator_socket(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error)
                .with_context(|| format!("cannot remove the old socket {}", path.display()));
        }
        _ => {}
    }
    // Nobody comes in before the next line: the directory was seen to have mode 0700, and the
    // process has a umask of 0077. A stricter umask for this call alone would be one for all
    // threads, and hit files and directories that they make meanwhile.
    let listener = UnixListener::bind(path)
        .with_context(|| format!("cannot make the socket {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect the socket {}", path.display()))?;
    Ok(listener)
}

async fn first_start(engine: &Engine, data: &DataDir) -> Result<Option<FirstToken>> {
    if !engine.tailnets().is_empty() {
        return Ok(None);
    }
    let made = match engine
        .create_tailnet(FIRST_OWNER, Some(FIRST_TAILNET))
        .await
    {
        Ok(made) => made,
        Err(error) => bail!("cannot make the first tailnet: {error}"),
    };
    let text = zeroize::Zeroizing::new(made.token.expose().to_owned());
    if io::stdout().is_terminal() {
        return Ok(Some(FirstToken::Shown(text)));
    }
    let path = data.write_private(open::TOKEN_FILE, format!("{}\n", *text).as_bytes())?;
    Ok(Some(FirstToken::File(path)))
}

/// A count that the engine keeps: its name in metrics, what it counts, and where it is.
type Counted = (&'static str, &'static str, fn(&Counters) -> &AtomicU64);

const WEBHOOK_COUNTERS: [Counted; 2] = [
    (
        "webhook_events_dropped",
        "Events that a webhook endpoint was not told because too many waited for it",
        |counters| &counters.webhook_events_dropped,
    ),
    (
        "webhook_events_given_up",
        "Events that were given up for a webhook endpoint that did not take them",
        |counters| &counters.webhook_events_given_up,
    ),
];

fn register_metrics(
    metrics: &Arc<Metrics>,
    engine: &Engine,
    control: &Control,
    relay: &RelayServer,
    stun: &StunServer,
) {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let counted = |read: fn(&bowline_control::Counters) -> &std::sync::atomic::AtomicU64| {
        let control = control.clone();
        move || read(control.counters()).load(Ordering::Relaxed)
    };
    metrics.counter(
        "control_connections",
        "Encrypted control connections opened",
        counted(|c| &c.connections),
    );
    metrics.counter(
        "registrations",
        "Registrations accepted",
        counted(|c| &c.registrations),
    );
    metrics.counter(
        "registrations_refused",
        "Registrations refused",
        counted(|c| &c.refused_registrations),
    );
    metrics.counter("map_streams", "Map streams opened", counted(|c| &c.streams));
    metrics.counter(
        "map_messages",
        "Messages sent on map streams",
        counted(|c| &c.messages),
    );
    metrics.counter(
        "map_message_bytes",
        "Bytes sent on map streams",
        counted(|c| &c.message_bytes),
    );
    let open = counted(|c| &c.open_connections);
    metrics.gauge(
        "control_connections_open",
        "Encrypted control connections open",
        move || signed(open()),
    );
    telemetry::liveness::register(metrics, engine, control);
    telemetry::jobs::register(metrics, engine);
    let streams = engine.clone();
    metrics.gauge("map_streams_open", "Map streams open", move || {
        i64::try_from(streams.stream_count()).unwrap_or(i64::MAX)
    });
    let reports = engine.clone();
    metrics.counter(
        "device_reports_held",
        "Reports of devices that waited because the device changes what it says too often",
        move || reports.counters().reports_held.load(Ordering::Relaxed),
    );
    let reports = engine.clone();
    metrics.counter(
        "device_reports_shortened",
        "Reports of devices of which a part began to be left out or shortened",
        move || reports.counters().reports_shortened.load(Ordering::Relaxed),
    );
    for (name, help, counter) in WEBHOOK_COUNTERS {
        let webhooks = engine.clone();
        metrics.counter(name, help, move || {
            counter(webhooks.counters()).load(Ordering::Relaxed)
        });
    }
    let tailnets = engine.clone();
    metrics.gauge("tailnets", "Tailnets", move || {
        i64::try_from(tailnets.tailnets().len()).unwrap_or(i64::MAX)
    });
    let from_relay = |read: fn(bowline_derp::RelayStats) -> u64| {
        let relay = relay.clone();
        move || read(relay.stats())
    };
    let connections = from_relay(|stats| stats.connections);
    metrics.gauge("relay_connections", "Relay connections open", move || {
        signed(connections())
    });
    metrics.counter(
        "relay_accepted",
        "Relay connections accepted",
        from_relay(|stats| stats.accepted),
    );
    metrics.counter(
        "relay_packets",
        "Packets that relay clients sent",
        from_relay(|stats| stats.packets_received),
    );
    metrics.counter(
        "relay_bytes",
        "Bytes of those packets",
        from_relay(|stats| stats.bytes_received),
    );
    let relay = relay.clone();
    metrics.counters(
        "relay_refused",
        "Relay connections refused",
        "reason",
        move || {
            let stats = relay.stats();
            vec![
                ("crowded", stats.refused_crowded),
                ("not_admitted", stats.refused_not_admitted),
                ("handshake", stats.handshakes_failed),
            ]
        },
    );
    let stun = stun.clone();
    metrics.counters(
        "stun_answered",
        "STUN requests answered",
        "family",
        move || {
            let stats = stun.stats();
            vec![("ipv4", stats.answered_ipv4), ("ipv6", stats.answered_ipv6)]
        },
    );
}
