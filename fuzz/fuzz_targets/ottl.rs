//! OTTL conditions and the spans they are asked of.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tracemill::testing::fuzz::ottl(data));
