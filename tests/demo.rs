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

/// The lines that everything rests on.
fn assert_proven(text: &str) {
    let line = |start: &str| text.lines().find(|l| l.trim_start().starts_with(start));
    for name in ["spans", "traces", "placement", "counters"] {
        assert!(line(&format!("ok    {name} ")).is_some(), "{name} in\n{text}");
    }
    assert!(text.contains("of them split over endpoints: 0\n"), "{text}");
    assert!(text.contains("Every promise was kept.\n"), "{text}");
    let spans = line("ok    spans").unwrap();
    assert!(spans.contains(" = received ") && !spans.contains("sent 0 "), "{spans}");
    assert!(!text.contains('\x1b'), "no terminal, no control characters:\n{text}");
}

#[test]
fn a_short_demo_shows_the_table_and_proves_that_no_trace_was_split() {
    let Some(mut command) = demo(&["--for", "1s", "--rate", "5000"]) else { return };
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = String::from_utf8(stdout).unwrap();
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{status}\n{text}\n{errors}");
    assert_proven(&text);
    let rows = text.lines().filter(|l| l.contains("127.0.0.1:") && l.ends_with(" ms")).count();
    assert!(rows >= 4, "a row for each endpoint:\n{text}");
    assert!(text.contains(" ns CPU/span, ") && text.contains(" in flight\n"), "{text}");
}

#[test]
fn an_interrupt_ends_the_demo_early_and_with_the_proof() {
    let Some(mut command) = demo(&["--for", "10m", "--rate", "3000"]) else { return };
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    while !text.contains(" in flight\n") {
        assert!(stdout.read_line(&mut text).unwrap() > 0, "it ended by itself:\n{text}");
    }
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    stdout.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    assert_proven(&text);
}
