//! What `run` and `sink` say at their end.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, in real time")]

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const TOOL: &str = env!("CARGO_BIN_EXE_tracemill-load");

/// A receiver, until it is dropped.
struct Sink {
    process: Child,
    addresses: Vec<String>,
}

impl Sink {
    fn start(arguments: &[&str]) -> Self {
        let mut process = Command::new(TOOL)
            .args(["sink", "--json", "--quiet"])
            .args(arguments)
            .args(["--listen", "127.0.0.1:0", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).unwrap();
        let addresses = said["listening"].as_array().unwrap().iter();
        let addresses = addresses.map(|a| a.as_str().unwrap().to_owned()).collect();
        Self { process, addresses }
    }

    /// What `run` says of its first address.
    fn load(&self, arguments: &[&str]) -> Value {
        self.load_at(0, arguments)
    }

    fn load_at(&self, address: usize, arguments: &[&str]) -> Value {
        let output = Command::new(TOOL)
            .args(["run", "--json", "--quiet", "--spans-per-request", "5"])
            .args(["--endpoint", &self.addresses[address]])
            .args(arguments)
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Its exit code when it is told to end.
    fn ended(mut self) -> i32 {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        self.process.wait().unwrap().code().unwrap()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn latency(said: &Value, what: &str) -> f64 {
    said["measured"]["latency"][what].as_f64().unwrap()
}

#[test]
fn replies_that_come_after_the_measured_time_count() {
    let sink = Sink::start(&["--delay", "1s"]);
    for pace in [&["--rate", "100requests/s", "--streams", "1000"][..], &["--streams", "7"]] {
        let said = sink.load(&[pace, &["--for", "500ms"][..]].concat());
        assert_eq!(said["measured"]["requests"], 0, "rates are of the measured time: {said}");
        assert_eq!(said["measured"]["latency_unanswered"], 0, "{said}");
        assert_eq!(latency(&said, "count"), said["whole_run"]["sent"]["requests"], "{said}");
        assert!(latency(&said, "p50_us") > 0.9e6, "{said}");
    }
}

#[test]
fn what_is_never_sent_or_answered_counts_until_it_is_given_up() {
    let sink = Sink::start(&["--hang"]);
    let said =
        sink.load(&["--rate", "100requests/s", "--streams", "7", "--for", "1s", "--drain", "1s"]);
    let not_sent = said["whole_run"]["not_sent_requests"].as_u64().unwrap();
    assert!(not_sent > 80, "{said}");
    assert_eq!(said["measured"]["latency_unanswered"], not_sent + 7, "{said}");
    assert_eq!(latency(&said, "count"), (not_sent + 7) as f64, "{said}");
    assert!(latency(&said, "p50_us") > 1.4e6, "{said}");
}

#[test]
fn a_run_of_few_requests_counts_them_all() {
    let sink = Sink::start(&[]);
    for requests in ["1", "3", "50"] {
        let said = sink.load(&["--requests", requests]);
        for counted in [&said["measured"]["requests"], &said["measured"]["latency"]["count"]] {
            assert_eq!(counted.to_string(), requests, "{said}");
        }
        assert!(said["measured"]["seconds"].as_f64().unwrap() > 1e-5, "{said}");
    }
}

#[test]
fn traces_that_are_split_over_addresses_fail_the_sink() {
    for (addresses, code) in [([0, 0], 0), ([0, 1], 1)] {
        let sink = Sink::start(&[]);
        for address in addresses {
            // The same traces.
            sink.load_at(address, &["--requests", "1", "--seed", "1"]);
        }
        assert_eq!(sink.ended(), code, "{addresses:?}");
    }
}
