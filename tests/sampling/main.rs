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

use engine::{Engine, Naive};

/// When the first request comes, in ms after a sampler's start: soon after a tick, between two,
/// and just before one. The recordings do not tell.
const PHASES_MS: [u64; 3] = [1_100, 1_500, 1_900];

/// Functions that conditions do not know yet.
const UNKNOWN_FUNCTIONS: [&str; 1] = ["SHA256("];

/// What the loader does not compile yet.
fn is_compiled_later(case: &cases::Case) -> bool {
    let text = case.block.to_string();
    text.contains("ottl_condition") || text.contains("enabled_regex_matching")
}

/// Every case at every phase.
fn follows_the_recordings<E: Engine>() {
    let mut failures = String::new();
    let (mut ran, mut failed) = (0, 0);
    for case in cases::all() {
        let text = case.block.to_string();
        if case.refused || UNKNOWN_FUNCTIONS.iter().any(|name| text.contains(name)) {
            continue;
        }
        let options = configuration::options(&case.block, &case.gates).unwrap();
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
    assert!(ran > 0);
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
    for case in cases::all().into_iter().filter(|case| case.refused && !is_compiled_later(case)) {
        if configuration::options(&case.block, &case.gates).is_ok() {
            taken.push(case.name);
        }
    }
    assert!(taken.is_empty(), "{taken:?}");
}
