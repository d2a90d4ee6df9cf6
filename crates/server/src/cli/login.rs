//! `bowline login`: devices that wait for somebody to say whose they are.

use anyhow::{Result, anyhow};
use bowline_engine::login::NAME_A_USER;
use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::api::{Refused, segment};
use super::output::{Session, list, table};

/// What can be done with logins. They wait for an hour, whether the server runs or not
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the devices that wait
    #[command(after_help = "\
Example:
  bowline login list")]
    List,
    /// Let a device in
    #[command(after_help = "\
Examples:
  bowline login approve 0123456789abcdef0123456789abcdef --user ann@example.com
  bowline login approve http://192.168.1.10:8080/login/0123456789abcdef0123456789abcdef")]
    Approve {
        /// The code, or the address with it, that the device shows
        code: String,
        /// Login name or id of the user whose device it is [default: the user of a device that logs
        /// in again; a new device needs one]
        #[arg(long)]
        user: Option<String>,
        /// Tags in place of those that the device asks for, like tag:ci; repeat it for several
        #[arg(long = "tag", conflicts_with = "no_tags")]
        tags: Vec<String>,
        /// No tags, whatever the device asks for
        #[arg(long)]
        no_tags: bool,
    },
    /// Refuse a device
    #[command(after_help = "\
Example:
  bowline login deny 0123456789abcdef0123456789abcdef")]
    Deny {
        /// The code, or the address with it, that the device shows
        code: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Login {
    code: String,
    expires: String,
    hostname: String,
    os: String,
    client_version: String,
    machine_key: String,
    source: String,
    tags: Vec<String>,
    #[serde(default)]
    node_id: Option<String>,
    #[serde(default)]
    user: Option<String>,
}

impl Login {
    /// Whose device it stays if nobody else is named: a device that logs in again has an owner.
    fn owner(&self) -> String {
        match (&self.user, &self.node_id) {
            (Some(user), _) => user.clone(),
            (None, Some(_)) => "tags".to_owned(),
            (None, None) => "new".to_owned(),
        }
    }

    /// The beginning of its machine key, as the log has it.
    fn machine(&self) -> String {
        let key = self.machine_key.strip_prefix("mkey:");
        key.unwrap_or(&self.machine_key).chars().take(8).collect()
    }
}

#[derive(Deserialize)]
struct Logins {
    logins: Vec<Login>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    node_id: String,
    name: String,
    user: String,
    authorized: bool,
    #[serde(default)]
    tags: Vec<String>,
}

/// The code in what somebody copied from a device: the code, or the address with it.
pub(super) fn code(text: &str) -> &str {
    let text = text.trim().trim_end_matches('/');
    text.rsplit('/').next().unwrap_or(text)
}

/// A refusal with what to do about it.
fn advised(error: anyhow::Error, code: &str) -> anyhow::Error {
    let Some(refused) = error.downcast_ref::<Refused>() else {
        return error;
    };
    if refused.status == StatusCode::NOT_FOUND {
        return anyhow!(
            "no login waits with the code {code:?}: it was decided already, or is older than an hour; \
             bowline login list shows those that wait"
        );
    }
    if refused.message == NAME_A_USER {
        return anyhow!("{NAME_A_USER}, with --user EMAIL; bowline user list shows them");
    }
    if refused.message.starts_with("there is no user ") {
        return anyhow!(
            "{}; bowline user list shows them, bowline user create makes one",
            refused.message
        );
    }
    error
}

/// Runs one of the commands.
pub(super) async fn run(command: Command, session: &mut Session) -> Result<()> {
    let path = session.api.in_tailnet("logins");
    match command {
        Command::List => {
            let answer = session.api.get(&path).await?;
            session.answer(&answer, || {
                let rows = answer.read::<Logins>()?.logins.into_iter().map(|login| {
                    [
                        login.owner(),
                        login.machine(),
                        login.source,
                        login.hostname,
                        login.os,
                        login.client_version,
                        list(&login.tags),
                        session.relative_time(&login.expires),
                        login.code,
                    ]
                });
                let header = [
                    "OWNER", "MACHINE", "FROM", "HOST", "OS", "VERSION", "TAGS", "EXPIRES", "CODE",
                ];
                Ok(table(header, rows))
            })
        }
        Command::Approve {
            code: text,
            user,
            tags,
            no_tags,
        } => {
            let tags = (no_tags || !tags.is_empty()).then_some(tags);
            let path = format!("{path}/{}", segment(code(&text)));
            let body = json!({"user": user, "tags": tags});
            let answer = session
                .api
                .post(&path, &body)
                .await
                .map_err(|error| advised(error, code(&text)))?;
            session.answer(&answer, || {
                let device: Device = answer.read()?;
                let owner = if device.tags.is_empty() {
                    device.user
                } else {
                    list(&device.tags)
                };
                let (name, id) = (device.name, device.node_id);
                let text = format!("{name} ({id}) is in, a device of {owner}.");
                if device.authorized {
                    return Ok(text);
                }
                Ok(format!(
                    "{text}\n\nThe tailnet asks for approval of new devices: bowline device \
                     authorize {id}"
                ))
            })
        }
        Command::Deny { code: text } => {
            let path = format!("{path}/{}", segment(code(&text)));
            let answer = session
                .api
                .delete(&path)
                .await
                .map_err(|error| advised(error, code(&text)))?;
            session.answer(&answer, || Ok("Refused the device.".to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_taken_with_or_without_its_address() {
        for text in [
            "abc",
            " abc ",
            "http://x:8080/login/abc",
            "https://x/login/abc/",
        ] {
            assert_eq!(code(text), "abc");
        }
    }
}
