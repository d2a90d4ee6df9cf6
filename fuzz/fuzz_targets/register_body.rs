//! Bodies of `POST /machine/register`.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| bowline_wire::fuzzing::register(body));
