//! Metric names and help, counters and histograms of a core, Prometheus text, logs.

pub mod options;

pub use options::Options;
