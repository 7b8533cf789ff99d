//! ROLE: `tracemill replay`. Recorded requests go through the policies of each sampled pipeline in
//! simulated time, as fast as the machine can: what would be kept, by which policy, how much.
//!
//! A request arrives when its latest span ends, and never before the one before it. In order of
//! arrival (the default) the files are read twice, and of each request only its place and its time
//! stay in memory, 32 bytes; `--order file` reads once and keeps nothing. Beside that, memory is
//! what the sampler itself holds, up to the soft limit of the configuration, where it decides
//! early, as in production.
//!
//! Processors that edit attributes before the sampler do so here too; where its receivers come by
//! different ones, those of the first.
//!
//! What cannot be read costs only its own line: it is told, counted and passed over.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use crate::config::{Plan, Request};
use crate::otlp::Signal;
use crate::otlp::edit::Editor;

mod input;
mod report;
mod tally;

pub use input::Format;
use input::{Inputs, Warnings};
use tally::Tally;

/// Bytes that processors may change in one request.
const EDITS_BYTES_MAX: usize = 256 << 20;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The configuration with the policies.
    pub config: Request,
    /// Files, in their order.
    pub inputs: Vec<String>,
    /// What they hold; `None` looks at the first byte of each.
    pub format: Option<Format>,
    /// In which order requests arrive.
    pub order: Order,
    /// Where the verdict of each trace goes: a file, or `-` for standard output.
    pub verdicts: Option<String>,
}

/// In which order requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By the latest end of a span.
    Arrival,
    /// As they stand in the files.
    File,
}

/// Replays. The report goes to standard output, or to standard error if verdicts go there.
#[must_use]
pub fn run(plan: &Plan, options: &Options) -> ExitCode {
    match replay(plan, options, &mut |warning| eprintln!("{warning}")) {
        Ok(report) => {
            if options.verdicts.as_deref() == Some("-") {
                eprint!("{report}");
            } else {
                // A reader that has gone away is no error.
                _ = io::stdout().write_all(report.as_bytes());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Replays, and gives the report. `warn` is told what was passed over.
///
/// # Errors
/// In words, if there is nothing to replay or verdicts cannot be written.
pub fn replay(
    plan: &Plan,
    options: &Options,
    warn: &mut dyn FnMut(&str),
) -> Result<String, String> {
    let sampled: Vec<_> = plan
        .pipelines
        .iter()
        .filter_map(|p| Some((p.id.as_str(), p.sampling.as_ref()?, p.edits.first()?)))
        .collect();
    let mut editor = Editor::new(EDITS_BYTES_MAX);
    if sampled.is_empty() {
        return Err("no pipeline of the configuration has a tail_sampling processor".into());
    }
    let mut verdicts = options.verdicts.as_deref().map(sink).transpose()?;
    let mut warnings = Warnings::new(warn);
    let mut inputs = Inputs::open(&options.inputs, options.format)?;
    let mut tallies: Vec<Tally<'_>> = Vec::new();
    let several = sampled.len() > 1;
    inputs.each(options.order, &mut warnings, &mut |at, body| {
        if tallies.is_empty() {
            for (pipeline, sampling, _) in &sampled {
                let soft = plan.engine.soft_bytes;
                tallies.push(Tally::new(pipeline, sampling, at, soft, several)?);
            }
        }
        for (tally, (_, _, edits)) in tallies.iter_mut().zip(&sampled) {
            // What is wrong with a request is told by who takes it.
            let edited = editor.edit(edits, Signal::Traces, body).ok().flatten();
            tally.arrive(at, edited.as_deref().unwrap_or(body), verdicts.as_mut())?;
        }
        Ok(())
    })?;
    let mut text = String::new();
    for tally in &mut tallies {
        tally.settle(verdicts.as_mut())?;
        text.push_str(&report::pipeline(tally));
    }
    if let Some(mut verdicts) = verdicts {
        verdicts.flush().map_err(|e| format!("cannot write verdicts: {e}"))?;
    }
    text.push_str(&warnings.summary());
    if tallies.is_empty() {
        return Err(format!("nothing could be read: no request with spans\n{text}"));
    }
    Ok(text)
}

/// Where verdicts go.
type Sink = BufWriter<Box<dyn Write>>;

fn sink(path: &str) -> Result<Sink, String> {
    let out: Box<dyn Write> = match path {
        "-" => Box::new(io::stdout()),
        path => Box::new(File::create(path).map_err(|e| format!("cannot write {path}: {e}"))?),
    };
    Ok(BufWriter::new(out))
}
