//! Configurations as text.
#![no_main]

#[path = "../../tests/config_text/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|text: &str| body::config(text));
