//! Which endpoint owns a trace, or whatever else the [`Key`] says, and the cutting of requests by
//! owner. Pure.
//!
//! Invariants: for the same endpoint strings and the same key the owner is the one that the
//! collector of the ring's [`Generation`] picks; every item of a request goes to exactly one part,
//! but for metrics without a service that are routed by it, which are counted; a part is never
//! larger than the request it was cut from.
//!
//! What it deliberately does not do: know whether an endpoint is alive, weigh endpoints, or move
//! a trace because of load.
#![forbid(unsafe_code)]

mod hash;
mod key;
mod named;
mod refusal;
mod ring;
mod split;

pub use key::Key;
pub use refusal::{names_no_service, without_service};
pub use ring::{Generation, NAMES_MAX, Ring};
pub use split::{Part, Split};
