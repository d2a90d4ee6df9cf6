//! The SSH policy of a device.

use serde_json::{Value, json};

use crate::chunk::Entry;
use crate::snapshot::Snapshot;

/// Clients ask for decisions over the connection that they have: the host in the address of a
/// delegated decision is not looked up. Source: ts-go `ssh/tailssh/tailssh.go`.
const DECISIONS: &str = "https://unused";

/// Whether a device is told who may open sessions on it: it lets sessions in, and peers reach it.
/// For others the list would be long, and nothing to them.
pub(crate) fn is_told(entry: &Entry) -> bool {
    entry.device.facts.ssh && entry.sees_peers()
}

/// The policy as the client reads it.
pub(crate) fn policy(entry: &Entry, snapshot: &Snapshot) -> Value {
    let rules = is_told(entry)
        .then(|| snapshot.compiled().ssh_for(entry.device.id.get()))
        .flatten();
    let rules: Vec<Value> = rules
        .unwrap_or_default()
        .iter()
        .map(|rule| rule.to_json(DECISIONS))
        .collect();
    json!({ "rules": rules })
}
