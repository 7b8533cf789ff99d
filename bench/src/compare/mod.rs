//! `compare`: what a hop costs beside the floor, measured in interleaved pairs.
//!
//! A trial starts fresh processes: sinks and generator pinned to one core, the subject pinned to
//! another. The subject's CPU time and the spans answered are taken at the same two instants by
//! the generator. One pair is the relay and then the subject (the next pair the other way round),
//! for every cell of the table; a ratio is taken inside each pair, so slow minutes of the machine
//! hit both sides.

mod options;
mod results;
mod statistics;
mod subject;
mod trial;

use std::process::ExitCode;
use std::sync::atomic::Ordering;

pub(crate) use options::Options;
use options::What;
use results::Results;
use subject::Kind;
use trial::{Cell, Trial};

use crate::{process, report};

/// Runs the wanted comparison and writes its results.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    process::pin(options.cpu_load).map_err(|e| e.to_string())?;
    let stop = process::stop_flag().map_err(|e| e.to_string())?;
    let mut results = Results::new(options)?;
    let cells = cells(options)?;
    let floor = if options.against_itself { options.subject } else { Kind::Relay };
    'pairs: for pair in 0..options.pairs {
        for cell in &cells {
            let mut sides = [("floor", floor), ("subject", options.subject)];
            if pair % 2 == 1 {
                sides.reverse();
            }
            for (side, kind) in sides {
                if cell.alone && side == "floor" {
                    continue;
                }
                let trial = trial::run(options, kind, cell)?;
                eprintln!("pair {:>2} {:<26} {side:<8} {}", pair + 1, cell.name, line(&trial));
                results.push(pair, cell, side, &trial)?;
                if stop.load(Ordering::Relaxed) {
                    break 'pairs;
                }
            }
        }
    }
    print!("{}", results.finish(&cells)?);
    let Some(most) = options.ratio_max else { return Ok(ExitCode::SUCCESS) };
    let mut verdict = ExitCode::SUCCESS;
    for cell in &cells {
        // NaN, where nothing was measured, is no success either.
        let ratio = results.ratio(&cell.name);
        if ratio.is_nan() || ratio > most {
            eprintln!("{}: {ratio:.1} x the floor's CPU time per span; at most {most}", cell.name);
            verdict = ExitCode::FAILURE;
        }
    }
    Ok(verdict)
}

fn line(trial: &Trial) -> String {
    format!(
        "{:>10} spans/s {:>8.1} ns/span, CPU {:>5.1} %, load {:>5.1} %, others {:>4.1} %, \
         p50 {:>7.0} µs p99 {:>7.0} µs, errors {}, split {}",
        report::thousands(trial.spans_per_second as u64),
        trial.cpu_ns_per_span,
        100.0 * trial.cpu_share,
        100.0 * trial.load_cpu_share,
        100.0 * trial.others_share,
        trial.p50_us,
        trial.p99_us,
        trial.errors,
        trial.split_traces,
    )
}

/// Rates in percent of what the subject reaches in a closed loop, which is tried first.
fn shares_of_saturation(options: &Options, percents: &[u32]) -> Result<Vec<Cell>, String> {
    let mut cells = Vec::new();
    for size in SIZES {
        let name = format!("{size} saturation");
        let most = Cell::new(name, &["--request-bytes", size], options);
        let most = trial::run(options, options.subject, &most)?.spans_per_second;
        for percent in percents {
            let rate = (most * f64::from(*percent) / 100.0).max(1.0);
            let arguments = ["--request-bytes", size, "--rate", &format!("{rate:.0}spans/s")];
            let name = format!("{size} {percent} % ({:.0}k spans/s)", rate / 1e3);
            cells.push(Cell::new(name, &arguments, options));
        }
    }
    Ok(cells)
}

const SIZES: [&str; 2] = ["64KiB", "8KiB"];

/// The rows of the wanted table.
fn cells(options: &Options) -> Result<Vec<Cell>, String> {
    let cell = |name: String, arguments: &[&str]| Cell::new(name, arguments, options);
    let mut cells = Vec::new();
    match options.what {
        What::Saturation => {
            for size in SIZES {
                for order in ["sdk", "collector"] {
                    let arguments = ["--request-bytes", size, "--order", order];
                    cells.push(cell(format!("{size} {order}"), &arguments));
                }
            }
        }
        What::LowRate => {
            for size in SIZES {
                let arguments = ["--request-bytes", size, "--rate", "40000spans/s"];
                cells.push(cell(format!("{size} 40k spans/s"), &arguments));
            }
        }
        What::OneSpan => cells.push(cell("1 span".to_owned(), &["--spans-per-request", "1"])),
        What::Endpoints => {
            for size in SIZES {
                for endpoints in [1, 2, 4, 8, 16, 32, 64] {
                    let name = format!("{size} {endpoints} endpoints");
                    cells.push(Cell { endpoints, ..cell(name, &["--request-bytes", size]) });
                }
            }
        }
        What::Connections => {
            for connections in [1, 10, 100, 1000] {
                let name = format!("64KiB {connections} connections");
                cells.push(Cell { connections, ..cell(name, &["--request-bytes", "64KiB"]) });
            }
        }
        What::Latency => cells = shares_of_saturation(options, &[50])?,
        What::SameRate => cells = shares_of_saturation(options, &[50, 75])?,
        What::Idle => {
            for connections in [0, 1000] {
                let name = format!("idle, {connections} connections");
                cells.push(Cell { connections, alone: true, ..cell(name, &["--idle"]) });
            }
        }
    }
    Ok(cells)
}
