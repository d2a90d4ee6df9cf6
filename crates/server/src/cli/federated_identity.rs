//! `bowline federated-identity`: federated identities.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::json;

use super::output::Session;
use super::secret_key::{self, Key, Kind};

/// What can be done with federated identities.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Make a federated identity: tokens of another issuer get access tokens of an hour
    #[command(after_help = "\
Examples:
  bowline federated-identity create --issuer https://token.actions.githubusercontent.com \\
      --subject 'repo:example/infra:ref:refs/heads/main' --scope policy_file
  bowline federated-identity create --issuer https://gitlab.com --subject 'project_path:example/*' \\
      --claim ref_protected=true --scope auth_keys --tag tag:ci --json")]
    Create {
        /// URL of the issuer, which a token's iss must equal
        #[arg(long, value_name = "URL")]
        issuer: String,
        /// Pattern that a token's sub must match; * stands for any characters
        #[arg(long, value_name = "PATTERN")]
        subject: String,
        /// What a token's aud must contain [default: one that the server makes]
        #[arg(long, value_name = "TEXT")]
        audience: Option<String>,
        /// Pattern that another claim must match, like repository_owner=example; may be given several
        /// times
        #[arg(long = "claim", value_name = "CLAIM=PATTERN", value_parser = rule)]
        claims: Vec<(String, String)>,
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
    /// List the federated identities that were not revoked
    #[command(after_help = "\
Example:
  bowline federated-identity list --json")]
    List,
    /// Revoke a federated identity; its access tokens end with it, and what it made stays
    #[command(after_help = "\
Example:
  bowline federated-identity revoke TAbCdEf12CNTRL-kAbCdEf12CNTRL --yes")]
    Revoke {
        /// Id of the identity, as listed
        id: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

/// Reads a rule for a claim.
fn rule(text: &str) -> Result<(String, String), String> {
    let (claim, pattern) = text
        .split_once('=')
        .filter(|(claim, pattern)| !claim.is_empty() && !pattern.is_empty())
        .ok_or("expected a claim and its pattern, such as ref=refs/heads/main")?;
    Ok((claim.to_owned(), pattern.to_owned()))
}

/// Runs one of the commands.
pub(super) async fn run(command: Command, session: &mut Session) -> Result<()> {
    match command {
        Command::Create {
            issuer,
            subject,
            audience,
            claims,
            scopes,
            tags,
            description,
        } => {
            let claims: BTreeMap<String, String> = claims.into_iter().collect();
            let body = json!({
                "keyType": "federated",
                "issuer": issuer,
                "subject": subject,
                "audience": audience,
                "customClaimRules": claims,
                "scopes": scopes,
                "tags": tags,
                "description": description,
            });
            let path = session.api.in_tailnet("keys");
            let answer = session.api.post(&path, &body).await?;
            session.answer(&answer, || {
                let identity: Key = answer.read()?;
                Ok(format!(
                    "Made the federated identity {}. It has no secret, and does not expire.\n\
                     Let the issuer make tokens for the audience\n\n  {}\n\n\
                     Get an access token for one, good for an hour:\n\n  \
                     curl -d \"client_id={}\" -d \"jwt=$TOKEN\" {}/api/v2/oauth/token-exchange",
                    identity.id,
                    identity.audience,
                    identity.id,
                    session.login_url()
                ))
            })
        }
        Command::List => secret_key::show_list(session, Kind::Federated, None).await,
        Command::Revoke { id, yes } => secret_key::revoke(session, Kind::Federated, &id, yes).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_claims_with_patterns() {
        let read = |text: &str| rule(text).ok();
        let of = |claim: &str, pattern: &str| Some((claim.to_owned(), pattern.to_owned()));
        assert_eq!(read("ref=refs/heads/*"), of("ref", "refs/heads/*"));
        assert_eq!(read("a=b=c"), of("a", "b=c"));
        for wrong in ["", "ref", "=x", "ref="] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
