//! `bowline oauth-client`: OAuth clients.

use anyhow::Result;
use serde_json::json;

use super::output::Session;
use super::secret_key::{self, Key, Kind};

/// What can be done with OAuth clients.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make an OAuth client, with which a program gets access tokens of an hour
    #[command(after_help = "\
Examples:
  bowline oauth-client create --scope dns,users:read --description terraform
  bowline oauth-client create --scope auth_keys --tag tag:ci --json")]
    Create {
        /// Scope of its access tokens, like devices:core:read; may be given several times
        #[arg(
            long = "scope",
            value_name = "SCOPE",
            value_delimiter = ',',
            required = true
        )]
        scopes: Vec<String>,
        /// Tag of what it makes, like tag:server; may be given several times. Needed with the scopes
        /// devices:core and auth_keys
        #[arg(long = "tag", value_name = "TAG", value_delimiter = ',')]
        tags: Vec<String>,
        /// What it is for: at most 50 letters, digits, spaces, - and _
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// List the OAuth clients that were not revoked; their secrets are not kept
    #[command(after_help = "\
Example:
  bowline oauth-client list")]
    List,
    /// Revoke an OAuth client; its access tokens end with it, and what it made stays
    #[command(after_help = "\
Example:
  bowline oauth-client revoke kAbCdEf12CNTRL --yes")]
    Revoke {
        /// Id of the client, as listed
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
            scopes,
            tags,
            description,
        } => {
            let body = json!({
                "keyType": "client",
                "scopes": scopes,
                "tags": tags,
                "description": description,
            });
            let path = session.api.in_tailnet("keys");
            let answer = session.api.post(&path, &body).await?;
            session.answer(&answer, || {
                let client: Key = answer.read()?;
                Ok(format!(
                    "Made the OAuth client {}. It does not expire.\n\
                     Its secret, shown this once:\n\n  {}\n\nGet an access token, good for an hour:\n\n  \
                     curl -d \"client_id={}\" -d \"client_secret={}\" {}/api/v2/oauth/token",
                    client.id,
                    client.key,
                    client.id,
                    client.key,
                    session.login_url()
                ))
            })
        }
        Command::List => secret_key::show_list(session, Kind::Client, None).await,
        Command::Revoke { id, yes } => secret_key::revoke(session, Kind::Client, &id, yes).await,
    }
}
