//! `bowline key`: auth keys.

use anyhow::Result;
use serde_json::json;

use super::lifetime;
use super::output::Session;
use super::secret_key::{self, Key, Kind};

/// What can be done with auth keys.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make an auth key, with which a device joins
    #[command(after_help = "\
Examples:
  bowline key create
  bowline key create --reusable --expires-in 24h --description \"build machines\"
  bowline key create --user bob@example.com --ephemeral --json")]
    Create {
        /// User who is to own the devices, by login name or id [default: the tailnet's owner, or
        /// the token's user]
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// Good for more than one device
        #[arg(long)]
        reusable: bool,
        /// Its devices are deleted some time after they go offline
        #[arg(long)]
        ephemeral: bool,
        /// Its devices need no approval
        #[arg(long)]
        preauthorized: bool,
        /// Tag of its devices, like tag:server; may be given several times
        #[arg(long = "tag", value_name = "TAG", value_delimiter = ',')]
        tags: Vec<String>,
        /// How long it is good for, like 24h or 90d [default: 90d, which is the most]
        #[arg(long, value_name = "TIME", value_parser = lifetime::parse)]
        expires_in: Option<i64>,
        /// What it is for: at most 50 letters, digits, spaces, - and _
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// List the valid auth keys; their secrets are not kept
    #[command(after_help = "\
Example:
  bowline key list --user bob@example.com")]
    List {
        /// Only those of this user, by login name or id
        #[arg(long, value_name = "USER")]
        user: Option<String>,
    },
    /// Revoke an auth key; devices that joined with it stay
    #[command(after_help = "\
Example:
  bowline key revoke kAbCdEf12CNTRL --yes")]
    Revoke {
        /// Id of the key, as listed
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Runs one of the commands.
pub(super) async fn run(command: Command, session: &mut Session) -> Result<()> {
    match command {
        Command::Create {
            user,
            reusable,
            ephemeral,
            preauthorized,
            tags,
            expires_in,
            description,
        } => {
            let body = json!({
                "capabilities": {"devices": {"create": {
                    "reusable": reusable,
                    "ephemeral": ephemeral,
                    "preauthorized": preauthorized,
                    "tags": tags,
                }}},
                "expirySeconds": expires_in,
                "description": description,
                "user": user,
            });
            let path = session.api.in_tailnet("keys");
            let answer = session.api.post(&path, &body).await?;
            session.answer(&answer, || {
                let key: Key = answer.read()?;
                Ok(format!(
                    "Made the auth key {}: {}, expires {}.\n\
                     Its secret, shown this once:\n\n  {}\n\nOn the device:\n\n  \
                     tailscale up --login-server {} --auth-key {}",
                    key.id,
                    key.uses(),
                    session.time(key.expires.as_deref().unwrap_or_default()),
                    key.key,
                    session.login_url(),
                    key.key
                ))
            })
        }
        Command::List { user } => secret_key::show_list(session, Kind::Auth, user.as_deref()).await,
        Command::Revoke { id, yes } => secret_key::revoke(session, Kind::Auth, &id, yes).await,
    }
}
