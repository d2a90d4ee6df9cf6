//! `bowline init`: the first tailnet and its owner, without a server.

use std::io::Write as _;

use anyhow::{Result, bail};
use bowline_netmap::DerpMap;

use crate::config::Loaded;
use crate::open;

/// Arguments of `bowline init`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Login name of the owner, like ann@example.com
    #[arg(long, value_name = "EMAIL")]
    owner: String,
    /// Organisation name of the tailnet, like example.com [default: the owner's login name]
    #[arg(long, value_name = "NAME")]
    tailnet: Option<String>,
}

/// Makes the tailnet and prints the owner's API access token.
///
/// # Errors
/// When the data directory has a tailnet already, or is in use.
pub(super) async fn run(loaded: &Loaded, arguments: &Args, is_json: bool) -> Result<()> {
    let settings = &loaded.settings;
    let opened = open::open(settings, open::Purpose::Init).await?;
    let engine = open::engine(
        &opened,
        open::engine_settings(settings, DerpMap::default())?,
    )
    .await?;
    if let Some(tailnet) = engine.tailnets().first() {
        bail!(
            "{} has the tailnet {} already; init is for an empty one. Start the server with: bowline serve",
            settings.server.data.display(),
            tailnet.stable()
        );
    }
    let made = match engine
        .create_tailnet(&arguments.owner, arguments.tailnet.as_deref())
        .await
    {
        Ok(made) => made,
        Err(error) => bail!("{error}"),
    };
    let name = engine
        .snapshot(made.tailnet)
        .map(|snapshot| snapshot.tailnet().name.clone())
        .unwrap_or_default();
    engine.close().await;
    let mut out = std::io::stdout().lock();
    if is_json {
        let object = serde_json::json!({
            "tailnet": made.tailnet.stable(),
            "tailnetName": name,
            "owner": arguments.owner,
            "userId": made.owner.stable(),
            "tokenId": made.credential.id.stable(),
            "token": made.token.expose(),
            "expires": made.credential.expires.map(|expires| expires.to_string()),
        });
        writeln!(out, "{object}")?;
    } else {
        writeln!(
            out,
            "Made the tailnet {name} ({}), owned by {}.\n",
            made.tailnet.stable(),
            arguments.owner
        )?;
        writeln!(
            out,
            "The owner's API access token, shown this once, good for 90 days:\n\n  {}\n",
            made.token.expose()
        )?;
        writeln!(
            out,
            "Start the server: bowline serve --data {}",
            settings.server.data.display()
        )?;
    }
    Ok(())
}
