//! Names of devices that nobody else has.

use bowline_model::id::DeviceId;
use bowline_model::name;
use bowline_netmap::snapshot::Snapshot;

/// A free first label for a device, as near to the wanted one as possible: itself, then `-1`,
/// `-2`, …. `own` may keep what it has.
pub(crate) fn free_name(snapshot: &Snapshot, wanted: &str, own: Option<DeviceId>) -> String {
    let wanted = if wanted.is_empty() { "node" } else { wanted };
    let is_free = |n: usize| {
        let candidate = name::candidate(wanted, n);
        snapshot
            .device_by_name(&candidate)
            .is_none_or(|entry| Some(entry.device.id) == own)
    };
    // Nearly always the first few. A fleet of one name is then found by doubling and halving, so
    // that the ten-thousandth costs twenty look-ups and not ten thousand.
    if let Some(n) = (0..8).find(|n| is_free(*n)) {
        return name::candidate(wanted, n);
    }
    let mut high = 8;
    while !is_free(high) {
        high *= 2;
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if is_free(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    name::candidate(wanted, high)
}
