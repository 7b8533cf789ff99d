//! One unary call: framing, codecs, status, server and client. Knows no OTLP beyond the paths in
//! its options.

pub mod auth;
pub mod codec;
pub mod cors;
mod crowd;
pub mod frame;
mod grpc_call;
pub mod grpc_client;
pub mod grpc_server;
mod http_body;
mod http_call;
pub mod http_client;
mod http_reply;
pub mod http_server;
pub mod lost;
pub mod message;
pub mod metadata;
pub mod options;
pub mod proxy;
mod pulse;
mod running;
pub mod secret;
pub mod service;
pub mod status;
pub mod way;
mod welcome;

pub use codec::Codec;
pub use cors::Cors;
pub use options::{GrpcServerOptions, HttpServerOptions};
pub use status::{Code, Status};
