//! `bowline user`.

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;

use super::output::{Session, table};

/// What can be done with users.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a user
    #[command(after_help = "\
Example:
  bowline user create bob@example.com --name \"Bob Example\"")]
    Create {
        /// Login name, like bob@example.com
        login: String,
        /// Name that people read [default: the part of the login name before the @]
        #[arg(long)]
        name: Option<String>,
        /// Role in the tailnet: member, admin, network-admin, it-admin, billing-admin or auditor
        #[arg(long, default_value = "member")]
        role: String,
    },
    /// List the users
    #[command(after_help = "\
Example:
  bowline user list")]
    List,
}

/// A user of the API.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct User {
    pub(super) id: String,
    pub(super) login_name: String,
    display_name: String,
    role: String,
    status: String,
    device_count: u64,
    last_seen: Option<String>,
    currently_connected: bool,
}

#[derive(Deserialize)]
struct Users {
    users: Vec<User>,
}

/// All users of the tailnet.
pub(super) async fn all(session: &mut Session) -> Result<Vec<User>> {
    let path = session.api.in_tailnet("users");
    Ok(session.api.get(&path).await?.read::<Users>()?.users)
}

/// Runs one of the commands.
pub(super) async fn run(command: Command, session: &mut Session) -> Result<()> {
    let path = session.api.in_tailnet("users");
    match command {
        Command::Create { login, name, role } => {
            let body = json!({"loginName": login, "displayName": name, "role": role});
            let answer = session.api.post(&path, &body).await?;
            session.answer(&answer, || {
                let user: User = answer.read()?;
                Ok(format!(
                    "Made the user {} ({}), role {}.\n\nAn auth key for their devices: \
                     bowline key create --user {}",
                    user.login_name, user.id, user.role, user.login_name
                ))
            })
        }
        Command::List => {
            let answer = session.api.get(&path).await?;
            session.answer(&answer, || {
                let rows = answer.read::<Users>()?.users.into_iter().map(|user| {
                    let seen = match (&user.last_seen, user.currently_connected) {
                        (_, true) => "now".to_owned(),
                        (Some(time), false) => session.relative_time(time),
                        (None, false) => "-".to_owned(),
                    };
                    [
                        user.login_name,
                        user.display_name,
                        user.role,
                        user.status,
                        user.device_count.to_string(),
                        seen,
                        user.id,
                    ]
                });
                Ok(table(
                    [
                        "LOGIN",
                        "NAME",
                        "ROLE",
                        "STATUS",
                        "DEVICES",
                        "LAST SEEN",
                        "ID",
                    ],
                    rows,
                ))
            })
        }
    }
}
