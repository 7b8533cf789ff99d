//! `tracemill-load`: load generator, sink and relay for OTLP/gRPC receivers.
//!
//! One thread per process and hand-written HTTP/2 framing, so that generator and sinks together
//! fit on one core while the system under test saturates another.
//!
//! - [`client`] sends requests, in a closed loop or on a schedule, and measures the replies.
//! - [`sink`] receives, judges (counts, split traces, duplicates, latency) and plays faults.
//! - [`relay`] copies bytes: the floor of what a hop can cost.
//! - [`compare`] runs all of them around a subject and says what it costs beside the relay.
//! - [`codecs`] times the compression libraries on the same requests.
//! - [`wire`] is HTTP/2 as far as unary gRPC needs it; [`proto`] reads protobuf without decoding.
#![allow(clippy::cast_possible_truncation, reason = "lengths are checked where they are read")]

mod args;
mod client;
mod clock;
mod codecs;
mod compare;
mod net;
mod process;
mod proto;
mod relay;
mod report;
mod sink;
mod wire;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    process::raise_file_limit();
    let outcome = match args::Args::parse().command {
        args::Command::Run(options) => client::run(&options),
        args::Command::Sink(options) => sink::run(&options),
        args::Command::Relay(options) => relay::run(&options),
        args::Command::Compare(options) => compare::run(&options),
        args::Command::Codecs(options) => codecs::run(&options),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("tracemill-load: {error}");
            ExitCode::from(2)
        }
    }
}
