//! The flags that are settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

/// Flags that every command takes. Their values are checked by [`super::Settings::load`], with
/// the same words as those of the file.
#[derive(Debug, Clone, Default, Args)]
pub struct CommonFlags {
    /// Data directory [default: bowline-data]
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "DIR"
    )]
    pub data: Option<String>,

    /// Address and port of control protocol and API [default: 127.0.0.1:8080]
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "IP:PORT"
    )]
    pub listen: Option<String>,

    /// URL that clients and API users are told [default: http:// and --listen]
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "URL"
    )]
    pub url: Option<String>,

    /// Settings file [default: bowline.toml in the data directory, else /etc/bowline/bowline.toml]
    #[arg(
        long,
        global = true,
        help_heading = "Common options",
        value_name = "FILE"
    )]
    pub config: Option<PathBuf>,

    /// Print JSON for programs instead of text for people
    #[arg(long, global = true, help_heading = "Common options")]
    pub json: bool,
}

/// Flags of `bowline serve` and `bowline config`.
#[derive(Debug, Clone, Default, Args)]
pub struct ServeFlags {
    /// Address and port of the relay, or off [default: the address of --listen, port 8443]
    #[arg(long, value_name = "IP:PORT")]
    pub derp_listen: Option<String>,

    /// Address and UDP port of STUN, or off [default: the address of --listen, port 3478]
    #[arg(long, value_name = "IP:PORT")]
    pub stun_listen: Option<String>,

    /// Address and port of Prometheus metrics, or off [default: 127.0.0.1:9090]
    #[arg(long, value_name = "IP:PORT")]
    pub metrics_listen: Option<String>,

    /// sqlite, or a PostgreSQL URL [default: sqlite]
    #[arg(long, value_name = "URL")]
    pub database: Option<String>,

    /// text, json or auto [default: auto]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,

    /// What is logged: error, warn, info, debug, trace or off [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// The flags of one call of the program.
#[derive(Debug, Clone, Default)]
pub struct CliFlags {
    /// Those that every command takes.
    pub common: CommonFlags,
    /// Those of the server; all absent for other commands.
    pub serve: ServeFlags,
}

impl CliFlags {
    /// The values that are there, by the flag's name.
    pub(super) fn values(&self) -> BTreeMap<&'static str, String> {
        let Self { common, serve } = self;
        [
            ("data", &common.data),
            ("listen", &common.listen),
            ("url", &common.url),
            ("derp-listen", &serve.derp_listen),
            ("stun-listen", &serve.stun_listen),
            ("metrics-listen", &serve.metrics_listen),
            ("database", &serve.database),
            ("log-format", &serve.log_format),
            ("log-level", &serve.log_level),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)))
        .collect()
    }
}
