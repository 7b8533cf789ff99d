//! Metric names and help, histograms, Prometheus text, logs, and the two admin pages.
//!
//! A leaf: it knows no other room than `time`. Cores count in plain numbers and [`Histogram`]s of
//! their own; the control thread sums them into a [`Page`] per scrape and serves it. Log lines
//! leave through a bounded buffer and a thread of their own, so writing never blocks a core.
//!
//! Not here: what is counted and when, and any clock: time is an argument.
#![forbid(unsafe_code)]

mod histogram;
pub mod http;
pub mod log;
pub mod names;
pub mod options;
pub mod page;
pub mod process;
mod quiet;
mod stamp;

pub use histogram::Histogram;
pub use options::{HealthCheck, Options};
pub use page::{Metric, Page};
pub use process::Process;
pub use quiet::Quiet;
