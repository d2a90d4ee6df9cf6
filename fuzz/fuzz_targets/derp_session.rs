//! A relay session: whatever a client sends, it ends with it and is forgotten.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bowline_derp::fuzzing::session(input));
