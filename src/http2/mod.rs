//! HTTP/2 as far as unary calls need it, over byte slices: no sockets, no clock, no futures.
//!
//! Written by hand, because at a few hundred nanoseconds per span what a general implementation
//! does per stream and frame would be most of the cost of a hop. [`client`] is one connection of a
//! client, [`server`] one of a server. Tests hold both against the `h2` crate, which serves
//! OTLP/HTTP. Pure.
//!
//! Deliberately not here: push, priorities, CONNECT, and what a call means.
#![forbid(unsafe_code)]
#![allow(
    clippy::cast_possible_truncation,
    reason = "lengths, ids and codes of frames, cut to their fields where they are written"
)]

use bytes::Bytes;

pub(crate) mod client;
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

/// Where frames are written to.
pub(crate) trait Out {
    /// Bytes that wait there.
    fn len(&self) -> usize;

    /// Where bytes are appended.
    fn own(&mut self) -> &mut Vec<u8>;

    /// Appends bytes that need not be copied.
    fn lend(&mut self, bytes: Bytes);
}

/// What was read of the bytes that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fed {
    pub(crate) bytes: usize,
    /// What is left is no whole frame.
    pub(crate) hungry: bool,
}
