//! `bowline ssh`: SSH sessions that wait to be confirmed.

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;

use super::api::segment;
use super::login::code;
use super::output::{Session, list, table};

/// What can be done with SSH sessions that the policy file wants checked. They wait for 20 minutes,
/// whether the server runs or not
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the sessions that wait to be confirmed
    #[command(after_help = "\
Example:
  bowline ssh list")]
    List,
    /// Confirm a session
    #[command(after_help = "\
Example:
  bowline ssh approve 0123456789abcdef0123456789abcdef")]
    Approve {
        /// The code, or the address with it, that the session shows
        code: String,
    },
    /// Refuse a session
    #[command(after_help = "\
Example:
  bowline ssh deny 0123456789abcdef0123456789abcdef")]
    Deny {
        /// The code, or the address with it, that the session shows
        code: String,
    },
}

#[derive(Deserialize)]
struct End {
    name: String,
    user: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
}

impl End {
    fn owner(&self) -> String {
        match &self.user {
            Some(user) if self.tags.is_empty() => user.clone(),
            _ => list(&self.tags),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Check {
    code: String,
    expires: String,
    source: End,
    destination: End,
    ssh_user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Checks {
    ssh_checks: Vec<Check>,
}

/// Runs one of the commands.
pub(super) async fn run(command: Command, session: &mut Session) -> Result<()> {
    let path = session.api.in_tailnet("ssh-checks");
    match command {
        Command::List => {
            let answer = session.api.get(&path).await?;
            session.answer(&answer, || {
                let checks = answer.read::<Checks>()?.ssh_checks.into_iter();
                let rows = checks.map(|check| {
                    [
                        check.source.owner(),
                        check.source.name,
                        check.destination.name,
                        check.ssh_user,
                        session.relative_time(&check.expires),
                        check.code,
                    ]
                });
                let header = ["OWNER", "FROM", "TO", "AS", "EXPIRES", "CODE"];
                Ok(table(header, rows))
            })
        }
        Command::Approve { code: text } => {
            let path = format!("{path}/{}", segment(code(&text)));
            let answer = session.api.post(&path, &json!({})).await?;
            session.answer(&answer, || Ok("Confirmed the session.".to_owned()))
        }
        Command::Deny { code: text } => {
            let path = format!("{path}/{}", segment(code(&text)));
            let answer = session.api.delete(&path).await?;
            session.answer(&answer, || Ok("Refused the session.".to_owned()))
        }
    }
}
