//! Users, and acting for other users.

pub mod acting;
pub mod user;
