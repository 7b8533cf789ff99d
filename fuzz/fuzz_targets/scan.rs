//! The index of a request's bytes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tracemill::testing::fuzz::scan(data));
