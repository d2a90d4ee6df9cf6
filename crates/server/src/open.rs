//! Opening a data directory and its database.

use std::io;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use bowline_engine::{Engine, Random, SystemClock, SystemRandom};
use bowline_model::waiting::CodeKey;
use bowline_netmap::DerpMap;
use bowline_outbound::{Client, Networks, Roots};
use bowline_store::{OpenError, Opening, Options, Owner, SealError, Sealer, Store, StoreUrl};
use zeroize::Zeroizing;

use crate::config::{DatabaseUrl, Settings};
use crate::datadir::DataDir;

/// Name of the server's Noise key among the secrets in the database.
pub const NOISE_SECRET: &str = "noise";
/// Name of the key that codes of waiting logins and SSH sessions are made with.
const CODES_SECRET: &str = "codes";
/// Name of the embedded database in the data directory.
pub const SQLITE_FILE: &str = "bowline.db";

/// The key of the secrets in the database.
pub(crate) const SEAL_FILE: &str = "seal.key";
/// File for the first token where there is no terminal to print it on.
pub const TOKEN_FILE: &str = "first-token";
/// Marks a directory into which a backup is being restored. A restore that was killed leaves it.
pub(crate) const RESTORING: &str = "restoring";
/// What a server leaves in its data directory. Where one of these is, there was a server before,
/// and a new one is not made beside it in silence.
const TRACES: [&str; 6] = [
    RESTORING,
    SEAL_FILE,
    SQLITE_FILE,
    "bowline.db-wal",
    TOKEN_FILE,
    crate::relay::CERTIFICATE_FILE,
];

/// What opening may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To work on a server that exists: nothing is made.
    Command,
    /// To serve: a new server is made where there is nothing at all.
    Serve,
    /// To make a new server, also in place of a database that is gone.
    Init,
}

/// What the server works on: its directory, its database and the key of its secrets.
pub struct Opened {
    /// The data directory, held.
    pub data: DataDir,
    /// The database, held.
    pub store: Store,
    /// Opens the secrets in it.
    pub sealer: Sealer,
}

/// Takes the data directory and opens the database.
///
/// # Errors
/// Each with what to do about it.
pub async fn open(settings: &Settings, purpose: Purpose) -> Result<Opened> {
    let path = &settings.server.data;
    let traces = traces(path)?;
    let opening = match purpose {
        Purpose::Command => Opening::Existing,
        Purpose::Serve if !traces.is_empty() => Opening::Existing,
        Purpose::Serve | Purpose::Init => Opening::ExistingOrNew,
    };
    if purpose == Purpose::Command && !path.is_dir() {
        bail!(
            "there is no server's data in {}; name its directory with --data, or its settings with \
             --config",
            path.display()
        );
    }
    let data = DataDir::open(path)?;
    let url = store_url(settings);
    let connections = match url {
        StoreUrl::Sqlite(_) => 2,
        StoreUrl::Postgres(_) => usize::try_from(settings.database.connections.get()).unwrap_or(10),
    };
    let store = Store::open(
        &url,
        Options {
            connections,
            opening,
            lease: settings.database.lease_seconds.duration(),
            place: data.place(),
            ..Options::default()
        },
    )
    .await
    .map_err(|error| beside(error, &traces, settings))?;
    let sealer = match sealer(&store, &data, settings, purpose).await {
        Ok(sealer) => sealer,
        Err(error) => {
            store.close().await;
            return Err(error);
        }
    };
    Ok(Opened {
        data,
        store,
        sealer,
    })
}

/// Where the settings say that the database is.
pub(crate) fn store_url(settings: &Settings) -> StoreUrl {
    match &settings.database.url {
        DatabaseUrl::Sqlite => StoreUrl::Sqlite(settings.server.data.join(SQLITE_FILE)),
        DatabaseUrl::Postgres(url) => StoreUrl::Postgres(url.expose().to_owned()),
    }
}

/// A restore was killed before anything of it could be found.
fn unfinished(data: &Path) -> String {
    format!(
        "a restore into {} did not come to its end, and nothing of it was kept; run bowline restore \
         again, or make a new server with bowline init",
        data.display()
    )
}

/// What a server left in a directory, in the order of [`TRACES`]. A database file without a byte in
/// it is no trace: SQLite makes the file before the database.
fn traces(data: &Path) -> Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for name in TRACES {
        match std::fs::metadata(data.join(name)) {
            Ok(file) if file.len() > 0 => found.push(name),
            Ok(_) => {}
            // A file in the place of the directory is said when the directory is to be made.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => bail!(
                "this user may not look into {}; run this as the user that runs the server",
                data.display()
            ),
            Err(error) => {
                let file = data.join(name);
                return Err(error).with_context(|| format!("cannot look at {}", file.display()));
            }
        }
    }
    Ok(found)
}

/// A missing or empty database, told with what lies beside it.
fn beside(error: OpenError, traces: &[&str], settings: &Settings) -> anyhow::Error {
    let is_gone = matches!(error, OpenError::Missing { .. } | OpenError::Empty { .. });
    let Some(trace) = traces.first().filter(|_| is_gone) else {
        return error.into();
    };
    if *trace == RESTORING {
        return anyhow!(unfinished(&settings.server.data));
    }
    let data = settings.server.data.display();
    let is_postgres = matches!(settings.database.url, DatabaseUrl::Postgres(_));
    let why = if is_postgres && traces.contains(&SQLITE_FILE) {
        format!(
            "{data} has the embedded database of a server ({SQLITE_FILE}), and the settings name a \
             PostgreSQL database without one: a new server there would know none of its devices"
        )
    } else {
        format!(
            "{data} has {trace} of a server, and its database is gone: a new one would know none of \
             its devices"
        )
    };
    anyhow!(error).context(why)
}

/// The sealer of a database's secrets. A key is made for a database that has none.
async fn sealer(
    store: &Store,
    data: &DataDir,
    settings: &Settings,
    purpose: Purpose,
) -> Result<Sealer> {
    let is_used = store.secret(Owner::Server, NOISE_SECRET).await?.is_some()
        || !store.tailnets().await?.is_empty();
    let restoring = data.join(RESTORING);
    if restoring.exists() {
        if !is_used && purpose != Purpose::Init {
            bail!(unfinished(&settings.server.data));
        }
        // It was killed after the last of it was written.
        std::fs::remove_file(&restoring)
            .with_context(|| format!("cannot remove {}", restoring.display()))?;
    }
    if let Some(key) = &settings.seal.key {
        return Sealer::new(key.expose()).context("the setting seal.key is not a seal key");
    }
    let path = data.join(SEAL_FILE);
    if is_used && !path.exists() {
        bail!(
            "{} is missing: the key that opens the secrets in the database. Put it back from where \
             you keep it (it is in no backup of the database), or name it with the setting seal.key",
            path.display()
        );
    }
    if !is_used && path.exists() && purpose == Purpose::Serve && !store.is_new() {
        bail!(
            "the database has no server in it, and {} is the key of one; put the right database \
             there, or make a new server with bowline init",
            path.display()
        );
    }
    let key = data.private_file(SEAL_FILE, || {
        let mut key = vec![0; 32];
        SystemRandom.fill(&mut key);
        Ok(key)
    })?;
    let sealer = Sealer::new(&key).with_context(|| format!("{} is damaged", path.display()))?;
    if !is_used {
        // From now on the database and the key belong together, also where this start goes no
        // further, for instance because its port is in use.
        shared_secret(&sealer, store, NOISE_SECRET).await?;
    }
    Ok(sealer)
}

/// The server's 32 secret bytes of this name in the database; made if they are not there.
///
/// # Errors
/// When the database fails, or the key is another than the one that sealed them.
pub async fn shared_secret(
    sealer: &Sealer,
    store: &Store,
    name: &str,
) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let random = |bytes: &mut [u8]| SystemRandom.fill(bytes);
    sealer.secret(store, name, random).await
}

/// How long the start waits for policies that take long to compile.
const START_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// The engine's part of the settings.
///
/// # Errors
/// When the file of certificates that a setting names can't be used.
pub fn engine_settings(settings: &Settings, derp_map: DerpMap) -> Result<bowline_engine::Settings> {
    Ok(bowline_engine::Settings {
        derp_map,
        base_domain: settings.tailnet.base_domain.as_str().to_owned(),
        key_duration_days: u32::try_from(settings.tailnet.key_expiry_days.get()).unwrap_or(180),
        magic_dns_needs_nameserver: settings.tailnet.magic_dns_needs_nameserver,
        commit_timeout: settings.database.commit_seconds.duration(),
        clock_jump: std::time::Duration::from_hours(settings.server.clock_jump_hours.get()),
        ephemeral_timeout: settings.tailnet.ephemeral_inactivity_seconds.duration(),
        expiry_reminder: std::time::Duration::from_hours(
            24 * settings.keys.expiry_reminder_days.get(),
        ),
        loopback_is_a_source: !settings.server.trusted_proxies.is_empty(),
        report_burst: u32::try_from(settings.limits.report_burst.get()).unwrap_or(30),
        report_interval: settings.limits.report_seconds.duration(),
        start_patience: START_PATIENCE,
        retention: retention(&settings.retention),
        url: settings.server.url.as_str().to_owned(),
        outbound: outbound(&settings.outbound)?,
        webhooks: webhooks(settings),
        ..bowline_engine::Settings::default()
    })
}

fn webhooks(settings: &Settings) -> bowline_engine::Webhooks {
    let hours = std::time::Duration::from_hours;
    let own = &settings.webhooks;
    bowline_engine::Webhooks {
        secret_overlap: hours(own.secret_overlap_hours.get()),
        give_up_after: hours(own.give_up_hours.get()),
        queue: own.queue_events.get(),
        ..bowline_engine::Webhooks::default()
    }
}

/// The client for addresses that users chose.
fn outbound(settings: &crate::config::Outbound) -> Result<Client> {
    let mut roots = Roots::of_this_machine();
    if let Some(path) = &settings.ca_file {
        roots
            .add_file(path)
            .context("the setting outbound.ca_file cannot be used")?;
    }
    let networks = Networks::public_and(settings.allow_networks.iter().copied());
    Ok(Client::new(networks, roots))
}

fn retention(settings: &crate::config::Retention) -> bowline_engine::Retention {
    let days = |days: u64| std::time::Duration::from_hours(24 * days);
    bowline_engine::Retention {
        audit: days(settings.audit_days.get()),
        audit_events: settings.audit_events.get(),
        changes: std::time::Duration::from_hours(settings.changes_hours.get()),
        changes_kept: settings.changes.get(),
        policy_versions: settings.policy_versions.get(),
        policy_version_bytes: settings.policy_version_bytes.get(),
        credentials: days(settings.credential_days.get()),
        credentials_kept: settings.credentials.get(),
        deliveries: days(settings.delivery_days.get()),
    }
}

/// The API's part of the settings.
pub fn api_options(settings: &Settings) -> bowline_api::ApiOptions {
    bowline_api::ApiOptions {
        body_limit: settings.limits.body_bytes.size(),
        policy_bytes: usize::try_from(settings.limits.policy_bytes.get()).unwrap_or(usize::MAX),
        refuse_repetitions: settings.tailnet.refuse_repeated_policy_fields,
        ..bowline_api::ApiOptions::default()
    }
}

/// Opens the engine over a store. Codes of what waits are made with a key that is sealed in it, so
/// that they are the same after a restart.
///
/// # Errors
/// When the database cannot be read.
pub async fn engine(opened: &Opened, settings: bowline_engine::Settings) -> Result<Engine> {
    let key = shared_secret(&opened.sealer, &opened.store, CODES_SECRET).await?;
    let settings = bowline_engine::Settings {
        code_key: Some(CodeKey::new(&key)),
        sealer: Some(opened.sealer.clone()),
        ..settings
    };
    Ok(Engine::open(
        opened.store.clone(),
        settings,
        Arc::new(SystemClock),
        Arc::new(SystemRandom),
    )
    .await?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_file_of_authorities_that_cannot_be_used_is_said_at_the_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let settings = config::Outbound {
            allow_networks: Vec::new(),
            ca_file: Some(path.clone()),
        };
        let refused = |why: &str| {
            let error = format!("{:#}", outbound(&settings).unwrap_err());
            assert!(error.contains("outbound.ca_file"), "{error}");
            assert!(error.contains(why), "{error}");
        };
        refused("could not read");
        std::fs::write(&path, "no certificate").unwrap();
        refused("has no certificates");
        let authority = rcgen::generate_simple_self_signed(["issuer.example".to_owned()]).unwrap();
        std::fs::write(&path, authority.cert.pem()).unwrap();
        outbound(&settings).unwrap();
    }
}
