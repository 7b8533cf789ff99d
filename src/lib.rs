//! tracemill: the rooms, in the order a span walks them.

pub mod cli;
pub mod config;
pub mod control;
pub mod demo;
pub mod net;
pub mod otlp;
pub mod route;
pub mod router;
pub mod rpc;
pub mod runtime;
pub mod telemetry;
pub mod testing;
pub mod time;
pub mod upstream;
