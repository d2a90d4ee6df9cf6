//! DERP frames: whatever decodes must survive being encoded and decoded again.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bowline_derp::fuzzing::frames(input));
