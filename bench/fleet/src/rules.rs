//! A policy of a size that companies have.

use std::io::Write as _;

use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

const GROUPS: u32 = 200;
const TAGS: u32 = 100;

/// Writes a policy with `count` rules from groups to tags, each with ports of its own, and one
/// that lets every node see every other.
pub(crate) fn write(count: u32) -> anyhow::Result<NamedTempFile> {
    let group = |n: u32| format!("group:g{}", n % GROUPS);
    let tag = |n: u32| format!("tag:t{}", n % TAGS);
    let member = |n: u32| {
        // The owner of all nodes is in every tenth group.
        let login = if n.is_multiple_of(10) {
            "fleet@example.com".to_owned()
        } else {
            format!("user{n}@example.com")
        };
        (group(n), json!([login]))
    };
    let groups: Map<String, Value> = (0..GROUPS).map(member).collect();
    let owners: Map<String, Value> = (0..TAGS).map(|n| (tag(n), json!([group(n)]))).collect();
    let mut rules = vec![json!({"action": "accept", "src": ["*"], "dst": ["*:*"]})];
    rules.extend((0..count).map(|n| {
        let dst = format!("{}:{}", tag(n / 7), 1 + n % 65_000);
        json!({"action": "accept", "src": [group(n)], "dst": [dst]})
    }));
    let policy = json!({"groups": groups, "tagOwners": owners, "acls": rules});
    let mut file = NamedTempFile::with_suffix(".hujson")?;
    file.write_all(serde_json::to_string_pretty(&policy)?.as_bytes())?;
    Ok(file)
}
