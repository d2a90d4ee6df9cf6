//! Settings: one TOML file, the environment, and flags.
//!
//! A flag wins over the environment, the environment over the file, the file over the default.
//! Each section is declared once, in a file of its own below `config/`, with its documentation;
//! the reference (`docs/settings.md`) is generated from that. Each secret may stand in a file of
//! its own, named by the key with `_file` at its end.
//!
//! ```
//! use bowline_server::config::{CliFlags, Environment, Settings};
//!
//! let environment = Environment::new([("BOWLINE_LISTEN", "127.0.0.1:9000")]);
//! let loaded = Settings::load(&CliFlags::default(), &environment)?;
//! assert_eq!(loaded.settings.server.url.as_str(), "http://127.0.0.1:9000");
//! # Ok::<(), bowline_server::config::SettingsError>(())
//! ```

mod address;
mod database;
mod derp;
mod error;
mod file;
mod flags;
mod keys;
mod limits;
mod log;
mod metrics;
mod outbound;
mod reader;
mod reference;
mod report;
mod retention;
mod seal;
mod secret;
mod section;
mod server;
mod stun;
mod tailnet;
#[cfg(test)]
mod tests;
mod value;
mod webhooks;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use self::address::{BaseUrl, Domain, HostName, Listen};
pub use self::database::Database;
pub use self::derp::{Derp, RelayTls};
pub use self::error::{Problem, SettingsError, Source};
pub use self::flags::{CliFlags, CommonFlags, ServeFlags};
pub use self::keys::Keys;
pub use self::limits::Limits;
pub use self::log::{Format, Level, Log};
pub use self::metrics::Metrics;
pub use self::outbound::Outbound;
pub use self::reader::{Entry, Environment, Field};
pub use self::reference::reference;
pub use self::retention::Retention;
pub use self::seal::Seal;
pub use self::secret::{DatabaseUrl, SealKey, SecretText};
pub use self::server::Server;
pub use self::stun::Stun;
pub use self::tailnet::Tailnet;
pub use self::value::{Label, Raw, Seconds, Value, Whole};
pub use self::webhooks::Webhooks;

use self::file::File;
use self::reader::{Reader, nearest};

/// The file that is read where the data directory has none.
const SYSTEM_FILE: &str = "/etc/bowline/bowline.toml";

/// All settings of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Data directory, listener, URL.
    pub server: Server,
    /// The metrics listener.
    pub metrics: Metrics,
    /// The embedded relay.
    pub derp: Derp,
    /// The STUN responder.
    pub stun: Stun,
    /// The database.
    pub database: Database,
    /// The sealing key.
    pub seal: Seal,
    /// How long logs are kept.
    pub retention: Retention,
    /// What every tailnet starts with.
    pub tailnet: Tailnet,
    /// Auth keys and API access tokens.
    pub keys: Keys,
    /// Limits on what one peer can take.
    pub limits: Limits,
    /// Requests to addresses that others chose.
    pub outbound: Outbound,
    /// `webhooks`.
    pub webhooks: Webhooks,
    /// The log.
    pub log: Log,
}

/// Settings in force, and where each came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// The file that was read, if any.
    pub file: Option<PathBuf>,
    /// One entry per setting, in the order of the reference.
    pub entries: Vec<Entry>,
    /// What is suspicious but not wrong, such as a misspelled environment variable; one line
    /// each, for the log.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Loads the settings from all sources.
    ///
    /// # Errors
    /// All that is wrong at once: see [`Problem`].
    pub fn load(flags: &CliFlags, environment: &Environment) -> Result<Loaded, SettingsError> {
        Self::load_with(flags, environment, Path::new(SYSTEM_FILE))
    }

    fn load_with(
        flags: &CliFlags,
        environment: &Environment,
        system_file: &Path,
    ) -> Result<Loaded, SettingsError> {
        let fields: Vec<&Field> = sections()
            .iter()
            .flat_map(|section| section.fields)
            .collect();
        let found = find_file(flags, environment, system_file);
        let file = match &found {
            None => None,
            Some((path, _)) => Some(File::read(path, &fields).map_err(SettingsError::new)?),
        };
        let values = flags.values();
        let mut reader = Reader {
            flags: &values,
            environment,
            file: file.as_ref(),
            entries: Vec::new(),
            problems: Vec::new(),
            secret_files: Vec::new(),
        };

        let server = Server::read(&mut reader);
        let settings = Self {
            metrics: Metrics::read(&mut reader),
            derp: Derp::read(&mut reader, &server),
            stun: Stun::read(&mut reader, &server),
            database: Database::read(&mut reader),
            seal: Seal::read(&mut reader),
            retention: Retention::read(&mut reader),
            tailnet: Tailnet::read(&mut reader),
            keys: Keys::read(&mut reader),
            limits: Limits::read(&mut reader),
            outbound: Outbound::read(&mut reader),
            webhooks: Webhooks::read(&mut reader),
            log: Log::read(&mut reader),
            server,
        };
        if let Some((_, FoundBy::Data)) = found
            && let Some((_, at)) = file.as_ref().and_then(|file| file.get("data"))
        {
            reader.problems.push(Problem::Conflict {
                at,
                message: "`data` can't be set in the file that was found in the data directory; \
                          remove it here, or name the file with --config"
                    .to_owned(),
            });
        }
        if reader.problems.is_empty() {
            settings.check(&mut reader);
        }
        let Reader {
            entries,
            problems,
            secret_files,
            ..
        } = reader;
        if !problems.is_empty() {
            return Err(SettingsError::new(problems));
        }
        let warnings = [
            misspelled(environment, &fields),
            settings.warnings(),
            secret_files,
        ];
        Ok(Loaded {
            settings,
            file: file.map(|file| file.path().to_owned()),
            entries,
            warnings: warnings.concat(),
        })
    }

    /// Notes settings that are good alone and not together.
    fn check(&self, reader: &mut Reader<'_>) {
        let listen = self.server.listen;
        let has_no_url = reader.source("url") == Source::Default && listen.ip().is_unspecified();
        if has_no_url {
            reader.problems.push(Problem::Conflict {
                at: Source::Default,
                message: format!(
                    "no client can go to {listen}; set --url (or BOWLINE_URL, or `url` in the \
                     settings file) to the URL that clients shall use, such as \
                     https://bowline.example.com"
                ),
            });
        }
        if !has_no_url {
            self.check_url(reader);
        }
        self.check_certificates(reader);
        self.check_base_domain(reader);
    }

    fn check_url(&self, reader: &mut Reader<'_>) {
        let url = &self.server.url;
        let mut conflict = |message: String| {
            reader.problems.push(Problem::Conflict {
                at: reader.source("url"),
                message,
            });
        };
        if self.server.tls_certificate_file.is_some() && !url.is_https() {
            conflict(format!(
                "`url` is {url}, but with `tls_certificate_file` the server speaks HTTPS; begin \
                 `url` with https://"
            ));
        } else if self.insecure_url() && !self.server.allow_insecure_url {
            conflict(format!(
                "`url` is {url}: over http:// anybody on the way to a name or a public address \
                 can read auth keys and API access tokens and answer in this server's place; use \
                 https:// (with `tls_certificate_file`, or behind a reverse proxy), a private \
                 address, or set `allow_insecure_url` to true"
            ));
        }
        if self.server.api_listen == Some(self.server.listen) && self.server.listen.port() != 0 {
            reader.problems.push(Problem::Conflict {
                at: reader.source("api_listen"),
                message: "`api_listen` is the same as `listen`; leave it out to have both on one \
                          listener"
                    .to_owned(),
            });
        }
    }

    /// Whether clients are sent over plain HTTP to a name or a public address.
    fn insecure_url(&self) -> bool {
        !self.server.url.is_https() && !self.server.url.is_private()
    }

    fn check_certificates(&self, reader: &mut Reader<'_>) {
        let pairs = [
            (
                (&self.server.tls_certificate_file, "tls_certificate_file"),
                (&self.server.tls_key_file, "tls_key_file"),
            ),
            (
                (&self.derp.certificate_file, "derp.certificate_file"),
                (&self.derp.key_file, "derp.key_file"),
            ),
        ];
        for (certificate, key) in pairs {
            for ((here, present), (there, absent)) in [(certificate, key), (key, certificate)] {
                // What came by default was complained about where it was set.
                let at = reader.source(present);
                if here.is_some() && there.is_none() && at != Source::Default {
                    reader.problems.push(Problem::Conflict {
                        at,
                        message: format!("`{present}` needs `{absent}` too; set both or none"),
                    });
                }
            }
        }
    }

    fn check_base_domain(&self, reader: &mut Reader<'_>) {
        let domain = self.tailnet.base_domain.as_str();
        if domain.len() > bowline_engine::BASE_DOMAIN_MAX {
            reader.problems.push(Problem::Conflict {
                at: reader.source("tailnet.base_domain"),
                message: format!(
                    "`tailnet.base_domain` has {} characters; at most {} leave room for the names \
                     of tailnet and device in a DNS name",
                    domain.len(),
                    bowline_engine::BASE_DOMAIN_MAX
                ),
            });
        }
    }

    /// What is permitted and deserves a line in the log.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.insecure_url() {
            warnings.push(format!(
                "clients use {} without TLS (allow_insecure_url): anybody on the way can read auth \
                 keys and API access tokens and answer in this server's place",
                self.server.url
            ));
        }
        let files = [&self.server.tls_key_file, &self.derp.key_file];
        let mut files: Vec<&Path> = files.into_iter().flatten().map(PathBuf::as_path).collect();
        files.dedup();
        warnings.extend(files.into_iter().filter_map(open_to_all));
        warnings
    }
}

impl Loaded {
    /// Where the setting of this name (`listen`, `log.level`) came from.
    #[must_use]
    pub fn source(&self, name: &str) -> Source {
        let entry = self.entries.iter().find(|entry| entry.name == name);
        entry.map_or(Source::Default, |entry| entry.source.clone())
    }

    /// Takes note of the address that the server really listens on, which differs from the
    /// setting for port 0: a URL that came by default follows it.
    pub fn bound(&mut self, address: SocketAddr) {
        if self.source("url") != Source::Default {
            return;
        }
        let url = BaseUrl::of(address, self.settings.server.tls_certificate_file.is_some());
        for entry in self.entries.iter_mut().filter(|entry| entry.name == "url") {
            entry.value = url.show();
            entry.json = url.json();
        }
        self.settings.server.url = url;
    }
}

/// A line for a file with a secret that everybody on the machine may read.
pub(crate) fn open_to_all(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt as _;
    // A file that is not there is complained about where it is read.
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    (mode & 0o007 != 0).then(|| {
        format!(
            "{} holds a secret and can be read by others; run: chmod o= {}",
            path.display(),
            path.display()
        )
    })
}

/// The name of the settings file in a data directory.
const FILE_NAME: &str = "bowline.toml";

/// How a settings file came to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FoundBy {
    /// A flag or the environment names it.
    Name,
    /// It is in the data directory.
    Data,
    /// It is the system's.
    System,
}

/// The file to read. One that is named must be there; the others may.
fn find_file(
    flags: &CliFlags,
    environment: &Environment,
    system_file: &Path,
) -> Option<(PathBuf, FoundBy)> {
    let named = flags.common.config.clone();
    if let Some(path) = named.or_else(|| environment.get("BOWLINE_CONFIG").map(PathBuf::from)) {
        return Some((path, FoundBy::Name));
    }
    let data = flags
        .common
        .data
        .clone()
        .or_else(|| environment.get("BOWLINE_DATA"));
    let in_data = Path::new(data.as_deref().unwrap_or("bowline-data")).join(FILE_NAME);
    if in_data.exists() {
        return Some((in_data, FoundBy::Data));
    }
    system_file
        .exists()
        .then(|| (system_file.to_owned(), FoundBy::System))
}

/// One section as the reference shows it.
struct Section {
    name: &'static str,
    doc: &'static [&'static str],
    fields: &'static [Field],
}

/// The sections in the order of the reference, which is that of reading.
fn sections() -> [Section; 13] {
    let section = |name, doc, fields| Section { name, doc, fields };
    [
        section("", Server::DOC, Server::FIELDS),
        section("metrics", Metrics::DOC, Metrics::FIELDS),
        section("derp", Derp::DOC, Derp::FIELDS),
        section("stun", Stun::DOC, Stun::FIELDS),
        section("database", Database::DOC, Database::FIELDS),
        section("seal", Seal::DOC, Seal::FIELDS),
        section("retention", Retention::DOC, Retention::FIELDS),
        section("tailnet", Tailnet::DOC, Tailnet::FIELDS),
        section("keys", Keys::DOC, Keys::FIELDS),
        section("limits", Limits::DOC, Limits::FIELDS),
        section("outbound", Outbound::DOC, Outbound::FIELDS),
        section("webhooks", Webhooks::DOC, Webhooks::FIELDS),
        section("log", Log::DOC, Log::FIELDS),
    ]
}

/// A line for each environment variable that looks like a misspelled setting. Other unknown ones
/// are left alone: Kubernetes sets `BOWLINE_PORT` and more for a service of this name.
fn misspelled(environment: &Environment, fields: &[&Field]) -> Vec<String> {
    let mut known: Vec<String> = vec!["BOWLINE_CONFIG".to_owned()];
    for field in fields {
        known.push(field.variable());
        if field.secret {
            known.push(format!("{}_FILE", field.variable()));
        }
    }
    environment
        .names()
        .filter(|name| !known.iter().any(|known| known == name))
        .filter_map(|name| {
            let meant = nearest(name, known.iter().cloned())?;
            Some(format!(
                "environment variable {name} is not a setting; did you mean {meant}?"
            ))
        })
        .collect()
}
