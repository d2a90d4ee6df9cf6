//! Bodies of `POST /machine/map`.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| bowline_wire::fuzzing::map(body));
