//! The users of a tailnet, with an index of their login names.

use std::sync::Arc;

use bowline_model::id::UserId;
use bowline_model::user::User;
use imbl::{HashMap, OrdMap};

/// Users by id and by login name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Users {
    by_id: OrdMap<UserId, Arc<User>>,
    /// By login name in lower case.
    by_login: HashMap<String, UserId>,
}

impl Users {
    pub(crate) fn get(&self, id: UserId) -> Option<&Arc<User>> {
        self.by_id.get(&id)
    }

    /// A user by login name, without regard to case.
    pub(crate) fn by_login(&self, login: &str) -> Option<&Arc<User>> {
        self.get(*self.by_login.get(&login.to_lowercase())?)
    }

    /// All users, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<User>> {
        self.by_id.values()
    }

    pub(crate) fn by_id(&self) -> &OrdMap<UserId, Arc<User>> {
        &self.by_id
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Adds or replaces a user.
    pub(crate) fn put(&mut self, user: User) {
        self.unindex(user.id);
        self.by_login
            .insert(user.login_name.to_lowercase(), user.id);
        self.by_id.insert(user.id, Arc::new(user));
    }

    /// Removes a user; whether there was one.
    pub(crate) fn remove(&mut self, id: UserId) -> bool {
        self.unindex(id);
        self.by_id.remove(&id).is_some()
    }

    fn unindex(&mut self, id: UserId) {
        if let Some(old) = self.by_id.get(&id) {
            let login = old.login_name.to_lowercase();
            // A name that another user has taken over meanwhile belongs to that user.
            if self.by_login.get(&login) == Some(&id) {
                self.by_login.remove(&login);
            }
        }
    }
}
