//! `bowline tailnet`.

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;

use super::output::{Session, table};

/// What can be done with the server's tailnets. For its operator only: not with `--server`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make another tailnet, with its owner and their first API access token
    #[command(after_help = "\
Example:
  bowline tailnet create example.org --owner ann@example.org")]
    Create {
        /// Organisation name, like example.org [default: the owner's login name]
        name: Option<String>,
        /// Login name of the owner
        #[arg(long, value_name = "EMAIL")]
        owner: String,
    },
    /// List the tailnets of this server
    #[command(after_help = "\
Example:
  bowline tailnet list")]
    List,
}

#[derive(Deserialize)]
struct Made {
    id: String,
    owner: String,
    token: String,
    expires: String,
}

#[derive(Deserialize)]
struct Tailnets {
    tailnets: Vec<Tailnet>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tailnet {
    id: String,
    name: String,
    dns_name: String,
    created: String,
    device_count: u64,
}

/// Runs one of the commands.
pub(super) async fn run(command: Command, session: &mut Session) -> Result<()> {
    match command {
        Command::Create { name, owner } => {
            let body = json!({"owner": owner, "name": name});
            let answer = session.api.post("tailnets", &body).await?;
            session.answer(&answer, || {
                let made: Made = answer.read()?;
                Ok(format!(
                    "Made the tailnet {} ({}), owned by {}.\n\
                     The owner's API access token, shown this once, expires {}:\n\n  {}\n\n\
                     Other commands name it: bowline key create --tailnet {}",
                    name.as_deref().unwrap_or(&owner),
                    made.id,
                    made.owner,
                    session.time(&made.expires),
                    made.token,
                    made.id
                ))
            })
        }
        Command::List => {
            let answer = session.api.get("tailnets").await?;
            session.answer(&answer, || {
                let rows = answer.read::<Tailnets>()?.tailnets.into_iter().map(|net| {
                    [
                        net.name,
                        net.dns_name,
                        net.device_count.to_string(),
                        session.relative_time(&net.created),
                        net.id,
                    ]
                });
                Ok(table(
                    ["NAME", "DNS NAME", "DEVICES", "CREATED", "ID"],
                    rows,
                ))
            })
        }
    }
}
