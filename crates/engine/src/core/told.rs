//! Holds what a change stored against the events that it noted: nothing that grants something changes
//! unsaid. What must be told of each record stands in `bowline_model::event::told`.
//!
//! Not held against anything: what devices report, which is written without an event (what follows from
//! it is a change with one), and cold objects, which are in no state that could be compared.

use bowline_model::event::told::{Account, Untold};
use bowline_netmap::hot::hot;
use bowline_netmap::snapshot::Snapshot;

use crate::core::draft::Changes;

/// Checks that the events of `changes` tell everything that differs between two states in the records
/// that it wrote. `before` is absent where the tailnet is made by this change.
///
/// # Errors
/// With the first change that no event tells. It is a defect of the use case: nothing may be stored.
pub(crate) fn check(
    before: Option<&Snapshot>,
    after: &Snapshot,
    changes: &Changes,
) -> Result<(), Untold> {
    if changes.rows.is_empty() {
        return Ok(());
    }
    let account = Account::of(changes.events.iter().map(|noted| &noted.event));
    let written = changes.rows.keys();
    let mut hot = written.filter_map(|id| Some((hot(id.kind)?, id.number)));
    hot.try_for_each(|(objects, number)| objects.check_told(&account, before, after, number))
}
