//! Bodies of API requests: read as every operation reads its own.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bowline_api::fuzzing::body(input));
