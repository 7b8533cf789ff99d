//! Both tiers as a user runs them: a router, two samplers and a store that misbehaves.
//!
//! The policy keeps half of the traces by their id, so the judge knows each verdict beforehand.

use std::collections::BTreeSet;
use std::time::Duration;

use tracemill::route::{Generation, Ring};
use tracemill::rpc::{Code, Status};
use tracemill::sample::policy::probabilistic::Probabilistic;

use super::backend::{Backend, Behaviour, taken};
use super::client::{Client, Export, SpanKey, TRACES, frame, new_trace, request};
use super::process::Process;
use super::world::Setup;
use super::{run, settle, until};

const PERCENTAGE: f64 = 50.0;

/// A sampler before `store`, and what stands in its exporter.
fn sampler(store: &Backend, cores: usize, exporter: &str) -> String {
    sampler_at("127.0.0.1:0", "1s", store, cores, exporter)
}

fn sampler_at(
    address: &str,
    decision_wait: &str,
    store: &Backend,
    cores: usize,
    exporter: &str,
) -> String {
    format!(
        "receivers:
  otlp: {{protocols: {{grpc: {{endpoint: \"{address}\"}}}}}}
processors:
  tail_sampling:
    decision_wait: {decision_wait}
    policies:
      - {{name: half, type: probabilistic, probabilistic: {{sampling_percentage: {PERCENTAGE}}}}}
exporters:
  otlp_grpc:
    endpoint: {endpoint}
    compression: none
    tls: {{insecure: true}}
    retry_on_failure: {{initial_interval: 20ms, max_interval: 100ms}}
    {exporter}
service:
  pipelines:
    traces: {{receivers: [otlp], processors: [tail_sampling], exporters: [otlp_grpc]}}
  telemetry:
    metrics:
      readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: 0}}}}}}}}]
tracemill: {{cores: {cores}, pin: false, spin: 0s, memory_limit_mib: 200}}
",
        endpoint = store.endpoint(),
    )
}

/// The spans of the traces that the policy keeps.
fn kept(all: &[Export]) -> BTreeSet<SpanKey> {
    let policy = Probabilistic::new(PERCENTAGE, "");
    let spans = all.iter().flat_map(|export| &export.spans);
    spans.filter(|span| policy.keeps(&span.trace)).copied().collect()
}

/// Sends so many traces, each in two requests, and hears OK for all.
async fn send(process: &Process, traces: usize) -> Vec<Export> {
    let client = Client::connect(&process.address("Starting GRPC server")).await;
    let ids: Vec<[u8; 16]> = std::iter::repeat_with(new_trace).take(traces).collect();
    let mut sent = Vec::new();
    for _ in 0..2 {
        for some in ids.chunks(10) {
            let export = Export::of(some);
            let answer = client.call(request(TRACES, &[]), frame(0, &export.message)).await;
            assert!(answer.is_ok(), "{answer:?}");
            sent.push(export);
        }
    }
    sent
}

#[test]
fn two_tiers_keep_whole_traces_and_no_others() {
    run(async {
        let store = Backend::new(None).await;
        store.start().await;
        let a = Process::start(&sampler(&store, 2, "")).await;
        let b = Process::start(&sampler(&store, 1, "")).await;
        let endpoints = [&a, &b].map(|s| s.address("Starting GRPC server"));
        let setup = Setup { cores: 2, ..Setup::default() };
        let router = Process::start(&setup.yaml(&endpoints)).await;
        let sent = send(&router, 200).await;
        let want = kept(&sent);
        assert!(want.len() > 100, "about half of 400");
        until("all are stored", || store.taken() >= want.len()).await;
        assert_eq!(taken(&[&store]), want);
    });
}

#[test]
fn sigterm_decides_what_waits_and_delivers_it() {
    run(async {
        let store = Backend::new(None).await;
        store.start().await;
        let mut process = Process::start(&sampler(&store, 2, "")).await;
        let sent = send(&process, 60).await;
        process.terminate();
        assert_eq!(process.ended().await, 0, "{}", process.log());
        assert_eq!(taken(&[&store]), kept(&sent));
    });
}

#[test]
fn sigterm_tells_once_what_the_setting_gives_up() {
    run(async {
        let store = Backend::new(None).await;
        store.start().await;
        let yaml = sampler_at("127.0.0.1:0", "1h", &store, 2, "");
        let setting = "decision_wait: 1h\n    drop_pending_traces_on_shutdown: true";
        let mut process = Process::start(&yaml.replace("decision_wait: 1h", setting)).await;
        let sent = send(&process, 60).await;
        process.terminate();
        assert_eq!(process.ended().await, 0, "{}", process.log());
        assert_eq!(store.taken(), 0);
        let log = process.log();
        let told: Vec<&str> =
            log.lines().filter(|l| l.contains("Dropping pending traces")).collect();
        assert_eq!(told.len(), 1, "{log}");
        assert!(told[0].contains("\"otelcol.pipeline.id\": \"traces\""), "{log}");
        assert_eq!(process.sum("Dropping pending traces", "dropped_traces"), 60);
        let spans: usize = sent.iter().map(|export| export.spans.len()).sum();
        assert_eq!(process.sum("Dropping pending traces", "dropped_items"), spans as u64);
    });
}

#[test]
fn what_is_kept_waits_for_a_store_that_is_down() {
    run(async {
        let store = Backend::new(None).await;
        let queue = "sending_queue: {queue_size: 5}";
        let process = Process::start(&sampler(&store, 1, queue)).await;
        let sent = send(&process, 100).await;
        let want = kept(&sent);
        let full = || process.log().contains("Kept traces wait");
        until("the queue is full", full).await;
        store.start().await;
        until("all are stored", || store.taken() >= want.len()).await;
        assert_eq!(taken(&[&store]), want);
        let page = process.scrape().await;
        let of = |name: &str| page.sum(&format!("tracemill_sampler_{name}_spans"), &[]);
        let (kept, gone) = (of("kept"), of("dropped") + of("lost") + of("buffered"));
        assert_eq!((kept, kept + gone), (want.len() as u64, of("accepted")));
    });
}

#[test]
fn a_slow_store_loses_nothing() {
    run(async {
        let store = Backend::new(None).await;
        store.start().await;
        store.behave(Behaviour::Delay(Duration::from_millis(30)));
        let queue =
            "sending_queue: {queue_size: 2, num_consumers: 1, batch: {max_size: 10, min_size: 1}}";
        let process = Process::start(&sampler(&store, 2, queue)).await;
        let sent = send(&process, 200).await;
        let want = kept(&sent);
        until("all are stored", || store.taken() >= want.len()).await;
        assert_eq!(taken(&[&store]), want);
    });
}

#[test]
fn a_killed_sampler_loses_what_it_held_undecided_and_nothing_else() {
    run(async {
        let store = Backend::new(None).await;
        store.start().await;
        // An address that nobody else takes while the sampler is down.
        let address = Backend::new(None).await.endpoint();
        let at = |decision_wait: &str| sampler_at(&address, decision_wait, &store, 1, "");
        let doomed = Process::start(&at("10m")).await;
        let other = Process::start(&sampler(&store, 1, "")).await;
        let endpoints = [address.clone(), other.address("Starting GRPC server")];
        let router = Process::start(&Setup::default().yaml(&endpoints)).await;
        let ring = Ring::new(Generation::V3, &endpoints);
        let is_doomed = |span: &SpanKey| {
            ring.endpoints()[usize::from(ring.owner(&span.trace).unwrap())] == address
        };
        let before = send(&router, 100).await;
        let spans = before.iter().flat_map(|export| &export.spans);
        let owned = spans.filter(|span| is_doomed(span)).count() as u64;
        settle("it holds its part", async || {
            let page = doomed.scrape().await;
            (page.sum("tracemill_sampler_accepted_spans", &[]) == owned).then_some(())
        })
        .await;
        drop(doomed);
        // What comes while it is down waits at the router.
        let meanwhile = send(&router, 100).await;
        let _again = Process::start(&at("1s")).await;
        let mut want: BTreeSet<SpanKey> =
            kept(&before).into_iter().filter(|span| !is_doomed(span)).collect();
        want.extend(kept(&meanwhile));
        until("all others are stored", || store.taken() >= want.len()).await;
        assert_eq!(taken(&[&store]), want);
    });
}

#[test]
fn a_store_that_refuses_one_trace_costs_only_that_trace() {
    run(async {
        let store = Backend::new(None).await;
        store.start().await;
        let process = Process::start(&sampler(&store, 1, "")).await;
        let client = Client::connect(&process.address("Starting GRPC server")).await;
        let policy = Probabilistic::new(PERCENTAGE, "");
        let ids: Vec<[u8; 16]> =
            std::iter::repeat_with(new_trace).filter(|id| policy.keeps(id)).take(20).collect();
        let no = Status::new(Code::InvalidArgument, "not this one");
        store.behave(Behaviour::Poison(ids[7], no));
        let export = Export::of(&ids);
        let answer = client.call(request(TRACES, &[]), frame(0, &export.message)).await;
        assert!(answer.is_ok(), "{answer:?}");
        let good = export.spans.iter().filter(|span| span.trace != ids[7]);
        let want: BTreeSet<SpanKey> = good.copied().collect();
        until("the others are stored", || store.taken() >= want.len()).await;
        assert_eq!(taken(&[&store]), want);
        let failed = || process.log().contains("Dropping data");
        until("the loss is told", failed).await;
    });
}
