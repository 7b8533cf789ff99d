//! The bytes of an OTLP request. Pure.
#![forbid(unsafe_code)]

pub mod signal;

pub use signal::Signal;
