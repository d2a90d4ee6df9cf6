//! The fuzzer's saved corpora, and random changes of them, as ordinary tests.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

use proptest::prelude::*;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let files: Vec<Vec<u8>> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(
        files.len() > 4,
        "{} has too little in it",
        directory.display()
    );
    files
}

#[test]
fn saved_register_bodies_keep_every_promise() {
    for body in corpus("register_body") {
        bowline_wire::fuzzing::register(&body);
    }
}

#[test]
fn saved_map_bodies_keep_every_promise() {
    for body in corpus("map_body") {
        bowline_wire::fuzzing::map(&body);
    }
}

proptest! {
    #[test]
    fn changed_bodies_keep_every_promise(which in 0usize..100, at in 0usize..2000, byte: u8, cut in 0usize..2000) {
        for (target, check) in [
            ("register_body", bowline_wire::fuzzing::register as fn(&[u8])),
            ("map_body", bowline_wire::fuzzing::map),
        ] {
            let files = corpus(target);
            let mut body = files[which % files.len()].clone();
            if let Some(slot) = body.get_mut(at) {
                *slot = byte;
            }
            check(&body);
            body.truncate(cut);
            check(&body);
        }
    }
}
