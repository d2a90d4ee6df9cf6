//! The saved inputs of the fuzz targets, as ordinary tests.

use bowline_policy::fuzzing;
use std::path::Path;

fn run(target: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        check(&std::fs::read(entry.unwrap().path()).unwrap());
        count += 1;
    }
    assert!(count > 0, "no inputs in {}", folder.display());
}

#[test]
fn policy_hujson() {
    run("policy_hujson", fuzzing::hujson);
}

#[test]
fn policy_file() {
    run("policy_file", fuzzing::policy);
}
