//! Policy files: read, checked, applied to the tailnet that they imply.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| bowline_policy::fuzzing::policy(input));
