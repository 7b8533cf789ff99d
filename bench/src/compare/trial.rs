//! One trial: fresh processes, one run of the generator, what all of them say.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::options::Options;
use super::subject::{self, Kind, Running};
use crate::{clock, process};

/// A row of a table: how the generator is called, how many backends a router has.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    pub(crate) name: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) endpoints: usize,
    pub(crate) connections: usize,
    /// Without the relay beside it.
    pub(crate) alone: bool,
}

impl Cell {
    pub(crate) fn new(name: String, arguments: &[&str], options: &Options) -> Self {
        let mut arguments: Vec<_> = arguments.iter().map(ToString::to_string).collect();
        if !arguments.iter().any(|a| a == "--rate") {
            arguments.extend(["--streams".to_owned(), options.streams.to_string()]);
        }
        Self { name, arguments, endpoints: 4, connections: options.connections, alone: false }
    }
}

/// What a trial measured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trial {
    pub(crate) spans_per_second: f64,
    pub(crate) cpu_ns_per_span: f64,
    pub(crate) cpu_ns_per_request: f64,
    /// Of a core: the subject, the generator, everything else on the subject's core.
    pub(crate) cpu_share: f64,
    pub(crate) load_cpu_share: f64,
    pub(crate) others_share: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) spans_per_call_out: f64,
    pub(crate) rss_mib: f64,
    pub(crate) errors: u64,
    /// Spans answered OK that the sinks have not seen; negative: seen without such an answer.
    pub(crate) missing_spans: i64,
    pub(crate) split_traces: u64,
}

/// A folder that is removed again.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs one trial.
pub(crate) fn run(options: &Options, kind: Kind, cell: &Cell) -> Result<Trial, String> {
    let folder = std::env::temp_dir().join(format!("tracemill-load-{}", clock::wall()));
    fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
    let scratch = Scratch(folder);
    let endpoints = if kind == Kind::Relay { 1 } else { cell.endpoints };

    let mut command = Command::new(subject::tool()?);
    command.args(["sink", "--json", "--quiet", "--cpu", &options.cpu_load.to_string()]);
    // A trace spans two neighbouring requests, so a table that fits the cache is enough.
    command.args(["--traces-max", "131072"]);
    command.arg("--listen").args(vec!["127.0.0.1:0"; endpoints]).stdout(Stdio::piped());
    let mut sink = Running::start(&mut command, options.cpu_load, options.cpu_load)?;
    let backends = sink.listening()?;

    let (mut subject, endpoint) = subject::start(options, kind, &backends, &scratch.0)?;
    let mut trial = if cell.connections == 0 {
        idle(options, &subject)?
    } else {
        load(options, cell, &endpoint, &subject)?
    };
    subject.stop();
    let got = sink.summary()?;
    let spans = got["spans"].as_u64().unwrap_or(0);
    trial.missing_spans -= spans as i64;
    trial.split_traces = got["split_traces"].as_u64().unwrap_or(0);
    trial.spans_per_call_out = spans as f64 / got["requests"].as_f64().unwrap_or(1.0).max(1.0);
    Ok(trial)
}

fn rss_mib(subject: &Running) -> f64 {
    process::rss_bytes(subject.pid()).unwrap_or(0) as f64 / 1048576.0
}

/// Nothing happens.
fn idle(options: &Options, subject: &Running) -> Result<Trial, String> {
    subject::rest(options.warm_up);
    let cpu = || process::cpu_ns(subject.pid()).map_err(|e| e.to_string());
    let (from, before) = (clock::now(), cpu()?);
    subject::rest(options.duration);
    let share = (cpu()? - before) as f64 / (clock::now() - from) as f64;
    Ok(Trial { cpu_share: share, rss_mib: rss_mib(subject), ..Trial::default() })
}

fn load(
    options: &Options,
    cell: &Cell,
    endpoint: &str,
    subject: &Running,
) -> Result<Trial, String> {
    let seconds = |d: std::time::Duration| format!("{}s", d.as_secs_f64());
    let cpu = || process::cpu_ns(subject.pid()).unwrap_or(0);
    let (from, busy_before, cpu_before) = (clock::now(), busy_ns(options.cpu_subject), cpu());
    let output = Command::new(subject::tool()?)
        .args(["run", "--json", "--quiet", "--endpoint", endpoint])
        .args(["--cpu", &options.cpu_load.to_string(), "--watch", &subject.pid().to_string()])
        .args(["--connections", &cell.connections.to_string()])
        .args(["--for", &seconds(options.duration), "--warm-up", &seconds(options.warm_up)])
        .args(&cell.arguments)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| e.to_string())?;
    let own = cpu().saturating_sub(cpu_before) as f64;
    let others = (busy_ns(options.cpu_subject) - busy_before - own).max(0.0);
    let text = String::from_utf8_lossy(&output.stdout);
    let said: Value = serde_json::from_str(text.trim()).map_err(|e| format!("run: {e}: {text}"))?;
    let (measured, whole) = (&said["measured"], &said["whole_run"]);
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let count = |value: &Value, what: &str| value[what].as_u64().unwrap_or(0);
    let failed = count(&whole["sent"], "requests") - count(&whole["ok"], "requests");
    Ok(Trial {
        spans_per_second: number(&measured["spans_per_second"]),
        cpu_ns_per_span: number(&measured["watched"]["cpu_ns_per_span"]),
        cpu_ns_per_request: number(&measured["watched"]["cpu_ns_per_request"]),
        cpu_share: number(&measured["watched"]["cpu_share"]),
        load_cpu_share: number(&measured["own_cpu_share"]),
        others_share: others / (clock::now() - from) as f64,
        p50_us: number(&measured["latency"]["p50_us"]),
        p99_us: number(&measured["latency"]["p99_us"]),
        rss_mib: number(&measured["watched"]["rss_bytes"]) / 1048576.0,
        errors: failed + count(&whole["partial_success"], "requests"),
        missing_spans: count(&whole["ok"], "spans") as i64,
        ..Trial::default()
    })
}

/// Time that a CPU was not idle, stolen time included, from `/proc/stat`.
fn busy_ns(cpu: usize) -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{cpu} ");
    let Some(line) = text.lines().find_map(|l| l.strip_prefix(&name)) else { return 0.0 };
    let ticks: Vec<f64> = line.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; a tick is 10 ms.
    [0, 1, 2, 5, 6, 7].iter().filter_map(|&i| ticks.get(i)).sum::<f64>() * 1e7
}
