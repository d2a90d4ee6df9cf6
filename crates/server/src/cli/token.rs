//! `bowline token`: API access tokens.

use anyhow::Result;
use serde_json::json;

use super::lifetime;
use super::output::Session;
use super::secret_key::{self, Key, Kind};

/// What can be done with API access tokens.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make an API access token
    #[command(after_help = "\
Examples:
  bowline token create
  bowline token create --user bob@example.com --expires-in 30d --description terraform")]
    Create {
        /// User as whom it acts, by login name or id [default: the tailnet's owner, or the token's
        /// user]
        #[arg(long, value_name = "USER")]
        user: Option<String>,
        /// How long it is good for, like 24h or 90d [default: 90d, which is the most]
        #[arg(long, value_name = "TIME", value_parser = lifetime::parse)]
        expires_in: Option<i64>,
        /// What it is for: at most 50 letters, digits, spaces, - and _
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// List the valid API access tokens; their secrets are not kept
    #[command(after_help = "\
Example:
  bowline token list")]
    List {
        /// Only those of this user, by login name or id
        #[arg(long, value_name = "USER")]
        user: Option<String>,
    },
    /// Revoke an API access token
    #[command(after_help = "\
Example:
  bowline token revoke kAbCdEf12CNTRL --yes")]
    Revoke {
        /// Id of the token, as listed
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
            expires_in,
            description,
        } => {
            let body =
                json!({"user": user, "expirySeconds": expires_in, "description": description});
            let path = session.api.in_tailnet("access-tokens");
            let answer = session.api.post(&path, &body).await?;
            session.answer(&answer, || {
                let token: Key = answer.read()?;
                Ok(format!(
                    "Made the API access token {}, expires {}.\n\
                     Its secret, shown this once:\n\n  {}\n\nTry it:\n\n  \
                     curl -u \"{}:\" {}/api/v2/tailnet/-/devices",
                    token.id,
                    session.time(token.expires.as_deref().unwrap_or_default()),
                    token.key,
                    token.key,
                    session.login_url()
                ))
            })
        }
        Command::List { user } => secret_key::show_list(session, Kind::Api, user.as_deref()).await,
        Command::Revoke { id, yes } => secret_key::revoke(session, Kind::Api, &id, yes).await,
    }
}
