//! The cutting of a request by owner.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tracemill::testing::fuzz::split(data));
