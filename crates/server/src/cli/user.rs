//! `bowline user`.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{is_not_found, segment};
use super::output::{Session, clean, confirm, table};

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
    /// Give a user another role
    #[command(after_help = "\
The role owner makes the owner of now an administrator. On a terminal it asks first;
elsewhere it needs --yes.

Examples:
  bowline user role bob@example.com network-admin
  bowline user role bob@example.com owner --yes")]
    Role {
        /// Login name or id
        user: String,
        /// The new role: owner, admin, network-admin, it-admin, billing-admin, auditor or member
        role: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Approve a user who waits for it
    #[command(after_help = "\
Example:
  bowline user approve bob@example.com")]
    Approve {
        /// Login name or id
        user: String,
    },
    /// Suspend a user: their devices lose every connection, their keys and tokens are refused
    #[command(after_help = "\
On a terminal it asks first; elsewhere it needs --yes. bowline user restore ends it.

Example:
  bowline user suspend bob@example.com --yes")]
    Suspend {
        /// Login name or id
        user: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Restore a suspended user
    #[command(after_help = "\
Example:
  bowline user restore bob@example.com")]
    Restore {
        /// Login name or id
        user: String,
    },
    /// Delete a user with their devices, and revoke their keys and tokens
    #[command(after_help = "\
Tagged devices stay. On a terminal it asks first; elsewhere it needs --yes.

Example:
  bowline user delete bob@example.com --yes")]
    Delete {
        /// Login name or id
        user: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
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

/// The user whom a text names.
async fn find(session: &mut Session, text: &str) -> Result<User> {
    // By their id they are found in any tailnet of the server.
    if text.starts_with('u') && text.ends_with("CNTRL") {
        let path = format!("users/{}", segment(text));
        match session.api.get(&path).await {
            Ok(answer) => return answer.read(),
            Err(error) if is_not_found(&error) => {}
            Err(error) => return Err(error),
        }
    }
    let mut users = all(session).await?.into_iter();
    let found = users.find(|user| user.login_name.eq_ignore_ascii_case(text) || user.id == text);
    match found {
        Some(user) => Ok(user),
        None => bail!("there is no user {text:?}; bowline user list shows them"),
    }
}

/// Does to a user what one operation does, and says so.
async fn change(
    session: &mut Session,
    user: &User,
    verb: &str,
    body: &Value,
    done: &str,
) -> Result<()> {
    let path = format!("users/{}/{verb}", segment(&user.id));
    let answer = session.api.post(&path, body).await?;
    session.answer(&answer, || Ok(done.to_owned()))
}

/// `1 device`, `2 devices`.
fn devices(count: u64) -> String {
    match count {
        1 => "1 device".to_owned(),
        count => format!("{count} devices"),
    }
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
        Command::Role { user, role, yes } => {
            let found = find(session, &user).await?;
            let login = clean(&found.login_name);
            if role == "owner" && found.role != "owner" {
                let question = format!(
                    "Make {login} the owner? The owner of now becomes an administrator, and cannot \
                     take it back."
                );
                confirm(yes, &question)?;
            }
            let done = format!("{login} has the role {role}.");
            change(session, &found, "role", &json!({"role": role}), &done).await
        }
        Command::Approve { user } => {
            let found = find(session, &user).await?;
            let login = clean(&found.login_name);
            let done = match &*found.status {
                "needs-approval" => format!("Approved {login}."),
                _ => format!("{login} does not wait for approval."),
            };
            change(session, &found, "approve", &json!({}), &done).await
        }
        Command::Suspend { user, yes } => {
            let found = find(session, &user).await?;
            let login = clean(&found.login_name);
            let theirs = devices(found.device_count);
            let question = format!(
                "Suspend {login}, with {theirs}? Their devices lose every connection at once, and \
                 their keys and tokens are refused, until bowline user restore."
            );
            confirm(yes, &question)?;
            let done = format!(
                "Suspended {login}, with {theirs}. To end it: bowline user restore {login}"
            );
            change(session, &found, "suspend", &json!({}), &done).await
        }
        Command::Restore { user } => {
            let found = find(session, &user).await?;
            let login = clean(&found.login_name);
            let done = match &*found.status {
                "suspended" => format!("Restored {login}."),
                _ => format!("{login} is not suspended."),
            };
            change(session, &found, "restore", &json!({}), &done).await
        }
        Command::Delete { user, yes } => {
            let found = find(session, &user).await?;
            let login = clean(&found.login_name);
            let theirs = devices(found.device_count);
            let question = format!(
                "Delete {login}, with {theirs}? Their keys and tokens are revoked. This cannot be \
                 taken back."
            );
            confirm(yes, &question)?;
            let done = format!("Deleted {login}, with {theirs}.");
            change(session, &found, "delete", &json!({}), &done).await
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
