//! Options of `sink`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::args;
use crate::wire::grpc;

/// Receive traces on one or more addresses, and say at the end what arrived.
///
/// Ends at SIGINT, SIGTERM or after --for, and then prints the summary; exit code 1 if traces were
/// split over addresses. Faults apply from --fault-at for --fault-for, on the addresses of
/// --fault-on.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Addresses to listen on; port 0 takes a free one. The bound addresses are printed
    #[arg(long, required = true, num_args = 1.., value_name = "ADDR")]
    pub(crate) listen: Vec<SocketAddr>,
    /// End after this time
    #[arg(long = "for", value_parser = args::duration, value_name = "TIME")]
    pub(crate) duration: Option<Duration>,
    /// Traces remembered to see whether one is split over addresses; 0 turns it off. Eight bytes
    /// each. From about a quarter of it on some older ones are forgotten, the summary says how
    /// many
    #[arg(long, default_value_t = 1 << 20, value_name = "N")]
    pub(crate) traces_max: usize,
    /// Spans remembered to count duplicates by (trace id, span id); 0 turns it off
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) spans_max: usize,
    /// At the end, write the spans of each trace to this file: lines of trace id and spans, of the
    /// first --traces-max traces
    #[arg(long, value_name = "FILE")]
    pub(crate) traces_file: Option<PathBuf>,
    /// Run on this CPU only
    #[arg(long, value_name = "CPU")]
    pub(crate) cpu: Option<usize>,
    /// Print JSON: one line with the addresses, one line with the summary
    #[arg(long)]
    pub(crate) json: bool,
    /// No progress lines
    #[arg(long)]
    pub(crate) quiet: bool,

    /// SETTINGS_INITIAL_WINDOW_SIZE announced
    #[arg(long, value_parser = args::bytes, default_value = "4MiB", value_name = "BYTES")]
    pub(crate) stream_window: usize,
    /// Receive window of a connection
    #[arg(long, value_parser = args::bytes, default_value = "16MiB", value_name = "BYTES")]
    pub(crate) connection_window: usize,
    /// SETTINGS_MAX_FRAME_SIZE announced
    #[arg(long, value_parser = args::bytes, default_value = "16KiB", value_name = "BYTES")]
    pub(crate) max_frame: usize,
    /// SETTINGS_MAX_CONCURRENT_STREAMS announced
    #[arg(long, value_name = "N")]
    pub(crate) max_streams: Option<u32>,

    /// Fault: answer this much later
    #[arg(long, value_parser = args::duration, value_name = "TIME")]
    pub(crate) delay: Option<Duration>,
    /// Fault: answer with this code (UNAVAILABLE or 14)
    #[arg(long, value_parser = status, value_name = "CODE[:TIME]")]
    pub(crate) status: Option<Status>,
    /// With --status: say in RetryInfo and grpc-retry-pushback-ms when to try again
    #[arg(long, value_parser = args::duration, value_name = "TIME")]
    pub(crate) retry_info: Option<Duration>,
    /// Fault: read requests and never answer
    #[arg(long)]
    pub(crate) hang: bool,
    /// Fault: refuse connections and close those that are open
    #[arg(long)]
    pub(crate) refuse: bool,
    /// When faults begin, from the start
    #[arg(long, value_parser = args::duration, default_value = "0s", value_name = "TIME")]
    pub(crate) fault_at: Duration,
    /// How long they last; default: for ever
    #[arg(long, value_parser = args::duration, value_name = "TIME")]
    pub(crate) fault_for: Option<Duration>,
    /// Which of the addresses they hit, counted from 0; default: all
    #[arg(long, value_delimiter = ',', value_name = "INDEX,...")]
    pub(crate) fault_on: Vec<usize>,
}

/// A code to answer with, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) code: u32,
    pub(crate) lasting: Option<Duration>,
}

fn status(text: &str) -> Result<Status, String> {
    let (code, lasting) = match text.split_once(':') {
        Some((code, time)) => (code, Some(args::duration(time)?)),
        None => (text, None),
    };
    let code = grpc::code(code)
        .ok_or_else(|| format!("`{code}` is none of {}", grpc::CODES.join(", ")))?;
    Ok(Status { code, lasting })
}

impl Options {
    /// What the option types alone cannot refuse.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.listen.len() > super::judge::ADDRESSES_MAX {
            return Err(format!("--listen: at most {} addresses", super::judge::ADDRESSES_MAX));
        }
        if !(16384..=1 << 20).contains(&self.max_frame) {
            return Err("--max-frame: 16KiB to 1MiB".to_owned());
        }
        for (name, window) in [
            ("--stream-window", self.stream_window),
            ("--connection-window", self.connection_window),
        ] {
            if !(65535..=0x7fff_ffff).contains(&window) {
                return Err(format!("{name}: 65535 to 2147483647"));
            }
        }
        if let Some(index) = self.fault_on.iter().find(|&&i| i >= self.listen.len()) {
            return Err(format!("--fault-on: there is no address {index}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_may_be_limited_in_time() {
        let lasting = Some(Duration::from_secs(10));
        assert_eq!(status("UNAVAILABLE:10s"), Ok(Status { code: 14, lasting }));
        assert_eq!(status("3"), Ok(Status { code: 3, lasting: None }));
        assert!(status("SOMETIMES").is_err());
    }
}
