//! STUN datagrams: answers are readable, and never longer than twice the request.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bowline_derp::fuzzing::stun(input));
