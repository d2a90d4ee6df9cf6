//! `bowline login`: devices that wait for somebody to say whose they are.

use anyhow::Result;
use serde::Deserialize;
use serde_json::json;

use super::api::segment;
use super::output::{Session, list, table};

/// What can be done with logins. They live in a running server: a restart forgets them, and the
/// devices show another address.
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
  bowline login approve http://192.0.2.10:8080/login/0123456789abcdef0123456789abcdef")]
    Approve {
        /// The code, or the address with it, that the device shows
        code: String,
        /// Login name or id of the user whose device it is [default: the owner of the tailnet, or
        /// the token's user]
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
    tags: Vec<String>,
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

/// Runs one of the commands.
pub(super) async fn run(command: Command, session: &mut Session) -> Result<()> {
    let path = session.api.in_tailnet("logins");
    match command {
        Command::List => {
            let answer = session.api.get(&path).await?;
            session.answer(&answer, || {
                let rows = answer.read::<Logins>()?.logins.into_iter().map(|login| {
                    [
                        login.hostname,
                        login.os,
                        login.client_version,
                        list(&login.tags),
                        session.relative_time(&login.expires),
                        login.code,
                    ]
                });
                let header = ["HOST", "OS", "VERSION", "TAGS", "EXPIRES", "CODE"];
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
            let answer = session.api.post(&path, &body).await?;
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
            let answer = session.api.delete(&path).await?;
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
