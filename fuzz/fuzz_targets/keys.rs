//! The cutting of a request by every routing key.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tracemill::testing::fuzz::keys(data));
