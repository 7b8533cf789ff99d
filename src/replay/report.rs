//! What a replay came to, as a table for people.

use std::fmt::Write as _;

use super::tally::{Amount, Tally};
use crate::sample::stats::Outcome;
use crate::sample::{End, program::Program};

/// Cells of a row: a name, and numbers or nothing.
type Row = (String, Vec<String>);

/// The report of one pipeline.
pub(super) fn pipeline(tally: &Tally<'_>) -> String {
    let Tally { pipeline, id, simulation, counts, .. } = tally;
    let seconds = std::time::Duration::from_nanos(counts.time.1 - counts.time.0).as_secs_f64();
    let mut out = String::new();
    let requests = counts.requests;
    _ = writeln!(out, "{id} in pipeline {pipeline}: {requests} requests in {seconds:.1} s\n");
    let shard = simulation.shard();
    let stats = &shard.stats;
    let kept_bytes = counts.decided.iter().chain([&counts.late]).map(|a| a.bytes).sum();
    let sampled = counts.ended(End::Decided(Outcome::Sampled));
    let arrived = Amount { traces: stats.new_traces, spans: stats.accepted, bytes: counts.bytes };
    let kept = Amount { traces: sampled.traces, spans: stats.kept, bytes: kept_bytes };
    let mut rows = vec![
        header("", &["traces", "spans", "bytes", "traces/s", "spans/s", "bytes/s"]),
        row("arrived", &arrived, Some(seconds)),
        row("kept", &kept, Some(seconds)),
    ];
    for outcome in [Outcome::NotSampled, Outcome::Dropped] {
        let end = End::Decided(outcome);
        rows.push(row(end.name(), &counts.ended(end), None));
    }
    for end in [End::TooLarge, End::Evicted] {
        let amount = counts.ended(end);
        if amount.traces > 0 {
            rows.push(row(end.name(), &amount, None));
        }
    }
    lay_out(&rows, &mut out);
    out.push('\n');
    policies(tally, shard.program(), seconds, &mut out);
    remarks(tally, sampled.spans, &mut out);
    out.push('\n');
    out
}

/// Per policy: traces it votes for, and what it decides, being the first to say so.
fn policies(tally: &Tally<'_>, program: &Program, seconds: f64, out: &mut String) {
    let counts = &tally.counts;
    let stats = &tally.simulation.shard().stats;
    let columns = ["votes", "decides", "spans", "bytes", "traces/s", "spans/s", "bytes/s"];
    let mut rows = vec![header("policy", &columns)];
    for (at, policy) in program.policies.iter().enumerate() {
        let (drops, amount, votes) = (at < program.drops, &counts.decided[at], stats.votes[at]);
        let votes = votes.traces[if drops { Outcome::Dropped } else { Outcome::Sampled } as usize];
        let (name, mut cells) = row(&policy.name, amount, Some(seconds));
        cells.insert(0, votes.to_string());
        if drops {
            // What it drops does not leave.
            cells[2..].iter_mut().for_each(|cell| *cell = "-".into());
        }
        rows.push((if drops { format!("{name} (drops)") } else { name }, cells));
    }
    if counts.late.spans > 0 {
        let (name, mut cells) = row("(late spans)", &counts.late, Some(seconds));
        cells.insert(0, "-".into());
        (cells[1], cells[4]) = ("-".into(), "-".into());
        rows.push((name, cells));
    }
    lay_out(&rows, out);
}

fn remarks(tally: &Tally<'_>, decided_spans: u64, out: &mut String) {
    let stats = &tally.simulation.shard().stats;
    let not_kept = [End::Decided(Outcome::NotSampled), End::Decided(Outcome::Dropped)];
    let not_kept: u64 = not_kept.iter().map(|end| tally.counts.ended(*end).spans).sum();
    let late = [stats.kept.saturating_sub(decided_spans), stats.dropped.saturating_sub(not_kept)];
    let mut lines = Vec::new();
    if late != [0, 0] {
        lines.push(format!("late spans: {} kept, {} not", late[0], late[1]));
    }
    let evicted = tally.counts.ended(End::Evicted).traces;
    if evicted > 0 {
        lines.push(format!("{evicted} traces evicted undecided: num_traces is too small for this"));
    }
    let too_large = tally.counts.ended(End::TooLarge).traces;
    if too_large > 0 {
        lines.push(format!("{too_large} traces above maximum_trace_size_bytes"));
    }
    if stats.decided_early > 0 {
        let early = stats.decided_early;
        lines.push(format!("{early} traces decided early: more was held than the soft limit"));
    }
    if stats.errors > 0 {
        lines.push(format!("{} policy evaluations failed", stats.errors));
    }
    let delayed = tally.simulation.delayed();
    if !delayed.is_zero() {
        let seconds = delayed.as_secs_f64();
        lines.push(format!("requests waited {seconds:.1} s in all for room (block_on_overflow)"));
    }
    if !lines.is_empty() {
        out.push('\n');
    }
    lines.iter().for_each(|line| _ = writeln!(out, "{line}"));
}

fn header(name: &str, columns: &[&str]) -> Row {
    (name.to_owned(), columns.iter().map(|&column| column.to_owned()).collect())
}

/// An amount; its rates if it leaves, else no bytes are known.
fn row(name: &str, amount: &Amount, seconds: Option<f64>) -> Row {
    let Amount { traces, spans, bytes } = *amount;
    let mut cells = vec![traces.to_string(), spans.to_string()];
    let dash = || "-".to_owned();
    match seconds {
        None => cells.extend(std::iter::repeat_with(dash).take(4)),
        Some(seconds) => {
            cells.push(bytes.to_string());
            for count in [traces, spans, bytes] {
                #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
                let rate = count as f64 / seconds;
                cells.push(if seconds > 0.0 { format!("{rate:.1}") } else { dash() });
            }
        }
    }
    (name.to_owned(), cells)
}

/// Names to the left, numbers to the right.
fn lay_out(rows: &[Row], out: &mut String) {
    let width = |cell: &String| cell.chars().count();
    let names = rows.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    let columns = rows.iter().map(|(_, cells)| cells.len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|i| rows.iter().filter_map(|(_, cells)| cells.get(i)).map(width).max().unwrap_or(0))
        .collect();
    for (name, cells) in rows {
        _ = write!(out, "{name:<names$}");
        for (cell, width) in cells.iter().zip(&widths) {
            _ = write!(out, "  {cell:>width$}");
        }
        out.push('\n');
    }
}
