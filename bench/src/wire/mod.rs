//! HTTP/2 as far as unary gRPC needs it, over plain byte slices: no sockets here.
//!
//! The framing is the one of tracemill, by its sources and not by its library, which would make a
//! load tool of a few crates one of hundreds. The tests hold it against `h2`.
#![allow(dead_code, reason = "a server and a client of another kind use other parts")]

#[path = "../../../src/http2/frame.rs"]
pub(crate) mod frame;
#[path = "../../../src/http2/gather.rs"]
pub(crate) mod gather;
pub(crate) mod grpc;
pub(crate) mod headers;
#[path = "../../../src/http2/hpack.rs"]
pub(crate) mod hpack;
#[path = "../../../src/http2/huffman.rs"]
mod huffman;
#[path = "../../../src/http2/settings.rs"]
pub(crate) mod settings;
#[path = "../../../src/http2/static_table.rs"]
mod static_table;
#[path = "../../../src/http2/table.rs"]
pub(crate) mod table;
#[path = "../../../src/http2/unpack.rs"]
mod unpack;
