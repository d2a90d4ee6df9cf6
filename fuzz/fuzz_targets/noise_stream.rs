//! Fuzz target: a described stream of good records and arbitrary bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bowline_control::noise::fuzz::stream(input));
