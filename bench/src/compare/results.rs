//! The folder of a comparison: every trial, the table, the machine, how it was made.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::SIZES;
use super::options::{Options, What};
use super::statistics::Median;
use super::subject::Kind;
use super::trial::{Cell, Trial};
use crate::clock;

const COLUMNS: &str = "pair,cell,side,spans_per_second,cpu_ns_per_span,cpu_ns_per_request,\
cpu_share,load_cpu_share,others_share,p50_us,p99_us,spans_per_call_out,rss_mib,errors,\
missing_spans,split_traces";

/// Collects trials.
#[derive(Debug)]
pub(crate) struct Results {
    folder: PathBuf,
    raw: File,
    what: What,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    pair: usize,
    cell: String,
    side: &'static str,
    trial: Trial,
}

/// A value of a trial.
type Pick = fn(&Trial) -> f64;

impl Results {
    pub(crate) fn new(options: &Options) -> Result<Self, String> {
        let what = options.what.name();
        let subject = match options.subject {
            Kind::Relay => "-relay",
            Kind::Tracemill => "",
            Kind::Collector => "-collector",
        };
        let folder = options.out.clone().unwrap_or_else(|| {
            Path::new("perf/results").join(format!("{}-{what}{subject}", today()))
        });
        let wrong = |e: std::io::Error| format!("{}: {e}", folder.display());
        if let Some(parent) = folder.parent() {
            fs::create_dir_all(parent).map_err(wrong)?;
        }
        fs::create_dir(&folder).map_err(wrong)?;
        let mut raw = File::create(folder.join("raw.csv")).map_err(wrong)?;
        writeln!(raw, "{COLUMNS}").map_err(wrong)?;
        fs::write(folder.join("env.txt"), environment()).map_err(wrong)?;
        fs::write(folder.join("README.md"), readme(options)).map_err(wrong)?;
        Ok(Self { folder, raw, what: options.what, rows: Vec::new() })
    }

    /// Keeps a trial, and writes it at once.
    pub(crate) fn push(
        &mut self,
        pair: usize,
        cell: &Cell,
        side: &'static str,
        t: &Trial,
    ) -> Result<(), String> {
        writeln!(
            self.raw,
            "{},{},{side},{:.0},{:.2},{:.1},{:.4},{:.4},{:.4},{:.1},{:.1},{:.2},{:.2},{},{},{}",
            pair + 1,
            cell.name,
            t.spans_per_second,
            t.cpu_ns_per_span,
            t.cpu_ns_per_request,
            t.cpu_share,
            t.load_cpu_share,
            t.others_share,
            t.p50_us,
            t.p99_us,
            t.spans_per_call_out,
            t.rss_mib,
            t.errors,
            t.missing_spans,
            t.split_traces,
        )
        .map_err(|e| e.to_string())?;
        self.rows.push(Row { pair, cell: cell.name.clone(), side, trial: t.clone() });
        Ok(())
    }

    fn of<'a>(&'a self, cell: &'a str, side: &'a str) -> impl Iterator<Item = &'a Row> {
        self.rows.iter().filter(move |r| r.cell == cell && r.side == side)
    }

    fn values(&self, cell: &str, side: &str, pick: Pick) -> Vec<f64> {
        self.of(cell, side).map(|r| pick(&r.trial)).collect()
    }

    /// `join` of two cells and sides, pair by pair.
    fn paired(
        &self,
        one: (&str, &str),
        other: (&str, &str),
        pick: Pick,
        join: fn(f64, f64) -> f64,
    ) -> Vec<f64> {
        self.of(one.0, one.1)
            .filter_map(|r| {
                let beside = self.of(other.0, other.1).find(|o| o.pair == r.pair)?;
                Some(join(pick(&r.trial), pick(&beside.trial)))
            })
            .collect()
    }

    fn ratios(&self, cell: &str) -> Vec<f64> {
        self.paired((cell, "subject"), (cell, "floor"), |t| t.cpu_ns_per_span, |a, b| a / b)
    }

    /// CPU time per span, of the subject by the floor: the median of a row's pairs.
    pub(crate) fn ratio(&self, cell: &str) -> f64 {
        Median::of(&self.ratios(cell)).map_or(f64::NAN, |median| median.value)
    }

    /// Writes and gives the summary.
    pub(crate) fn finish(&self, cells: &[Cell]) -> Result<String, String> {
        let mut out = String::new();
        for cell in cells {
            self.cell(&mut out, &cell.name);
        }
        if self.what == What::Saturation {
            for size in SIZES {
                let (sdk, reversed) = (format!("{size} sdk"), format!("{size} collector"));
                let pick: Pick = |t| t.cpu_ns_per_span;
                let sides = ((reversed.as_str(), "subject"), (sdk.as_str(), "subject"));
                let more = self.paired(sides.0, sides.1, pick, |a, b| a - b);
                put(&mut out, &format!("{size} REVERSED ORDER, MORE"), &more, "ns/span");
            }
        }
        fs::write(self.folder.join("summary.txt"), &out).map_err(|e| e.to_string())?;
        let _ = writeln!(out, "results: {}", self.folder.display());
        Ok(out)
    }

    fn cell(&self, out: &mut String, cell: &str) {
        let _ = writeln!(out, "{cell}");
        let picks: [(&str, Pick, &str); 7] = [
            ("CPU", |t| t.cpu_ns_per_span, "ns/span"),
            ("throughput", |t| t.spans_per_second / 1e3, "k spans/s"),
            ("busy", |t| t.cpu_share * 100.0, "% of its core"),
            ("p50", |t| t.p50_us, "µs"),
            ("p99", |t| t.p99_us, "µs"),
            ("spans per call out", |t| t.spans_per_call_out, ""),
            ("memory", |t| t.rss_mib, "MiB"),
        ];
        let idle = self.what == What::Idle;
        for side in ["floor", "subject"] {
            for (name, pick, unit) in picks {
                if !idle || name == "busy" || name == "memory" {
                    put(out, &format!("  {side} {name}"), &self.values(cell, side, pick), unit);
                }
            }
        }
        let (subject, floor) = ((cell, "subject"), (cell, "floor"));
        put(out, "  RATIO of CPU per span", &self.ratios(cell), "x the floor");
        if self.what == What::Latency {
            let p50 = self.paired(subject, floor, |t| t.p50_us, |a, b| a - b);
            let p99 = self.paired(subject, floor, |t| t.p99_us, |a, b| a - b);
            put(out, "  ADDED p50", &p50, "µs");
            put(out, "  ADDED p99", &p99, "µs");
        }
        let sum = |pick: Pick| self.values(cell, "subject", pick).iter().sum::<f64>();
        let _ = writeln!(
            out,
            "  subject, all trials: errors {}, missing spans {}, split traces {}",
            sum(|t| t.errors as f64),
            sum(|t| t.missing_spans.max(0) as f64),
            sum(|t| t.split_traces as f64),
        );
    }
}

fn put(out: &mut String, name: &str, values: &[f64], unit: &str) {
    if let Some(m) = Median::of(values) {
        let _ = writeln!(
            out,
            "{name:<28} {:>10.2}  [{:.2} .. {:.2}] {unit} (n={})",
            m.value, m.low, m.high, m.count
        );
    }
}

/// The date in the civil calendar, from the days since 1970.
fn today() -> String {
    let mut days = clock::wall() / clock::SECOND / 86400;
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", days + 1)
}

fn environment() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let first = |text: &str, key: &str| {
        text.lines().find(|l| l.starts_with(key)).unwrap_or_default().to_owned()
    };
    let cpuinfo = read("/proc/cpuinfo");
    let cpus = cpuinfo.lines().filter(|l| l.starts_with("processor")).count();
    // Programs by name: where they lie is not part of the method.
    let arguments: Vec<_> = std::env::args()
        .skip(1)
        .map(|a| a.rsplit('/').next().unwrap_or_default().to_owned())
        .collect();
    format!(
        "{}{}\ncpus: {cpus}\n{}\ntcp_rmem: {}tcp_wmem: {}load average before: {}\
         tracemill-load {} {}\n",
        read("/proc/version"),
        first(&cpuinfo, "model name"),
        first(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/net/ipv4/tcp_rmem"),
        read("/proc/sys/net/ipv4/tcp_wmem"),
        read("/proc/loadavg"),
        env!("CARGO_PKG_VERSION"),
        arguments.join(" "),
    )
}

fn readme(options: &Options) -> String {
    format!(
        "# {} of {:?}\n\nMade by `tracemill-load compare` with the arguments in `env.txt`: {} \
         pairs of fresh processes, {:?} of warm-up and\n{:?} measured in each trial. The subject \
         runs on CPU {}, generator and sinks on CPU {}. CPU time is the sum over\n\
         `/proc/PID/task/*/schedstat`, read by the generator at both ends of the measured time, \
         divided by the spans that were\nanswered OK between them. The floor is `tracemill-load \
         relay` with one backend. Ratios are taken inside a pair; the\nintervals of medians are \
         order statistics with at least 95 % confidence. `summary.txt` is the table, `raw.csv` \
         has every\ntrial; `others_share` is what else ran on the subject's CPU.\n",
        options.what.name(),
        options.subject,
        options.pairs,
        options.warm_up,
        options.duration,
        options.cpu_subject,
        options.cpu_load,
    )
}
