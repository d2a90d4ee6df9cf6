//! Who sees whom. With the default policy every device sees every other; the policy engine's
//! classes take this module's place when policies can be set.

use crate::chunk::Entry;

/// Whether a device is shown to anybody: it waits for no approval.
pub fn is_shown(entry: &Entry) -> bool {
    entry.device.authorized
}

/// Whether a device sees its peers: it is approved and its key has not expired.
pub fn sees_peers(entry: &Entry) -> bool {
    entry.device.authorized && !entry.device.expired
}
