//! `POST /tailnet/{tailnet}/secrets/identify`: tell what a secret is that somebody found. Ours: the official
//! API has nothing like it.

use bowline_engine::secret::{Identified, State, Subject};
use bowline_model::credential::Kind;
use bowline_model::id::{KeyId, UserId};
use bowline_model::secret::{Presented, SecretHash, SecretKind};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::Call;
use crate::error::ApiError;
use crate::extract::Json;
use crate::text::{Time, time};

/// A secret that was found, without the secret: what its text names, and its hash. A secret reads
/// `tskey-<kind>-<id>-<random>`.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct FoundSecret {
    /// `<kind>` of its text.
    #[schemars(schema_with = "kinds_in_text")]
    kind: SecretKind,
    /// `<id>` of its text.
    id: String,
    /// SHA-256 of its whole text: 64 hexadecimal digits.
    #[schemars(schema_with = "hash")]
    sha256: SecretHash,
}

/// What a secret is.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IdentifiedSecret {
    #[schemars(schema_with = "kinds")]
    kind: &'static str,
    /// What it is revoked by: the id of a key, `k…`, or of a webhook endpoint, `w…`.
    id: String,
    /// Whether it is the secret of what its text names. `false`: it was cut, changed or made up, and the rest
    /// of this answer is about what its text names.
    matches: bool,
    /// `valid`; `held`: good again when its user may act; `replaced`: a webhook secret that signs beside the
    /// new one until `validUntil`; `used`: a one-off auth key; `expired`; `revoked`.
    #[schemars(schema_with = "states")]
    state: &'static str,
    /// The user whose it is. Absent: it is the tailnet's.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    /// Their login name.
    #[serde(skip_serializing_if = "Option::is_none")]
    login_name: Option<String>,
    /// The OAuth client or federated identity that an access token was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    /// Where the events go to that a webhook secret signs.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint_url: Option<String>,
    description: String,
    created: Time,
    /// When it stops being good, or did. Absent: it does not expire.
    #[serde(skip_serializing_if = "Option::is_none")]
    valid_until: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked: Option<Time>,
}

impl Shape for IdentifiedSecret {
    type Schema = Self;
}

const KINDS: [&str; 6] = [
    "auth key",
    "API access token",
    "OAuth client",
    "OAuth access token",
    "SCIM key",
    "webhook secret",
];

fn kinds(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": KINDS})
}

fn kinds_in_text(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "enum": ["api", "auth", "client", "scim", "webhook"]})
}

fn hash(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^[0-9A-Fa-f]{64}$"})
}

fn states(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "enum": ["valid", "held", "replaced", "used", "expired", "revoked"],
    })
}

const fn state(state: State) -> &'static str {
    match state {
        State::Valid => "valid",
        State::Held => "held",
        State::Replaced(_) => "replaced",
        State::Used => "used",
        State::Expired => "expired",
        State::Revoked => "revoked",
    }
}

impl IdentifiedSecret {
    fn of(found: &Identified) -> Self {
        let shown = |kind, id, created| Self {
            kind,
            id,
            matches: found.matches,
            state: state(found.state),
            user_id: None,
            login_name: None,
            parent_id: None,
            endpoint_url: None,
            description: String::new(),
            created: time(created),
            valid_until: None,
            revoked: None,
        };
        let [auth, api, client, token, scim, webhook] = KINDS;
        match &found.subject {
            Subject::Credential(credential) => {
                let kind = match &credential.kind {
                    Kind::Auth(_) => auth,
                    Kind::Api => api,
                    // A federated identity has no secret, and one that names it is not its own.
                    Kind::Client(_) | Kind::Federated(_) => client,
                    Kind::Scim => scim,
                };
                Self {
                    user_id: credential.user.map(UserId::stable),
                    description: credential.description.clone(),
                    valid_until: credential.expires.map(time),
                    revoked: credential.revoked.map(time),
                    ..shown(kind, credential.id.stable(), credential.created)
                }
            }
            Subject::AccessToken(it) => Self {
                parent_id: Some(it.parent.stable()),
                valid_until: Some(time(it.expires)),
                revoked: it.revoked.map(time),
                ..shown(token, it.id.stable(), it.created)
            },
            Subject::Webhook(endpoint) => Self {
                endpoint_url: Some(endpoint.url.clone()),
                valid_until: match found.state {
                    State::Replaced(until) => Some(time(until)),
                    _ => None,
                },
                ..shown(webhook, endpoint.id.stable(), endpoint.created)
            },
        }
    }
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), (), Json<FoundSecret>>,
) -> Result<Encoded<IdentifiedSecret>, ApiError> {
    let Json(body) = call.body;
    let presented = Presented {
        kind: body.kind,
        id: KeyId::parse(&body.id).ok_or_else(ApiError::not_found)?,
        hash: body.sha256,
    };
    let found = api.engine.identify_secret(&call.actor, presented).await?;
    let mut shown = IdentifiedSecret::of(&found);
    if let Subject::Credential(credential) = &found.subject {
        let view = api.snapshot(call.actor.tailnet)?;
        let user = credential.user.and_then(|id| view.user(id));
        shown.login_name = user.map(|user| user.login_name.clone());
    }
    Encoded::new(&shown)
}
