//! The recorded cases through a real process and real connections: tracemill, or the collector
//! itself, which proves this judge.
//!
//! `tests/sampling/run [--bin PATH] [--collector] [--at-once N] [NAME…]`: without a path the
//! tracemill of this tree; `--collector` for a binary that does not know the key `tracemill`; a
//! NAME is part of a case's. Cases mostly sleep, so many run at once.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "../cases.rs"]
mod cases;
#[path = "../../e2e/client.rs"]
#[allow(dead_code, reason = "the end-to-end tests use more of it")]
mod client;
#[path = "../configuration.rs"]
#[allow(dead_code, reason = "the options are read by tests in simulated time")]
mod configuration;
#[path = "../judge.rs"]
mod judge;
#[path = "../otlp_json.rs"]
mod otlp_json;
mod process;
mod sink;

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cases::Case;
use client::{Client, TRACES, frame, request};
use judge::{Outcome, judge};
use process::{Process, Program};
use prost::Message as _;
use sink::Sink;
use tokio::sync::Semaphore;

/// A process that does not end on its own gets this long.
const ENDING: Duration = Duration::from_secs(20);
/// Starting costs CPU, and what runs already must keep time.
const STARTS_AT_ONCE: usize = 2;

struct Arguments {
    program: Program,
    at_once: usize,
    names: Vec<String>,
}

fn arguments() -> Arguments {
    let mut all = std::env::args().skip(1);
    let bin = PathBuf::from(env!("CARGO_BIN_EXE_tracemill"));
    let mut program = Program { bin, is_collector: false };
    let (mut at_once, mut names) = (24, Vec::new());
    while let Some(argument) = all.next() {
        match argument.as_str() {
            "--bin" => program.bin = all.next().expect("--bin PATH").into(),
            "--collector" => program.is_collector = true,
            "--at-once" => at_once = all.next().and_then(|n| n.parse().ok()).expect("--at-once N"),
            _ => names.push(argument),
        }
    }
    Arguments { program, at_once, names }
}

fn main() {
    let Arguments { program, at_once, names } = arguments();
    let wanted = |case: &Case| names.is_empty() || names.iter().any(|n| case.name.contains(n));
    let cases: Vec<Case> = cases::all().into_iter().filter(wanted).collect();
    let count = cases.len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    let program = Rc::new(program);
    let cases = cases.into_iter().map(Rc::new).collect();
    let failed = local.block_on(&runtime, run_all(cases, &program, at_once));
    let again: Vec<_> = failed.iter().map(|(case, _)| Rc::clone(case)).collect();
    let late = again.len();
    // A machine that is too busy is late, which a second look without company tells.
    let failed = local.block_on(&runtime, run_all(again, &program, 2));
    for (case, wrong) in &failed {
        let start: String = wrong.chars().take(3_000).collect();
        println!("FAILED {}: {}\n{}", case.name, case.about, start.trim_end());
    }
    let late = late - failed.len();
    println!("{} of {count} cases hold, {late} of them the second time", count - failed.len());
    std::process::exit(i32::from(!failed.is_empty() || count == 0));
}

/// The cases that fail, and how.
async fn run_all(
    cases: Vec<Rc<Case>>,
    program: &Rc<Program>,
    at_once: usize,
) -> Vec<(Rc<Case>, String)> {
    let places = Rc::new(Semaphore::new(at_once));
    let starts = Rc::new(Semaphore::new(STARTS_AT_ONCE));
    let mut running = tokio::task::JoinSet::new();
    for case in cases {
        let (program, places, starts) =
            (Rc::clone(program), Rc::clone(&places), Rc::clone(&starts));
        running.spawn_local(async move {
            let _place = places.acquire().await.unwrap();
            let wrong = run(&case, &program, &starts).await.err()?;
            Some((case, wrong))
        });
    }
    running.join_all().await.into_iter().flatten().collect()
}

async fn run(case: &Case, program: &Program, starts: &Semaphore) -> Result<(), String> {
    let starting = starts.acquire().await.unwrap();
    let sink = Sink::start().await;
    let mut process = Process::start(program, case, &sink);
    if case.refused {
        drop(starting);
        return process.refuses(Duration::from_millis(case.wait_ms).max(ENDING / 2)).await;
    }
    process.is_ready(ENDING).await?;
    drop(starting);
    let client = Client::connect(process.receiver()).await;
    let mut first: Option<Instant> = None;
    for sent in &case.requests {
        let framed = frame(0, &sent.body.encode_to_vec());
        let start = *first.get_or_insert_with(Instant::now);
        sleep_until(start, sent.at_ms).await;
        let answer = client.call(request(TRACES, &[]), framed).await;
        if !answer.is_ok() {
            return Err(format!("  a request was answered {answer:?}\n{}", process.log()));
        }
    }
    let start = first.unwrap_or_else(Instant::now);
    sleep_until(start, case.wait_ms).await;
    let mut outcome = Outcome::default();
    if case.scrape {
        outcome.samples = process.samples().await?;
    }
    if case.sigterm {
        process.terminates(ENDING).await?;
    }
    outcome.out = sink.received(start);
    judge(case, &outcome).map_err(|wrong| wrong + &process.log())
}

async fn sleep_until(start: Instant, ms: u64) {
    tokio::time::sleep_until((start + Duration::from_millis(ms)).into()).await;
}
