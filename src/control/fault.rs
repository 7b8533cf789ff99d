//! Why a configuration cannot be started.

use std::fmt;

use crate::net::listener;
use crate::router::trust;
use crate::runtime::{cores, preflight};
use crate::upstream::resolve;

/// Why the process cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The machine lacks something.
    Refused(preflight::Refusal),
    /// The cores that were asked for cannot be had.
    Cores(cores::Error),
    /// A receiver cannot listen.
    Listen {
        /// Component id.
        receiver: String,
        /// Why.
        cause: listener::Error,
    },
    /// A receiver or exporter has no TLS that it could use.
    Tls(trust::Fault),
    /// A `file` exporter cannot open its file.
    File {
        /// Component id.
        exporter: String,
        /// `path`.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
    /// A balancer's resolver lacks something.
    Resolver {
        /// Component id.
        exporter: String,
        /// Why.
        cause: resolve::Error,
    },
    /// A core did not come up.
    Core(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(e) => e.fmt(f),
            Self::Cores(e) => e.fmt(f),
            Self::Listen { receiver, cause } => {
                write!(
                    f,
                    "cannot start pipelines: failed to start \"{receiver}\" receiver: {cause}"
                )
            }
            Self::Tls(fault) => write!(f, "cannot start pipelines: {fault}"),
            Self::File { exporter, path, cause } => write!(
                f,
                "cannot start pipelines: failed to start \"{exporter}\" exporter: open {path}: \
                 {cause}"
            ),
            Self::Resolver { exporter, cause } => write!(
                f,
                "cannot start pipelines: failed to start \"{exporter}\" exporter: {cause}"
            ),
            Self::Core(text) => f.write_str(text),
        }
    }
}
