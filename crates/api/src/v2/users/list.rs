//! `GET /tailnet/{tailnet}/users`: list users.
//!
//! Source: official OpenAPI document, `listUsers`.

use bowline_model::user::Role;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::{Presence, UserShown, shown};
use crate::Api;
use crate::answer::{Encoded, Shape};
use crate::call::{Call, FromQuery, Pairs};
use crate::error::ApiError;

/// Which users are listed.
#[derive(JsonSchema)]
pub(crate) struct Wanted {
    /// Kind of users. All are members until devices can be shared.
    #[serde(rename = "type")]
    #[schemars(with = "Option<Kind>")]
    kind: Kind,
    /// Role of users.
    #[schemars(schema_with = "roles", default)]
    role: Option<Role>,
}

/// Kinds of users.
#[derive(Clone, Copy, PartialEq, Eq, JsonSchema)]
#[schemars(inline, rename_all = "lowercase")]
enum Kind {
    Member,
    Shared,
    All,
}

fn roles(_: &mut SchemaGenerator) -> Schema {
    let names = Role::EVERY.map(Role::as_str).into_iter();
    let names: Vec<&str> = names.chain(["all"]).collect();
    json_schema!({"type": ["string", "null"], "enum": names})
}

impl FromQuery for Wanted {
    fn read(pairs: Pairs) -> Result<Self, ApiError> {
        let mut wanted = Self {
            kind: Kind::All,
            role: None,
        };
        for (key, value) in pairs {
            match (key.as_str(), value.as_str()) {
                ("type", "member") => wanted.kind = Kind::Member,
                ("type", "shared") => wanted.kind = Kind::Shared,
                ("type" | "role", "all") => {}
                ("type", _) => {
                    return Err(ApiError::bad_request(format!("unknown type {value:?}")));
                }
                ("role", _) => {
                    let role = Role::parse(&value)
                        .ok_or_else(|| ApiError::bad_request(format!("unknown role {value:?}")))?;
                    wanted.role = Some(role);
                }
                _ => {}
            }
        }
        Ok(wanted)
    }
}

/// Users.
#[derive(Serialize, JsonSchema)]
pub(crate) struct UserList {
    users: Vec<UserShown>,
}

impl Shape for UserList {
    type Schema = Self;
}

pub(crate) async fn handler(
    api: Api,
    call: Call<(), Wanted>,
) -> Result<Encoded<UserList>, ApiError> {
    let tailnet = call.actor.tailnet;
    let snapshot = api.snapshot(tailnet)?;
    let count = snapshot.user_count() + snapshot.device_count();
    let now = api.engine.now();
    let Wanted { kind, role } = call.query;
    let work = move || {
        let presence = Presence::of_all(&snapshot);
        let users = snapshot
            .users()
            .filter(|user| kind != Kind::Shared && role.is_none_or(|role| user.role == role))
            .map(|user| {
                let presence = presence.get(&user.id).copied().unwrap_or_default();
                shown(user, presence, &snapshot, now)
            })
            .collect();
        Encoded::new(&UserList { users })
    };
    api.lists.answer(tailnet, count, work).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::pairs;

    #[test]
    fn who_is_wanted_is_a_kind_and_a_role_that_there_are() {
        let read = |query: &str| Wanted::read(pairs(Some(query)));
        let wanted = read("type=shared&role=it-admin&other=x").unwrap();
        assert!(wanted.kind == Kind::Shared && wanted.role == Some(Role::ItAdmin));
        let wanted = read("type=all&role=all&role=").unwrap();
        assert!(wanted.kind == Kind::All && wanted.role.is_none());
        for (query, text) in [
            ("type=x", "unknown type \"x\""),
            ("role=x", "unknown role \"x\""),
        ] {
            assert_eq!(read(query).err().unwrap().message, text);
        }
    }
}
