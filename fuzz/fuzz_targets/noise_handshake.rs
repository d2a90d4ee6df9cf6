//! Fuzz target: arbitrary bytes as the initiation of a handshake.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bowline_control::noise::fuzz::handshake(input));
