//! `GET /users/{userId}`: get a user.
//!
//! Source: official OpenAPI document, `getUser`.

use bowline_model::id::UserId;

use super::{Presence, UserShown, shown};
use crate::Api;
use crate::answer::Encoded;
use crate::call::Call;
use crate::error::ApiError;

pub(crate) async fn handler(api: Api, call: Call<UserId>) -> Result<Encoded<UserShown>, ApiError> {
    let tailnet = call.actor.tailnet;
    let snapshot = api.snapshot(tailnet)?;
    let user = snapshot
        .user(call.path)
        .cloned()
        .ok_or_else(ApiError::not_found)?;
    let (count, now) = (snapshot.devices_of(user.id).count(), api.engine.now());
    let work = move || {
        let presence = Presence::of(user.id, &snapshot);
        Encoded::new(&shown(&user, presence, &snapshot, now))
    };
    api.lists.answer(tailnet, count, work).await
}
