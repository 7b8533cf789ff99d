//! The configuration loader on any text: it may refuse, never panic.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        // `tracemill::config::load` belongs here as soon as it takes text.
        std::hint::black_box(text);
    }
});
