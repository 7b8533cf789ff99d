//! Where the `debug` exporter's lines go: the log, or plain to files. For looking, not for traffic:
//! a line is written before the next request is looked at.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use crate::otlp::Signal;
use crate::time::Instant;
use crate::upstream::debug::{Debug, Options};
use crate::upstream::stats::Stats;

/// One `debug` exporter on one core.
#[derive(Debug)]
pub struct Sink {
    id: String,
    debug: Debug,
    internal: bool,
    outputs: Vec<Output>,
    /// By signal.
    stats: [Stats; 3],
}

#[derive(Debug)]
enum Output {
    Stdout,
    Stderr,
    File(File),
}

impl Sink {
    /// The exporter `id`. A path that cannot be opened is named in the log and left out.
    #[must_use]
    pub fn new(id: &str, options: &Options) -> Self {
        let outputs = options.output_paths.iter().filter_map(|path| Output::open(id, path));
        Self {
            id: id.to_owned(),
            debug: Debug::new(options),
            internal: options.use_internal_logger,
            outputs: outputs.collect(),
            stats: Default::default(),
        }
    }

    /// What it has shown, by signal: it loses nothing.
    pub fn stats(&self) -> impl Iterator<Item = (&str, Signal, &Stats)> {
        Signal::ALL.into_iter().zip(&self.stats).map(|(signal, stats)| (&*self.id, signal, stats))
    }

    /// Writes what a request of so many items holds.
    pub fn show(&mut self, now: Instant, signal: Signal, body: &[u8], items: u64) {
        let stats = &mut self.stats[signal as usize];
        stats.offered += items;
        stats.sent += items;
        for line in self.debug.push(now, signal, body) {
            if self.internal {
                line.log(&self.id, signal);
                continue;
            }
            let text = line.plain();
            for output in &mut self.outputs {
                // Nobody is left to tell when the output of a debug line fails.
                let _ = output.write(text.as_bytes());
            }
        }
    }
}

impl Output {
    fn open(id: &str, path: &str) -> Option<Self> {
        match path {
            "stdout" => Some(Self::Stdout),
            "stderr" => Some(Self::Stderr),
            path => match OpenOptions::new().create(true).append(true).open(path) {
                Ok(file) => Some(Self::File(file)),
                Err(e) => {
                    tracing::error!(otelcol.component.id = id, path, "It cannot be opened: {e}");
                    None
                }
            },
        }
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().write_all(text),
            Self::Stderr => io::stderr().write_all(text),
            Self::File(file) => file.write_all(text),
        }
    }
}
