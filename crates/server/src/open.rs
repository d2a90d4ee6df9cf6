//! Opening a data directory and its database.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use bowline_engine::{Engine, Random, SystemClock, SystemRandom};
use bowline_netmap::DerpMap;
use bowline_store::{Options, Store, StoreUrl};

use crate::config::{DatabaseUrl, Settings};
use crate::datadir::DataDir;
use crate::seal::Sealer;

/// Name of the embedded database in the data directory.
pub const SQLITE_FILE: &str = "bowline.db";

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
pub async fn open(settings: &Settings) -> Result<Opened> {
    let data = DataDir::open(&settings.server.data)?;
    let key = match &settings.seal.key {
        Some(key) => key.expose().to_vec(),
        None => data.private_file("seal.key", || {
            let mut key = vec![0; 32];
            SystemRandom.fill(&mut key);
            Ok(key)
        })?,
    };
    let sealer = Sealer::new(&key).context("seal.key in the data directory is damaged")?;
    let url = match &settings.database.url {
        DatabaseUrl::Sqlite => StoreUrl::Sqlite(data.join(SQLITE_FILE)),
        DatabaseUrl::Postgres(url) => StoreUrl::Postgres(url.expose().to_owned()),
    };
    let connections = match url {
        StoreUrl::Sqlite(_) => 2,
        StoreUrl::Postgres(_) => usize::try_from(settings.database.connections.get()).unwrap_or(10),
    };
    let store = Store::open(
        &url,
        Options {
            connections,
            ..Options::default()
        },
    )
    .await?;
    Ok(Opened {
        data,
        store,
        sealer,
    })
}

/// The engine's part of the settings.
pub fn engine_settings(settings: &Settings, derp_map: DerpMap) -> bowline_engine::Settings {
    bowline_engine::Settings {
        derp_map,
        base_domain: settings.tailnet.base_domain.as_str().to_owned(),
        key_duration_days: u32::try_from(settings.tailnet.key_expiry_days.get()).unwrap_or(180),
        ephemeral_timeout: settings.tailnet.ephemeral_inactivity_seconds.duration(),
        loopback_is_a_source: !settings.server.trusted_proxies.is_empty(),
        ..bowline_engine::Settings::default()
    }
}

/// Opens the engine over a store.
///
/// # Errors
/// When the database cannot be read.
pub async fn engine(store: Store, settings: bowline_engine::Settings) -> Result<Engine> {
    Ok(Engine::open(
        store,
        settings,
        Arc::new(SystemClock),
        Arc::new(SystemRandom),
    )
    .await?)
}
