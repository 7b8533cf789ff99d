//! A whole HTTP connection: it is answered, or ends.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tracemill::testing::fuzz::http(data));
