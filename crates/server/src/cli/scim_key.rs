//! `bowline scim-key`: the SCIM key, with which a directory provisions users and groups.

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::json;

use super::api::segment;
use super::output::{Session, confirm, table};

/// What can be done with SCIM keys.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make the SCIM key of the tailnet, in the place of the one that there is
    #[command(after_help = "\
A tailnet has one SCIM key. Making another one revokes it; on a terminal this asks first then, and
elsewhere it needs --yes.

Examples:
  bowline scim-key create --description okta
  bowline scim-key create --yes --json")]
    Create {
        /// What it is for: at most 50 letters, digits, spaces, - and _
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// List the SCIM key that was not revoked; its secret is not kept
    #[command(after_help = "\
Example:
  bowline scim-key list")]
    List,
    /// Revoke the SCIM key; users that it made stay
    #[command(after_help = "\
Example:
  bowline scim-key revoke kAbCdEf12CNTRL --yes")]
    Revoke {
        /// Id of the key, as listed
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Deserialize)]
struct Key {
    id: String,
    #[serde(default)]
    key: String,
    created: String,
    description: String,
}

#[derive(Deserialize)]
struct Keys {
    keys: Vec<Key>,
}

/// Runs one of the commands.
pub(super) async fn run(command: Command, session: &mut Session) -> Result<()> {
    let path = session.api.in_tailnet("scim-keys");
    let answer = session.api.get(&path).await?;
    let keys = answer.read::<Keys>()?.keys;
    match command {
        Command::Create { description, yes } => {
            let former = keys.first();
            if let Some(former) = former {
                let question = format!(
                    "Replace the SCIM key {}? It is good for nothing from then on, and the directory \
                     needs the new one.",
                    former.id
                );
                confirm(yes, &question)?;
            }
            let body = json!({"description": description});
            let answer = session.api.post(&path, &body).await?;
            session.answer(&answer, || {
                let key: Key = answer.read()?;
                let replaced = match former {
                    Some(former) => format!(" It replaces {}, which was revoked.", former.id),
                    None => String::new(),
                };
                Ok(format!(
                    "Made the SCIM key {}. It does not expire.{replaced}\n\
                     Its secret, shown this once:\n\n  {}",
                    key.id, key.key
                ))
            })
        }
        Command::List => session.answer(&answer, || {
            if keys.is_empty() {
                return Ok("No SCIM key.".to_owned());
            }
            let described = |key: &Key| match key.description.as_str() {
                "" => "-".to_owned(),
                text => text.to_owned(),
            };
            let row = |key: &Key| {
                [
                    key.id.clone(),
                    session.relative_time(&key.created),
                    described(key),
                ]
            };
            Ok(table(
                ["ID", "CREATED", "DESCRIPTION"],
                keys.iter().map(row),
            ))
        }),
        Command::Revoke { id, yes } => {
            let Some(key) = keys.iter().find(|key| key.id == id) else {
                bail!("{id} is not the SCIM key; bowline scim-key list shows it");
            };
            let question = format!(
                "Revoke the SCIM key {}? The directory changes no users from then on.",
                key.id
            );
            confirm(yes, &question)?;
            let path = session.api.in_tailnet(&format!("keys/{}", segment(&id)));
            let answer = session.api.delete(&path).await?;
            session.answer(&answer, || Ok(format!("Revoked the SCIM key {}.", key.id)))
        }
    }
}
