//! A request of spans that lies in pieces.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tracemill::testing::fuzz::pieces(data));
