//! HTTP/2 as far as unary calls need it, over byte slices: no sockets, no clock, no futures.
//!
//! Written by hand, because at a few hundred nanoseconds per span what a general implementation
//! does per stream and frame would be most of the cost of a hop. [`server`] is one connection of a
//! server. Tests hold it against the `h2` crate, which serves OTLP/HTTP. Pure.
//!
//! Deliberately not here: push, priorities, CONNECT, and what a call means.

mod flow;
pub(crate) mod frame;
mod gather;
pub(crate) mod head;
pub(crate) mod hpack;
mod huffman;
pub(crate) mod server;
pub(crate) mod settings;
mod static_table;
pub(crate) mod table;
pub(crate) mod unpack;
