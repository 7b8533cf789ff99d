//! One sampled pipeline, replayed: the sampler in simulated time, and what is counted of it.

use std::fmt::Write as _;
use std::io::Write;

use super::Sink;
use super::input::Stop;
use crate::config::plan::Sampling;
use crate::sample::simulation::Event;
use crate::sample::{End, Fate, Simulation};

/// Traces, spans and bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amount {
    pub(super) traces: u64,
    pub(super) spans: u64,
    pub(super) bytes: u64,
}

/// A pipeline and its counts.
#[derive(Debug)]
pub(super) struct Tally<'a> {
    pub(super) pipeline: &'a str,
    pub(super) id: &'a str,
    pub(super) simulation: Simulation,
    pub(super) counts: Counts,
    /// Verdicts name the pipeline.
    several: bool,
}

/// What is counted.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    /// First and last arrival, nanoseconds since 1970.
    pub(super) time: (u64, u64),
    /// Traces and their spans, by end.
    pub(super) ends: Vec<(End, Amount)>,
    /// Traces that each policy decided, and what left by it, late spans included.
    pub(super) decided: Vec<Amount>,
    /// Late spans whose policy is not known.
    pub(super) late: Amount,
}

impl<'a> Tally<'a> {
    pub(super) fn new(
        pipeline: &'a str,
        sampling: &'a Sampling,
        at: u64,
        bytes_max: u64,
        several: bool,
    ) -> Result<Self, Stop> {
        let simulation = Simulation::new(&sampling.options, at, bytes_max)?;
        let policies = simulation.shard().program().policies.len();
        let counts = Counts {
            requests: 0,
            bytes: 0,
            time: (at, at),
            ends: Vec::new(),
            decided: vec![Amount::default(); policies],
            late: Amount::default(),
        };
        Ok(Self { pipeline, id: &sampling.id, simulation, counts, several })
    }

    pub(super) fn arrive(
        &mut self,
        at: u64,
        body: &[u8],
        verdicts: Option<&mut Sink>,
    ) -> Result<(), Stop> {
        let arrived = self.step(verdicts, |simulation, seen| simulation.arrive(at, body, seen))?;
        arrived.map_err(Stop::Malformed)?;
        self.counts.requests += 1;
        self.counts.bytes += body.len() as u64;
        self.counts.time.1 = self.counts.time.1.max(at);
        Ok(())
    }

    pub(super) fn settle(&mut self, verdicts: Option<&mut Sink>) -> Result<(), String> {
        let settled = self.step(verdicts, |simulation, seen| simulation.settle(seen));
        settled.map_err(|e| match e {
            Stop::Over(what) => what,
            Stop::Malformed(what) => what.to_string(),
        })
    }

    fn step<T>(
        &mut self,
        mut verdicts: Option<&mut Sink>,
        step: impl FnOnce(&mut Simulation, &mut dyn FnMut(Event<'_>)) -> T,
    ) -> Result<T, Stop> {
        let Self { pipeline, simulation, counts, several, .. } = self;
        let program = simulation.shard().program().clone();
        let mut written = Ok(());
        let done = step(simulation, &mut |event| match event {
            Event::Kept { policy, spans, bytes } => counts.keep(policy, spans, bytes.len() as u64),
            Event::Fate(fate) => {
                counts.end(fate);
                if let Some(sink) = verdicts.as_mut().filter(|_| written.is_ok()) {
                    let policy = fate.policy.map(|at| &*program.policies[usize::from(at)].name);
                    let line = line(&fate, policy, several.then_some(*pipeline));
                    written = sink.write_all(line.as_bytes());
                }
            }
        });
        written.map_err(|e| format!("cannot write verdicts: {e}"))?;
        Ok(done)
    }
}

impl Counts {
    fn keep(&mut self, policy: Option<u16>, spans: u64, bytes: u64) {
        let amount = match policy {
            Some(at) => &mut self.decided[usize::from(at)],
            None => &mut self.late,
        };
        amount.spans += spans;
        amount.bytes += bytes;
    }

    fn end(&mut self, fate: Fate) {
        let at = self.ends.iter().position(|(end, _)| *end == fate.end).unwrap_or_else(|| {
            self.ends.push((fate.end, Amount::default()));
            self.ends.len() - 1
        });
        let amount = &mut self.ends[at].1;
        amount.traces += 1;
        amount.spans += fate.spans;
        if let Some(at) = fate.policy {
            self.decided[usize::from(at)].traces += 1;
        }
    }

    /// Traces and spans that ended so.
    pub(super) fn ended(&self, end: End) -> Amount {
        let found = self.ends.iter().find(|(known, _)| *known == end);
        found.map_or_else(Amount::default, |(_, amount)| *amount)
    }
}

/// A verdict as a line of JSON.
fn line(fate: &Fate, policy: Option<&str>, pipeline: Option<&str>) -> String {
    let mut out = String::from("{\"trace_id\":\"");
    for byte in fate.id {
        _ = write!(out, "{byte:02x}");
    }
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let policy = policy.map_or_else(|| "null".to_owned(), text);
    let end = fate.end.name();
    _ = write!(out, "\",\"verdict\":\"{end}\",\"policy\":{policy},\"spans\":{}", fate.spans);
    if let Some(pipeline) = pipeline {
        _ = write!(out, ",\"pipeline\":{}", text(pipeline));
    }
    out.push_str("}\n");
    out
}
