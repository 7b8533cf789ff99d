//! Options of `compare`.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::subject::Kind;
use crate::args;

/// Measure a hop beside the relay, in interleaved pairs, and write the results to a folder.
///
/// Run it on a quiet machine with two CPUs to itself. 8 connections x 4 streams, spans of about
/// 450 bytes, plaintext without compression; a router has 4 backends, all in one sink process.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Which table
    #[arg(value_enum, default_value_t)]
    pub(crate) what: What,
    /// What is measured beside the relay
    #[arg(long, value_enum, default_value_t, value_name = "KIND")]
    pub(crate) subject: Kind,
    /// Compare the subject with itself: shows how far the method can be trusted
    #[arg(long)]
    pub(crate) against_itself: bool,
    /// The program of the subject; default: `tracemill` beside this program, `otelcol` in PATH
    #[arg(long, value_name = "FILE")]
    pub(crate) program: Option<PathBuf>,
    /// Pairs per cell
    #[arg(long, default_value_t = 15, value_name = "N")]
    pub(crate) pairs: usize,
    /// Measured time of a trial
    #[arg(long = "for", value_parser = args::duration, default_value = "2s", value_name = "TIME")]
    pub(crate) duration: Duration,
    /// Before it
    #[arg(long, value_parser = args::duration, default_value = "1s", value_name = "TIME")]
    pub(crate) warm_up: Duration,
    /// CPU of the subject
    #[arg(long, default_value_t = 0, value_name = "CPU")]
    pub(crate) cpu_subject: usize,
    /// CPU of generator and sinks
    #[arg(long, default_value_t = 1, value_name = "CPU")]
    pub(crate) cpu_load: usize,
    /// Connections of the generator, where the table does not say
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub(crate) connections: usize,
    /// Streams per connection, in the closed loop
    #[arg(long, default_value_t = 4, value_name = "M")]
    pub(crate) streams: usize,
    /// Fail if the subject's CPU time per span is more than X times the floor's in any row
    #[arg(long, value_name = "X")]
    pub(crate) ratio_max: Option<f64>,
    /// Folder for the results; it must not exist. Default: perf/results/DATE-TABLE
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// The tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum What {
    /// Closed loop; requests of 64 KiB and 8 KiB, both field orders
    #[default]
    Saturation,
    /// 40 000 spans/s
    LowRate,
    /// Requests of one span
    OneSpan,
    /// 1 to 64 endpoints
    Endpoints,
    /// 1 to 1000 connections
    Connections,
    /// Latency at half of the subject's saturation
    Latency,
    /// The same rate through both, 50 and 75 % of the subject's saturation
    SameRate,
    /// CPU and memory without traffic, with 0 and 1000 connections
    Idle,
}

impl What {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned())
    }
}
