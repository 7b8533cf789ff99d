//! The `debug` exporter's text against what the collector v0.161.0 writes, with its internal log
//! off, for the same requests (`tests/vectors/debug/`, as its `otlp_http` exporter encodes them).

use tracemill::otlp::Signal;
use tracemill::upstream::debug::{Line, Verbosity, describe};

macro_rules! recorded {
    ($signal:literal) => {
        (
            &include_bytes!(concat!("vectors/debug/", $signal, ".bin"))[..],
            [
                include_str!(concat!("vectors/debug/", $signal, ".basic.txt")),
                include_str!(concat!("vectors/debug/", $signal, ".normal.txt")),
                include_str!(concat!("vectors/debug/", $signal, ".detailed.txt")),
            ],
        )
    };
}

#[test]
fn every_verbosity_reads_as_the_collectors() {
    for (signal, (body, wants)) in [
        (Signal::Traces, recorded!("traces")),
        (Signal::Metrics, recorded!("metrics")),
        (Signal::Logs, recorded!("logs")),
    ] {
        let levels = [Verbosity::Basic, Verbosity::Normal, Verbosity::Detailed];
        for (verbosity, want) in levels.into_iter().zip(wants) {
            let got: String = describe(signal, body, verbosity).iter().map(Line::plain).collect();
            for (i, (got, want)) in got.lines().zip(want.lines()).enumerate() {
                assert_eq!(got, want, "{signal:?} {verbosity:?}, line {}", i + 1);
            }
            assert_eq!(got, want, "{signal:?} {verbosity:?}");
        }
    }
}
