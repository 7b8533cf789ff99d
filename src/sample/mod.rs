//! The tail sampler of one core: it keeps the spans of a trace until it is complete, decides by
//! policy, and gives up what it keeps. Pure: `now` is an argument, and nothing leaves by itself.
//!
//! Behaviour is the collector's `tail_sampling` (tailsampling 1–3), quirks included.
#![forbid(unsafe_code)]

pub mod options;
pub mod ottl;
pub mod pattern;

pub use options::Options;
