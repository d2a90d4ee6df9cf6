//! HuJSON: packing gives the input back, formatting is stable and keeps the meaning.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bowline_policy::fuzzing::hujson(input));
