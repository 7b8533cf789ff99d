//! HTTP/2 as far as unary gRPC needs it, over plain byte slices: no sockets here.
//!
//! Written by hand for one reason: at a few hundred nanoseconds per span a general
//! implementation would cost more than the system under test. The tests hold it against `h2`.

pub(crate) mod frame;
pub(crate) mod grpc;
pub(crate) mod headers;
pub(crate) mod hpack;
pub(crate) mod huffman;
pub(crate) mod settings;
pub(crate) mod table;
