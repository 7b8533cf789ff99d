//! The command line, and how sizes and durations are written on it.

use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::{client, codecs, compare, relay, sink};

/// Load generator, sink and relay for OTLP/gRPC receivers.
#[derive(Debug, Parser)]
#[command(name = "tracemill-load", version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Send traces to a receiver and measure its replies
    Run(client::Options),
    /// Receive traces: count, check that no trace is split, measure end-to-end latency
    Sink(sink::Options),
    /// Copy bytes between connections: the least that a hop can cost
    Relay(relay::Options),
    /// Measure a hop beside the relay, in interleaved pairs
    Compare(compare::Options),
    /// What the compression libraries alone cost
    Codecs(codecs::Options),
}

/// `500ms`, `10s`, `1m30s`, or a plain number of seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration such as 500ms, 10s or 1m30s");
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| wrong());
    }
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let value: f64 = rest[..number].parse().map_err(|_| wrong())?;
        rest = &rest[number..];
        let unit = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
        total += value
            * match &rest[..unit] {
                "h" => 3600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" => 1e-6,
                "ns" => 1e-9,
                _ => return Err(wrong()),
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).map_err(|_| wrong())
}

/// `8192`, `8KiB`, `1MiB`: bytes.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let scale = match text[digits..].trim() {
        "" | "B" => 1,
        "KiB" | "K" | "k" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return Err(format!("`{text}` is not a size such as 8192, 64KiB or 1MiB")),
    };
    let value: usize = text[..digits].parse().map_err(|e| format!("`{text}`: {e}"))?;
    value.checked_mul(scale).ok_or_else(|| format!("`{text}` is too large"))
}

/// A share between 0 and 1: `0.05` or `5%`.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let value = match text.strip_suffix('%') {
        Some(percent) => percent.parse::<f64>().map(|p| p / 100.0),
        None => text.parse::<f64>(),
    };
    match value {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err(format!("`{text}` is not a share such as 0.05 or 5%")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, want_ms) in
            [("500ms", 500.0), ("10s", 10e3), ("1m30s", 90e3), ("2", 2e3), ("0.5", 500.0)]
        {
            let got = duration(text).expect(text).as_secs_f64() * 1e3;
            assert!((got - want_ms).abs() < 1e-6, "{text}: {got}");
        }
        for text in ["", "s", "10 s", "10x", "-1s"] {
            assert!(text.is_empty() || duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(bytes("64KiB"), Ok(65536));
        assert_eq!(bytes("100"), Ok(100));
        assert!(bytes("64KB").is_err());
        assert!(bytes("KiB").is_err());
    }

    #[test]
    fn shares_are_fractions_or_percent() {
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("0.05"), Ok(0.05));
        assert!(share("5").is_err());
    }
}
