//! Node capabilities of a device: all of them each time, since absence turns one off.

use std::collections::BTreeMap;

use bowline_model::user::Role;
use bowline_wire::capability;
use serde_json::{Value, json};

use crate::chunk::Entry;
use crate::snapshot::Snapshot;

/// The capabilities of a device, as it learns them itself.
pub fn own(entry: &Entry, snapshot: &Snapshot) -> BTreeMap<String, Vec<Value>> {
    let mut caps = BTreeMap::new();
    let mut set = |name: &str, values: Vec<Value>| caps.insert(name.to_owned(), values);
    set(capability::SSH, vec![]);
    set(capability::FILE_SHARING, vec![]);
    set(capability::DEFAULT_AUTO_UPDATE, vec![json!(false)]);
    set(capability::NO_CAPTIVE_PORTAL_DETECTION, vec![]);
    set(capability::SSH_ENVIRONMENT, vec![]);
    set(capability::SSH_BEHAVIOR_V1, vec![]);
    set(capability::STORE_APP_CONNECTOR_ROUTES, vec![]);
    set(capability::PROBE_UDP_LIFETIME, vec![]);
    let name = json!(snapshot.tailnet().name);
    set(capability::TAILNET_DISPLAY_NAME, vec![name]);
    let owner = entry.device.user.filter(|_| !entry.device.is_tagged());
    if let Some(user) = owner.and_then(|id| snapshot.user(id)) {
        match user.role {
            Role::Owner => {
                set(capability::IS_OWNER, vec![]);
                set(capability::IS_ADMIN, vec![]);
            }
            Role::Admin => {
                set(capability::IS_ADMIN, vec![]);
            }
            Role::NetworkAdmin
            | Role::ItAdmin
            | Role::BillingAdmin
            | Role::Auditor
            | Role::Member => {}
        }
    }
    let net = snapshot.compiled();
    let given = net.caps_for(entry.device.id.get()).unwrap_or_default();
    let given = given
        .into_iter()
        .map(|(name, values)| (name, values.unwrap_or_default()));
    caps.extend(given);
    // A setting of the policy for one operating system.
    if entry.device.facts.os.eq_ignore_ascii_case("macos") {
        match net.policy().settings().one_cgnat_route.as_str() {
            "mac-always" => caps.insert(capability::ONE_CGNAT_ON.to_owned(), Vec::new()),
            "mac-never" => caps.insert(capability::ONE_CGNAT_OFF.to_owned(), Vec::new()),
            _ => None,
        };
    }
    caps
}
