//! The tail sampler of one core: it keeps the spans of a trace until it is complete, decides by
//! policy, and gives up what it keeps. Pure: `now` is an argument, and nothing leaves by itself.
//!
//! Behaviour is the collector's `tail_sampling` (tailsampling 1–3), quirks included.
#![forbid(unsafe_code)]

pub mod bits;
pub mod buffer;
pub mod census;
pub mod chains;
pub mod decided;
pub mod fate;
pub mod gather;
pub mod hash;
pub mod intern;
pub mod mark;
pub mod options;
pub mod otel_state;
pub mod ottl;
pub mod pattern;
pub mod policy;
pub mod program;
pub mod shard;
pub mod simulation;
pub mod slots;
pub mod states;
pub mod stats;
pub mod survivors;
pub mod threshold;
pub mod traces;
pub mod weigh;
pub mod wheel;

pub use census::Census;
pub use fate::{End, Fate};
pub use options::Options;
pub use program::Program;
pub use shard::{Moment, Setup, Shard, Share, Step};
pub use simulation::Simulation;
