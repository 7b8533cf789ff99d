//! Which endpoint owns a trace, and the cutting of requests by owner. Pure.
//!
//! Invariants: for the same endpoint strings and trace id the owner is the one that the collector
//! of the ring's [`Generation`] picks; every item of a request goes to exactly one part; a part
//! is never larger than the request it was cut from.
//!
//! What it deliberately does not do: know whether an endpoint is alive, weigh endpoints, or move
//! a trace because of load.
#![forbid(unsafe_code)]

mod ring;
mod split;

pub use ring::{Generation, NAMES_MAX, Ring};
pub use split::{Part, Split};
