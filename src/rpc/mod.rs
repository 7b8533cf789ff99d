//! One unary call: framing, codecs, status, server and client. Knows no OTLP.

pub mod codec;
pub mod options;

pub use codec::Codec;
pub use options::{GrpcServerOptions, HttpServerOptions};
