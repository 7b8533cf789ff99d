//! The demonstration as a user runs it: the binary, its table, its proof, its exit code.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Output, Stdio};

use tracemill::runtime::preflight;

fn demo(arguments: &[&str]) -> Option<Command> {
    if let Err(refusal) = preflight::check() {
        eprintln!("SKIPPED, nothing was tested: {refusal}");
        return None;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracemill"));
    command.arg("demo").args(arguments).stdin(Stdio::null());
    Some(command)
}

/// The number behind `words`.
fn number(text: &str, words: &str) -> u64 {
    let at = text.find(words).unwrap_or_else(|| panic!("{words:?} is not in\n{text}"));
    let rest = text[at + words.len()..].chars();
    let digits: String = rest.take_while(|c| c.is_ascii_digit() || *c == ',').collect();
    digits.replace(',', "").parse().unwrap_or_else(|_| panic!("{words:?} in\n{text}"))
}

/// The lines that everything rests on.
fn assert_proven(text: &str) {
    let line = |start: &str| text.lines().find(|l| l.trim_start().starts_with(start));
    for name in [
        "spans",
        "traces",
        "placement",
        "verdicts",
        "store",
        "late",
        "router",
        "samplers",
        "exporters",
    ] {
        assert!(line(&format!("ok    {name} ")).is_some(), "{name} in\n{text}");
    }
    assert!(text.contains("of them split over samplers: 0\n"), "{text}");
    assert!(text.contains("other verdicts: 0"), "{text}");
    assert!(number(text, "the hottest endpoint got ") > 0, "{text}");
    assert!(text.contains("Every promise was kept.\n"), "{text}");
    assert!(number(text, "spans      sent ") > 0, "{text}");
    // Errors, slow traces and some of the others are kept, the rest is not.
    assert!(number(text, " = kept ") > 0 && number(text, " + dropped ") > 0, "{text}");
    let late = number(text, "late       of ");
    let (kept, dropped) = (number(text, "decision "), number(text, "a kept trace, "));
    assert!(late > 0 && kept + dropped == late, "{late} {kept} {dropped}\n{text}");
    assert!(!text.contains('\x1b'), "no terminal, no control characters:\n{text}");
    assert!(text.lines().all(|l| l.chars().count() <= 100), "{text}");
}

#[test]
fn a_short_demo_shows_both_tiers_and_proves_every_verdict() {
    let Some(mut command) = demo(&["--for", "4s", "--rate", "5000"]) else { return };
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{status}\n{text}\n{errors}");
    assert_proven(&text);
    let rows = text.lines().filter(|l| l.contains("127.0.0.1:") && l.ends_with(" ms")).count();
    assert!(rows >= 4, "rows for each sampler:\n{text}");
    assert!(text.contains(" ns CPU/span, ") && text.contains(" MiB buffered\n"), "{text}");
    // The last table: each policy has done something, and decisions were made.
    for policy in ["no-health-checks", "errors", "slow", "five-percent", "all traces"] {
        let last = text.lines().rfind(|l| l.trim_start().starts_with(policy)).unwrap();
        let sum: u64 =
            last[26..].split_whitespace().map(|n| n.replace(',', "").parse::<u64>().unwrap()).sum();
        assert!(sum > 0, "{last}\n{text}");
    }
    assert!(number(&text, "waiting for a decision: ") > 0, "{text}");
    assert!(text.lines().any(|l| l.starts_with("       store: ") && !l.contains(": 0 ")), "{text}");
}

#[test]
fn an_interrupt_ends_the_demo_early_and_with_the_proof() {
    let Some(mut command) = demo(&["--for", "10m", "--rate", "3000"]) else { return };
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains("       store: ") {
        assert!(stdout.read_line(&mut text).unwrap() > 0, "it ended by itself:\n{text}");
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    stdout.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    assert_proven(&text);
}

#[test]
fn a_demo_that_could_show_nothing_is_refused_with_the_reason() {
    for (arguments, why) in [
        (["--for", "0s"], "too short to show anything, write at least 1s"),
        (["--for", "-3s"], "must not be negative"),
        (["--rate", "0"], "0 is not in 1.."),
    ] {
        let Some(mut command) = demo(&arguments) else { return };
        let Output { status, stderr, .. } = command.output().unwrap();
        let errors = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(2), "{arguments:?}\n{errors}");
        assert!(errors.contains(why), "{arguments:?}\n{errors}");
    }
}
