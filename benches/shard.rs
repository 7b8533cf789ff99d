//! What a span costs in a shard, step by step: finding it in its request, checking it, taking it,
//! and deciding about its trace.
//!
//! `cargo bench --bench shard` measures with seconds of traffic in simulated time, more than any
//! cache holds; `cargo test` runs the same code with a little.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark")]

use std::time::Duration;

use tracemill::otlp::{Index, Signal, scan};
use tracemill::sample::options::{Policy, Rule};
use tracemill::sample::{Moment, Options, Shard, Step};
use tracemill::testing::random::trace_id;
use tracemill::testing::workload::{self, Set, Size};
use tracemill::time::Instant;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Spans in a second of simulated time.
const RATE: u64 = 2_000_000;
const STEPS: [&str; 4] = ["scan", "check", "push", "decide"];

fn shard() -> Shard {
    let policy = |name: &str, rule| Policy { name: name.to_owned(), rule };
    let (salt, percentage) = (String::new(), 2.0);
    let options = Options {
        decision_wait: Duration::from_secs(1),
        // Reached half-way: from then on each new trace pushes the oldest out.
        num_traces: 1_000_000,
        policies: vec![
            policy("errors", Rule::StatusCode([false, false, true])),
            policy("slow", Rule::Latency { threshold_ms: 500, upper_threshold_ms: 0 }),
            policy("some", Rule::Probabilistic { percentage, salt }),
        ],
        ..Options::default()
    };
    Shard::alone(Instant(0), &options, 7).unwrap()
}

/// Time spent in each step.
#[derive(Default)]
struct Watch {
    spent: [Duration; STEPS.len()],
    spans: u64,
}

impl Watch {
    fn measure<T>(&mut self, step: usize, f: impl FnOnce() -> T) -> T {
        let start = std::time::Instant::now();
        let result = f();
        self.spent[step] += start.elapsed();
        result
    }

    /// ns per span.
    fn per_span(&self, spent: Duration) -> f64 {
        spent.as_nanos() as f64 / self.spans as f64
    }
}

/// A shard under way.
struct Run {
    shard: Shard,
    index: Index,
    spans: u64,
    kept: u64,
}

impl Run {
    fn take(&mut self, body: &[u8], watch: &mut Watch) {
        let nanos = self.spans * 1_000_000_000 / RATE;
        let moment = Moment { now: Instant(nanos), unix_nanos: nanos };
        let Self { shard, index, kept, .. } = self;
        watch.measure(0, || scan(Signal::Traces, body, index)).unwrap();
        watch.measure(1, || shard.check(body, index)).unwrap();
        watch.measure(2, || shard.push(moment, body, index));
        watch.measure(3, || {
            loop {
                match shard.poll(moment) {
                    Step::Kept(spans) => *kept += spans,
                    Step::Busy => {}
                    Step::Idle => break,
                }
            }
        });
        watch.spans += index.count();
        self.spans += index.count();
    }
}

/// Requests of that size up to so many spans; what they cost in the last two thirds of them, when
/// as many traces leave as come.
fn measure(size: Size, end: u64) {
    let mut set = Set::new(&workload::Options {
        size,
        spans_per_trace: 8,
        spread: 4,
        error_share: 0.01,
        ..workload::Options::default()
    });
    let mut run = Run { shard: shard(), index: Index::new(), spans: 0, kept: 0 };
    let (mut first, mut warm_up, mut watch) = (0, Watch::default(), Watch::default());
    while run.spans < end {
        let watch = if run.spans < end / 3 { &mut warm_up } else { &mut watch };
        for template in &mut set.templates {
            template.patch(|trace| trace_id(42, first + u64::from(trace)));
            run.take(&template.body, watch);
        }
        first += u64::from(set.traces);
    }
    let percent = run.kept as f64 * 100.0 / run.spans as f64;
    print!("{size:?}, {} spans, {percent:.1} % kept, ns per span:", run.spans);
    for (step, spent) in STEPS.iter().zip(watch.spent) {
        print!(" {step} {:.1},", watch.per_span(spent));
    }
    println!(" all {:.1}", watch.per_span(watch.spent.iter().sum()));
}

fn main() {
    let measures = std::env::args().any(|arg| arg == "--bench");
    for size in [Size::Bytes(64 << 10), Size::Bytes(8 << 10)] {
        measure(size, if measures { 9 * RATE } else { 20_000 });
    }
}
