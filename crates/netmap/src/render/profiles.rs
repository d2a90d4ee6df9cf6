//! User profiles.

use bowline_model::user::User;
use bowline_wire::hostinfo::readable;
use bowline_wire::user::{
    TAGGED_DEVICES_ID, TAGGED_DEVICES_LOGIN, TAGGED_DEVICES_NAME, UserProfile,
};

use crate::snapshot::Snapshot;

/// A user's profile.
pub fn of_user(user: &User) -> UserProfile {
    UserProfile {
        id: user.id.get(),
        login_name: user.login_name.clone(),
        display_name: readable(&user.display_name),
    }
}

/// The profile of an owner, as [`super::node::owner_id`] names it. An owner who is gone gets a
/// profile of its id, since clients cannot bear a device without one.
pub fn of_owner(id: u64, snapshot: &Snapshot) -> UserProfile {
    if id == TAGGED_DEVICES_ID {
        return UserProfile {
            id,
            login_name: TAGGED_DEVICES_LOGIN.to_owned(),
            display_name: TAGGED_DEVICES_NAME.to_owned(),
        };
    }
    bowline_model::id::UserId::new(id)
        .and_then(|id| snapshot.user(id))
        .map_or_else(
            || UserProfile {
                id,
                login_name: format!("user-{id}"),
                display_name: format!("user-{id}"),
            },
            |user| of_user(user),
        )
}
