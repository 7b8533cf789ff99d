//! The bytes of an OTLP request. Pure.
//!
//! What it does: finds resources, scopes, items and trace ids in the wire bytes of a request, in
//! one pass, without decoding and without allocating per item ([`scan()`]), and counts items
//! ([`items`]). What processors change in attributes is laid over a copy ([`edit`]).
//!
//! Invariants: bytes are never changed in place, only pointed at; every extent in an [`Index`]
//! lies inside the body it was made from; nesting is bounded; no input makes it panic.
//!
//! What it deliberately does not do: judge the contents of attributes, events, links and
//! metric points (the next hop does), check UTF-8 (the collector does not either), merge fields.
#![forbid(unsafe_code)]

pub mod check;
mod count;
pub mod edit;
mod error;
mod ids;
mod index;
pub mod json;
mod layout;
pub mod metric;
mod pick;
mod pieces;
pub mod reply;
mod scan;
pub(crate) mod schema;
mod signal;
pub mod size;
pub mod span;
pub mod text;
mod usual;
pub mod value;
pub mod wire;
pub mod write;

pub use count::{items, items_of};
pub use error::Error;
pub(crate) use index::keep;
pub use index::{Index, Item, KEEP_ITEMS_MAX, Placed, Resource, Scope};
pub use pick::Pick;
pub use pieces::scan_pieces;
pub use scan::scan;
pub use signal::Signal;
