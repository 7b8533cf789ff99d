//! The sampler judged in simulated time: by recordings of the collector, and by a naive one.

#![allow(clippy::unwrap_used, reason = "a test")]

#[allow(dead_code, reason = "some fields only concern a process")]
mod cases;
#[allow(dead_code, reason = "some fields only concern a process")]
mod configuration;
mod differential;
mod engine;
mod judge;
mod otlp_json;
mod shard;
mod ticks;

use engine::{Engine, Naive};

/// When the first request comes, in ms after a sampler's start: soon after a tick, between two,
/// and just before one. The recordings do not tell.
const PHASES_MS: [u64; 3] = [1_100, 1_500, 1_900];

/// Every case at every phase.
fn follows_the_recordings<E: Engine>() {
    let mut failures = String::new();
    let (mut ran, mut failed, mut unknown) = (0, 0, Vec::new());
    for case in cases::all() {
        if case.refused {
            continue;
        }
        let options = match configuration::options(&case.block, &case.gates) {
            Ok(options) => options,
            // A function that is refused is a difference that is told.
            Err(text) if text.contains("function") => {
                unknown.push(case.name.clone());
                continue;
            }
            Err(text) => panic!("{}: {text}", case.name),
        };
        for phase in PHASES_MS {
            ran += 1;
            if let Err(wrong) = judge::judge(&case, &engine::run::<E>(&case, &options, phase)) {
                failed += 1;
                let start: String = wrong.chars().take(2_000).collect();
                failures += &format!("{} at {phase} ms: {}\n{start}", case.name, case.about);
            }
        }
    }
    assert!(failures.is_empty(), "{failed} of {ran} failed:\n{failures}");
    assert!(unknown.len() < 6, "functions are missing: {unknown:?}");
    println!("not run, a function is missing: {unknown:?}");
}

#[test]
fn the_naive_sampler_follows_the_recordings() {
    follows_the_recordings::<Naive>();
}

#[test]
fn the_shard_follows_the_recordings() {
    follows_the_recordings::<shard::Real>();
}

#[test]
fn what_the_collector_refuses_is_refused() {
    let mut taken = Vec::new();
    for case in cases::all().into_iter().filter(|case| case.refused) {
        if configuration::options(&case.block, &case.gates).is_ok() {
            taken.push(case.name);
        }
    }
    assert!(taken.is_empty(), "{taken:?}");
}
