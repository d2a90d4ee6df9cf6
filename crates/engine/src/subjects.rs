//! All subjects, as far as the engine runs something of theirs by itself. A new one is named here.

use std::sync::Arc;

use bowline_store::Store;

use crate::core::clock::{Clock, Random};
use crate::core::engine::Subjects;
use crate::core::engine::{Engine, OpenError, Settings};
use crate::{credential, device, logs, webhook};

static SUBJECTS: Subjects = Subjects {
    due: &[device::due::RULE, credential::due::RULE, webhook::due::RULE],
    begins: &[device::session::expect_back],
    tasks: &[device::session::watch_rivalries],
    jobs: &[
        logs::retention::ALL,
        logs::retention::OF_TAILNET,
        webhook::deliver::WORK,
    ],
    follows: &[webhook::announce::follow],
};

impl Engine {
    /// Loads every tailnet and starts its writer. Tailnets whose policies take long to compile come
    /// later: until then they are not served.
    ///
    /// # Errors
    /// When the database cannot be read, or an object in it.
    pub async fn open(
        store: Store,
        settings: Settings,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, OpenError> {
        Self::open_with(store, settings, clock, random, &SUBJECTS).await
    }
}
