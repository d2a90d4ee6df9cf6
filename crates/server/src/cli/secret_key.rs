//! What all kinds of keys have in common: they are listed and revoked alike.

use std::collections::HashMap;

use anyhow::{Result, bail};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::api::{Refused, segment};
use super::output::{Session, clean, confirm, list, print, table};
use super::user;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Auth keys.
    Auth,
    /// API access tokens.
    Api,
    /// OAuth clients.
    Client,
    /// Federated identities.
    Federated,
}

impl Kind {
    /// `keyType` of the API.
    const fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Api => "api",
            Self::Client => "client",
            Self::Federated => "federated",
        }
    }

    const fn noun(self) -> &'static str {
        match self {
            Self::Auth => "auth key",
            Self::Api => "API access token",
            Self::Client => "OAuth client",
            Self::Federated => "federated identity",
        }
    }

    /// Several of them.
    const fn nouns(self) -> &'static str {
        match self {
            Self::Auth => "auth keys",
            Self::Api => "API access tokens",
            Self::Client => "OAuth clients",
            Self::Federated => "federated identities",
        }
    }
}

/// A key of the API.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Key {
    pub(super) id: String,
    #[serde(default)]
    pub(super) key: String,
    key_type: String,
    created: String,
    /// Absent: it does not expire.
    #[serde(default)]
    pub(super) expires: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    revoked: Option<String>,
    #[serde(default)]
    capabilities: Option<Capabilities>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    user_id: Option<String>,
    #[serde(default)]
    expires_soon: bool,
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    subject: String,
    #[serde(default)]
    pub(super) audience: String,
}

#[derive(Deserialize)]
struct Capabilities {
    devices: Devices,
}

#[derive(Deserialize)]
struct Devices {
    create: Create,
}

#[derive(Deserialize, Default)]
struct Create {
    #[serde(default)]
    reusable: bool,
    #[serde(default)]
    ephemeral: bool,
    #[serde(default)]
    preauthorized: bool,
    #[serde(default)]
    tags: Vec<String>,
}

impl Key {
    /// What an auth key does: `reusable, ephemeral`.
    pub(super) fn uses(&self) -> String {
        let Some(create) = self.capabilities.as_ref().map(|c| &c.devices.create) else {
            return "-".to_owned();
        };
        let mut words = vec![if create.reusable {
            "reusable"
        } else {
            "one-off"
        }];
        if create.ephemeral {
            words.push("ephemeral");
        }
        if create.preauthorized {
            words.push("preauthorized");
        }
        words.join(", ")
    }

    fn tags(&self) -> String {
        match &self.capabilities {
            Some(capabilities) => list(&capabilities.devices.create.tags),
            None => list(&self.tags),
        }
    }

    /// What it is, and how it is revoked.
    fn kind(&self) -> (&'static str, &'static str) {
        match self.key_type.as_str() {
            "auth" => ("an auth key", "bowline key revoke"),
            // One without a user comes from an OAuth client or a federated identity.
            "api" if self.user_id.is_none() => (
                "an access token of an OAuth client or a federated identity",
                "DELETE /api/v2/tailnet/-/keys/ID",
            ),
            "api" => ("an API access token", "bowline token revoke"),
            "client" => ("an OAuth client", "bowline oauth-client revoke"),
            "federated" => ("a federated identity", "bowline federated-identity revoke"),
            _ => ("a key of another kind", "DELETE /api/v2/tailnet/-/keys/ID"),
        }
    }
}

/// The valid ones of a kind, each with its object as it came.
async fn all(session: &mut Session, kind: Kind) -> Result<Vec<(Key, Box<RawValue>)>> {
    #[derive(Deserialize)]
    struct Raw {
        keys: Vec<Box<RawValue>>,
    }
    // The API lists all kinds at once. Each object stays as it came, and the rest goes.
    let path = session.api.in_tailnet("keys?all=true");
    let answer = session.api.get(&path).await?;
    let mut keys = Vec::new();
    for raw in answer.read::<Raw>()?.keys {
        let key: Key = serde_json::from_str(raw.get())?;
        // One without a user is the access token of an OAuth client or a federated identity.
        let is_of_client = key.key_type == "api" && key.user_id.is_none();
        if key.key_type == kind.name() && !is_of_client {
            keys.push((key, raw));
        }
    }
    Ok(keys)
}

/// Lists the valid ones; with a user, theirs.
pub(super) async fn show_list(
    session: &mut Session,
    kind: Kind,
    of_user: Option<&str>,
) -> Result<()> {
    let mut keys = all(session, kind).await?;
    // A caller who may list keys may not always list users: then ids are shown.
    let users = match user::all(session).await {
        Ok(users) => users,
        Err(error) if of_user.is_none() && error.is::<Refused>() => Vec::new(),
        Err(error) => return Err(error),
    };
    if let Some(wanted) = of_user {
        let found = users
            .iter()
            .find(|user| user.login_name.eq_ignore_ascii_case(wanted) || user.id == wanted);
        let Some(found) = found else {
            bail!("there is no user {wanted:?}; bowline user list shows them");
        };
        keys.retain(|(key, _)| key.user_id.as_ref() == Some(&found.id));
    }
    if session.is_json {
        let raw: Vec<_> = keys.into_iter().map(|(_, raw)| raw).collect();
        print(&format!("{{\"keys\":{}}}", serde_json::to_string(&raw)?))?;
        return Ok(());
    }
    if keys.is_empty() {
        print(&format!("No valid {}.", kind.nouns()))?;
        return Ok(());
    }
    let logins: HashMap<_, _> = users
        .into_iter()
        .map(|user| (user.id, user.login_name))
        .collect();
    let user_of = |key: &Key| {
        let id = key.user_id.clone().unwrap_or_else(|| "-".to_owned());
        logins.get(&id).cloned().unwrap_or(id)
    };
    let described = |key: &Key| match key.description.as_str() {
        "" => "-".to_owned(),
        text => text.to_owned(),
    };
    let expiry = |key: &Key| match &key.expires {
        Some(expires) if key.expires_soon => {
            format!("{} (soon)", session.relative_time(expires))
        }
        Some(expires) => session.relative_time(expires),
        None => "never".to_owned(),
    };
    let text = match kind {
        Kind::Federated => table(
            ["ID", "ISSUER", "SUBJECT", "SCOPES", "TAGS", "DESCRIPTION"],
            keys.iter().map(|(key, _)| {
                [
                    key.id.clone(),
                    key.issuer.clone(),
                    key.subject.clone(),
                    list(&key.scopes),
                    key.tags(),
                    described(key),
                ]
            }),
        ),
        Kind::Client => table(
            ["ID", "SCOPES", "TAGS", "CREATED", "DESCRIPTION"],
            keys.iter().map(|(key, _)| {
                [
                    key.id.clone(),
                    list(&key.scopes),
                    key.tags(),
                    session.relative_time(&key.created),
                    described(key),
                ]
            }),
        ),
        Kind::Auth => table(
            [
                "ID",
                "USER",
                "KIND",
                "TAGS",
                "CREATED",
                "EXPIRES",
                "DESCRIPTION",
            ],
            keys.iter().map(|(key, _)| {
                [
                    key.id.clone(),
                    user_of(key),
                    key.uses(),
                    key.tags(),
                    session.relative_time(&key.created),
                    expiry(key),
                    described(key),
                ]
            }),
        ),
        Kind::Api => table(
            ["ID", "USER", "CREATED", "EXPIRES", "DESCRIPTION"],
            keys.iter().map(|(key, _)| {
                [
                    key.id.clone(),
                    user_of(key),
                    session.relative_time(&key.created),
                    expiry(key),
                    described(key),
                ]
            }),
        ),
    };
    print(&text)?;
    let soon = keys.iter().filter(|(key, _)| key.expires_soon).count();
    if soon > 0 {
        let command = if kind == Kind::Api { "token" } else { "key" };
        print(&format!(
            "\nExpiring soon: {soon}. Who still needs one makes another: bowline {command} create"
        ))?;
    }
    Ok(())
}

/// Revokes one, if it is of this kind.
pub(super) async fn revoke(
    session: &mut Session,
    kind: Kind,
    id: &str,
    is_sure: bool,
) -> Result<()> {
    let noun = kind.noun();
    let path = session.api.in_tailnet(&format!("keys/{}", segment(id)));
    let found = match session.api.get(&path).await {
        Ok(answer) => answer.read::<Key>()?,
        Err(error) => {
            let status = error
                .downcast_ref::<Refused>()
                .map(|refused| refused.status);
            if status == Some(http::StatusCode::NOT_FOUND) {
                bail!("there is no {noun} {id}");
            }
            return Err(error);
        }
    };
    let is_of_client = found.key_type == "api" && found.user_id.is_none();
    if found.key_type != kind.name() || is_of_client {
        let (what, command) = found.kind();
        bail!("{id} is {what}; use {command}");
    }
    if let Some(at) = &found.revoked {
        bail!("the {noun} {id} was revoked already, {}", session.time(at));
    }
    let described = match found.description.as_str() {
        "" => String::new(),
        text => format!(" ({})", clean(text)),
    };
    confirm(
        is_sure,
        &format!(
            "Revoke the {noun} {}{described}? It is good for nothing from then on.",
            found.id
        ),
    )?;
    let answer = session.api.delete(&path).await?;
    session.answer(&answer, || Ok(format!("Revoked the {noun} {}.", found.id)))
}
