//! `tracemill-load`: load generator, sink and relay for OTLP receivers.
fn main() {}
