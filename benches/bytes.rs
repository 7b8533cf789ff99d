//! What a span costs in the pure rooms: scan, ring look-up, planning, copying, finding
//! traces, conditions.
//!
//! `cargo bench --bench bytes` measures; `cargo test` runs the same code with tiny parameters, so
//! that it cannot rot. `... -- --once SHAPE` runs one round of scan and split per request, for
//! `perf/callgrind.sh`. Clock: the only place here that reads one.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a benchmark")]

use std::hint::black_box;
use std::time::Instant;

use hashbrown::HashTable;
use tracemill::otlp::{Index, Signal, items, scan};
use tracemill::route::{Generation, Ring, Split};
use tracemill::sample::hash::Key;
use tracemill::sample::ottl::{Condition, List, Scene};
use tracemill::sample::slots::Slots;
use tracemill::testing::random::trace_id;
use tracemill::testing::workload::{FieldOrder, Options, Set, Size};

/// How much is measured.
struct Effort {
    /// Different requests, used in turn, so that branches are not flattered; together they
    /// fit into L2, where a request that was just received is.
    requests: usize,
    rounds: usize,
    /// The fastest of so many is printed: whatever else runs only adds to it.
    repeats: usize,
    ids: u64,
}

const TINY: Effort = Effort { requests: 2, rounds: 1, repeats: 1, ids: 100 };
const REAL: Effort = Effort { requests: 16, rounds: 40, repeats: 40, ids: 1 << 16 };

fn shapes(requests: usize) -> Vec<(&'static str, Set)> {
    let base = Options { requests, ..Options::default() };
    let small = Size::Bytes(8 << 10);
    let collector = FieldOrder::Collector;
    [
        ("64KiB-sdk", base.clone()),
        ("8KiB-sdk", Options { size: small, ..base.clone() }),
        ("64KiB-collector", Options { order: collector, ..base.clone() }),
        ("8KiB-collector", Options { order: collector, size: small, ..base.clone() }),
        ("64KiB-dotnet", Options { order: FieldOrder::Dotnet, ..base.clone() }),
        ("64KiB-agent", Options { resources: 8, order: collector, ..base.clone() }),
        ("64KiB-whole-traces", Options { spread: 1, spans_per_trace: 20, ..base.clone() }),
        ("1-span", Options { size: Size::Spans(1), ..base }),
    ]
    .map(|(name, options)| {
        let mut set = Set::new(&options);
        for template in &mut set.templates {
            template.patch(|trace| trace_id(1, u64::from(trace)));
        }
        (name, set)
    })
    .into()
}

fn ring(endpoints: usize) -> Ring {
    let mut names: Vec<_> = (1..=endpoints).map(|n| format!("10.0.0.{n}:4317")).collect();
    names.sort();
    Ring::new(Generation::V3, &names)
}

/// Scratch of one core, and one outgoing buffer per endpoint.
struct Core {
    index: Index,
    split: Split,
    ring: Ring,
    out: Vec<Vec<u8>>,
}

impl Core {
    fn new(endpoints: usize) -> Self {
        let ring = ring(endpoints);
        Self { index: Index::new(), split: Split::new(), ring, out: vec![Vec::new(); endpoints] }
    }

    /// All that a request costs here. Not inlined: callgrind collects inside.
    #[inline(never)]
    fn scan_and_split(&mut self, body: &[u8]) -> usize {
        scan(Signal::Traces, body, &mut self.index).unwrap();
        let parts = self.split.plan(body, &self.index, &self.ring).len();
        for part in 0..parts {
            let out = &mut self.out[self.split.parts()[part].endpoint as usize];
            out.clear();
            self.split.write(part, body, &self.index, out);
        }
        parts
    }
}

/// ns per unit of `f`, called once per round; `f` returns something to be kept alive.
fn ns_per(effort: &Effort, units: u64, mut f: impl FnMut() -> u64) -> (f64, u64) {
    let mut checksum = f();
    let samples = (0..effort.repeats).map(|_| {
        let start = Instant::now();
        for _ in 0..effort.rounds {
            checksum = checksum.wrapping_mul(31).wrapping_add(black_box(f()));
        }
        start.elapsed().as_nanos() as f64 / (effort.rounds as u64 * units) as f64
    });
    let fastest = samples.fold(f64::INFINITY, f64::min);
    (fastest, checksum)
}

fn requests(effort: &Effort) {
    println!(
        "{:<20} {:>6} {:>6} | {:>6} {:>6} {:>6} {:>6} {:>6} {:>6} | checksum (ns per span)",
        "shape", "spans", "B/span", "memcpy", "items", "scan", "plan", "4 out", "32 out"
    );
    for (name, set) in shapes(effort.requests) {
        let bodies: Vec<_> = set.templates.iter().map(|t| t.body.as_slice()).collect();
        let mut core = Core::new(4);
        let mut wide = Core::new(32);
        let mut copy = Vec::new();
        let measure = |f: &mut dyn FnMut(&[u8]) -> u64| {
            ns_per(effort, set.spans, || bodies.iter().map(|body| f(body)).sum())
        };
        let memcpy = measure(&mut |body| {
            copy.clear();
            copy.extend_from_slice(body);
            black_box(copy.len() as u64)
        });
        let counted = measure(&mut |body| items(Signal::Traces, body).unwrap());
        let scanned = measure(&mut |body| {
            scan(Signal::Traces, body, &mut core.index).unwrap();
            core.index.count()
        });
        let mut sum = 0u64;
        let planned = measure(&mut |body| {
            scan(Signal::Traces, body, &mut core.index).unwrap();
            core.split.plan(body, &core.index, &core.ring).iter().map(|p| p.bytes as u64).sum()
        });
        let all = measure(&mut |body| core.scan_and_split(body) as u64);
        let many = measure(&mut |body| wide.scan_and_split(body) as u64);
        for result in [counted, scanned, planned, all, many] {
            sum = sum.rotate_left(7) ^ result.1;
        }
        println!(
            "{name:<20} {:>6} {:>6} | {:>6.1} {:>6.1} {:>6.1} {:>6.1} {:>6.1} {:>6.1} | {sum:016x}",
            set.spans,
            set.bytes() / set.spans,
            memcpy.0,
            counted.0,
            scanned.0,
            planned.0 - scanned.0,
            all.0,
            many.0
        );
    }
}

fn look_ups(effort: &Effort) {
    let ids: Vec<_> = (0..effort.ids).map(|n| trace_id(3, n)).collect();
    for endpoints in [4, 64] {
        let ring = ring(endpoints);
        let (ns, checksum) = ns_per(effort, effort.ids, || {
            ids.iter().map(|id| u64::from(ring.owner(id).unwrap())).sum()
        });
        println!("ring look-up, {endpoints} endpoints: {ns:.1} ns, checksum {checksum:016x}");
    }
    let (ns, checksum) = ns_per(&Effort { rounds: 1, ..*effort }, 1, || ring(32).checksum());
    println!("making a ring of 32 endpoints: {:.0} us, checksum {checksum:016x}", ns / 1000.0);
}

/// Traces of a request, of which every fourth is new, among very many.
fn traces(effort: &Effort) {
    const OF_A_REQUEST: usize = 74;
    let (key, known) = (Key::new(7), effort.ids * 32);
    let hash = |n: u64| key.id(&trace_id(5, n));
    let (mut slots, mut table) = (Slots::with_capacity(0), HashTable::new());
    for n in 0..known {
        let slot = u32::try_from(n).unwrap();
        slots.insert(hash(n), slot);
        table.insert_unique(hash(n), slot, |slot| hash(u64::from(*slot)));
    }
    // All of them, so that none is near.
    let wanted: Vec<_> = (0..known)
        .map(|n| hash(n.wrapping_mul(0x9e37_79b9) % known + if n % 4 == 0 { known } else { 0 }))
        .collect();
    let effort = Effort { rounds: 1, repeats: effort.repeats.min(8), ..*effort };
    let (one, _) = ns_per(&effort, known, || {
        let request = |hashes: &[u64]| {
            black_box(hashes.iter().fold(0, |sum, hash| sum ^ slots.touch(*hash)));
            hashes.iter().filter_map(|hash| slots.find(*hash, |_| true)).map(u64::from).sum::<u64>()
        };
        wanted.chunks(OF_A_REQUEST).map(request).sum()
    });
    let (two, _) = ns_per(&effort, known, || {
        let request = |hashes: &[u64]| {
            let found = hashes.iter().filter_map(|hash| table.find(*hash, |_| true).copied());
            found.map(u64::from).sum::<u64>()
        };
        wanted.chunks(OF_A_REQUEST).map(request).sum()
    });
    println!("finding a trace among {known}: {one:.1} ns, in a hashbrown table {two:.1} ns");
}

/// A span as an SDK writes it, encoded, with ten attributes.
fn span() -> Vec<u8> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
    use opentelemetry_proto::tonic::trace::v1::{Span, Status};
    let attribute = |key: &str, value| KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    };
    let text = |text: &str| Value::StringValue(text.to_owned());
    let mut attributes: Vec<_> =
        (0..8).map(|n| attribute(&format!("some.attribute.{n}"), text("some value"))).collect();
    attributes.push(attribute("http.response.status_code", Value::IntValue(503)));
    attributes.push(attribute("url.path", text("/api/v1/orders/12345")));
    prost::Message::encode_to_vec(&Span {
        trace_id: vec![1; 16],
        span_id: vec![2; 8],
        parent_span_id: vec![3; 8],
        name: "GET /api/v1/orders".to_owned(),
        kind: 2,
        start_time_unix_nano: 1_760_000_000_000_000_000,
        end_time_unix_nano: 1_760_000_000_600_000_000,
        attributes,
        status: Some(Status { message: String::new(), code: 2 }),
        ..Span::default()
    })
}

fn conditions(effort: &Effort) {
    let span = span();
    let scene = Scene {
        resource: &[],
        scope: &[],
        span: &span,
        event: None,
        now_unix_nanos: 1,
        noted: None,
    };
    println!("conditions of a span of {} bytes: ns, outcome", span.len());
    for text in [
        "name == \"GET /api/v1/orders\"",
        "kind == SPAN_KIND_SERVER and status.code == STATUS_CODE_ERROR",
        "attributes[\"http.response.status_code\"] >= 500",
        "attributes[\"url.path\"] == \"/other\"",
        "attributes[\"missing\"] != nil",
        "end_time - start_time > Duration(\"500ms\")",
        "(end_time_unix_nano - start_time_unix_nano) > 1000000000",
        "IsRootSpan()",
        "IsMatch(name, \"^GET /health\")",
        "IsMatch(attributes[\"url.path\"], \"orders/[0-9]+\")",
        "IsMatch(attributes[\"http.response.status_code\"], \"^[45][0-9][0-9]$\")",
        "Substring(attributes[\"missing\"], 0, 2) == \"ab\"",
        "ToLowerCase(name) == \"get\"",
    ] {
        let condition = Condition::compile(text, List::Span).unwrap();
        let (ns, _) = ns_per(effort, 100, || {
            (0..100).map(|_| u64::from(black_box(condition.eval(black_box(&scene))).is_ok())).sum()
        });
        println!("{ns:>8.1}  {text}  {:?}", condition.eval(&scene));
    }
}

/// One pass over a shape after one to warm up, for an instruction counter.
fn once(shape: &str) {
    let shapes = shapes(REAL.requests);
    let Some((_, set)) = shapes.iter().find(|(name, _)| *name == shape) else {
        let names: Vec<_> = shapes.iter().map(|(name, _)| *name).collect();
        println!("{}", names.join(" "));
        return;
    };
    let mut core = Core::new(4);
    for _ in 0..2 {
        for template in &set.templates {
            black_box(core.scan_and_split(&template.body));
        }
    }
    println!("passes=2 requests={} spans={}", set.templates.len(), set.spans);
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if let Some(at) = args.iter().position(|arg| arg == "--once") {
        return once(args.get(at + 1).map_or("", String::as_str));
    }
    let effort = if args.iter().any(|arg| arg == "--bench") { REAL } else { TINY };
    requests(&effort);
    look_ups(&effort);
    traces(&effort);
    conditions(&effort);
}
