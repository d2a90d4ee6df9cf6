//! The saved inputs of the fuzz targets, as ordinary tests.

use std::path::Path;

use bowline_derp::fuzzing;

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
fn derp_frames() {
    run("derp_frames", fuzzing::frames);
}

#[test]
fn derp_session() {
    run("derp_session", fuzzing::session);
}

#[test]
fn stun() {
    run("stun", fuzzing::stun);
}
