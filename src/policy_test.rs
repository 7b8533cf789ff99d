//! ROLE: `tracemill test`. Policies tried on traces that a file names, as unit tests are: each
//! trace goes through the real sampler in simulated time, and its verdict is compared.
//!
//! Each trace has a sampler of its own, so that limiters and `num_traces` see it alone, unless the
//! file says `together: true`. Nothing is sent and no socket is opened. The format of the file is
//! told by `tracemill test --help` and the README.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::config::{Report, Severity};
use crate::sample::simulation::Event;
use crate::sample::{End, Fate, Simulation};

mod span;
mod suite;

use span::BEGIN;
use suite::{Suite, Trace};

/// Longer names are cut in tables.
const NAME_CHARS_MAX: usize = 60;

/// What a run came to, worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every verdict is as expected.
    Passed,
    /// Some are not.
    Differs,
    /// A file could not be read.
    Unreadable,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Passed => 0,
            Outcome::Differs => 1,
            Outcome::Unreadable => 2,
        })
    }
}

/// Runs the tests of all files: tables to standard output, errors to standard error.
#[must_use]
pub fn run(files: &[String]) -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    let mut worst = Outcome::Passed;
    for (i, file) in files.iter().enumerate() {
        match judge(file, &env) {
            Ok(judged) => {
                judged.warnings.iter().for_each(|warning| eprintln!("{warning}"));
                let gap = if i > 0 { "\n" } else { "" };
                let title = if files.len() > 1 { format!("{gap}{file}\n") } else { String::new() };
                print(&format!("{title}{}", judged.table));
                worst = worst.max(judged.outcome);
            }
            Err(report) => {
                eprintln!("{report}");
                worst = Outcome::Unreadable;
            }
        }
    }
    worst.into()
}

/// Writes to standard output; a reader that has gone away is no error.
fn print(text: &str) {
    use std::io::Write;
    _ = std::io::stdout().write_all(text.as_bytes());
}

/// The tests of one file, done.
#[derive(Clone, Debug)]
pub struct Judged {
    /// Whether all verdicts are as expected.
    pub outcome: Outcome,
    /// One line per trace, and a sum.
    pub table: String,
    /// What the loader says of the configuration.
    pub warnings: Vec<String>,
}

/// Runs the tests of `file`. `env` looks up environment variables.
///
/// # Errors
/// Everything that is wrong with the file or the configuration it names.
pub fn judge(file: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Judged, Report> {
    let suite = suite::read(file, env)?;
    let all: Vec<&Trace> = suite.traces.iter().collect();
    let groups: Vec<&[&Trace]> = match suite.together {
        true => vec![&all],
        false => all.chunks(1).collect(),
    };
    let rows: Vec<Row> = groups.into_iter().flat_map(|traces| rows(&suite, traces)).collect();
    let differ = rows.iter().filter(|row| !row.is_ok()).count();
    let outcome = if differ == 0 { Outcome::Passed } else { Outcome::Differs };
    let warnings = suite.notices.iter().filter(|n| n.severity == Severity::Warning);
    let warnings = warnings.map(ToString::to_string).collect();
    Ok(Judged { outcome, table: table(&rows), warnings })
}

/// A trace and its verdict.
struct Row {
    name: String,
    expect: End,
    expect_policy: Option<String>,
    got: Option<End>,
    policy: Option<String>,
    /// Policies that voted to keep it, if nobody else was there to be voted about.
    votes: Vec<String>,
}

impl Row {
    fn is_ok(&self) -> bool {
        self.got == Some(self.expect)
            && (self.expect_policy.is_none() || self.expect_policy == self.policy)
    }
}

/// One sampler decides about `traces`.
fn rows(suite: &Suite, traces: &[&Trace]) -> Vec<Row> {
    let mut simulation = Simulation::new(&suite.options, BEGIN, u64::MAX)
        .expect("the loader has compiled each policy");
    let mut fates: Vec<Fate> = Vec::new();
    let mut see = |event: Event<'_>| {
        if let Event::Fate(fate) = event {
            fates.push(fate);
        }
    };
    for (at, body) in requests(traces) {
        simulation.arrive(BEGIN + at, &body, &mut see).expect("what is written here is whole");
    }
    simulation.settle(&mut see);
    let shard = simulation.shard();
    let policies = &shard.program().policies;
    let sampled = policies.iter().zip(&shard.stats.votes).filter(|(_, votes)| votes.traces[0] > 0);
    let votes: Vec<String> = match traces {
        [_] => sampled.map(|(policy, _)| policy.name.to_string()).collect(),
        _ => Vec::new(),
    };
    let row = |trace: &&Trace| {
        // The first word counts: what comes later is about late spans.
        let fate = fates.iter().find(|fate| fate.id == trace.id);
        let policy = fate.and_then(|fate| fate.policy);
        Row {
            name: trace.name.clone(),
            expect: trace.expect,
            expect_policy: trace.policy.clone(),
            got: fate.map(|fate| fate.end),
            policy: policy.map(|at| policies[usize::from(at)].name.to_string()),
            votes: votes.clone(),
        }
    };
    traces.iter().map(row).collect()
}

/// Requests in the order in which they arrive: spans of one trace that come at one time come in
/// one request, unless the file gives them different ones.
fn requests(traces: &[&Trace]) -> Vec<(u64, Vec<u8>)> {
    let mut spans = Vec::new();
    for (t, trace) in traces.iter().enumerate() {
        for (number, span) in trace.spans.iter().enumerate() {
            spans.push((span.arrival(), t, number, span));
        }
    }
    spans.sort_by_key(|(arrival, t, number, _)| (*arrival, *t, *number));
    let mut requests = Vec::new();
    for group in spans.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let ((at, _), t, ..) = group[0];
        let members: Vec<_> = group.iter().map(|(_, _, number, span)| (*number, *span)).collect();
        let mut body = Vec::new();
        span::request(&traces[t].id, &members, &mut body);
        requests.push((at, body));
    }
    requests
}

fn table(rows: &[Row]) -> String {
    let verdict = |end: End, policy: &Option<String>| match policy {
        Some(policy) => format!("{} by {policy}", end.name()),
        None => end.name().to_owned(),
    };
    let mut cells = vec![["trace", "expected", "got", "policy", "ok"].map(str::to_owned)];
    for row in rows {
        let mut name: String = row.name.chars().take(NAME_CHARS_MAX).collect();
        if row.name.chars().nth(NAME_CHARS_MAX).is_some() {
            name.push('…');
        }
        cells.push([
            name,
            verdict(row.expect, &row.expect_policy),
            row.got.map_or("nothing", End::name).to_owned(),
            row.policy.clone().unwrap_or_else(|| "-".into()),
            if row.is_ok() { "ok" } else { "DIFFERS" }.into(),
        ]);
    }
    let width = |column: usize| cells.iter().map(|c| c[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..4).map(width).collect();
    let mut out = String::new();
    for (line, row) in cells.iter().zip(std::iter::once(None).chain(rows.iter().map(Some))) {
        for (cell, width) in line.iter().zip(&widths) {
            _ = write!(out, "{cell:<width$}  ");
        }
        _ = writeln!(out, "{}", line[4]);
        if let Some(row) = row.filter(|row| !row.is_ok() && !row.votes.is_empty()) {
            _ = writeln!(out, "    would be sampled by: {}", row.votes.join(", "));
        }
    }
    let differ = rows.iter().filter(|row| !row.is_ok()).count();
    let plural = if rows.len() == 1 { "" } else { "s" };
    _ = writeln!(out, "{} trace{plural}, {differ} not as expected", rows.len());
    out
}
