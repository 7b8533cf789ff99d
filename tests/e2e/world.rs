//! A router between clients and backends, and the judge of what became of every span.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use tracemill::route::{Generation, Ring};

use super::backend::{Backend, Fate};
use super::client::{Answer, Client, Export, SpanKey, TRACES, frame, new_trace, request};
use super::process::{Metrics, Process};
use super::{settle, until};

/// What a configuration says beyond the usual.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) backends: usize,
    /// Backends that do not listen at first.
    pub(crate) down: &'static [usize],
    pub(crate) cores: usize,
    pub(crate) ack_wait: &'static str,
    pub(crate) drain_timeout: &'static str,
    pub(crate) timeout: &'static str,
    pub(crate) compression: &'static str,
    pub(crate) sending_queue: &'static str,
    /// At the balancer's own level.
    pub(crate) own_queue: &'static str,
    pub(crate) retry: &'static str,
    pub(crate) merge: &'static str,
    pub(crate) streams_max: Option<u32>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            backends: 3,
            down: &[],
            cores: 1,
            // So long that no answer of a test comes from it by chance.
            ack_wait: "60s",
            drain_timeout: "20s",
            timeout: "60s",
            compression: "none",
            sending_queue: "{queue_size: 1000, num_consumers: 10}",
            own_queue: "{enabled: false}",
            retry: "{initial_interval: 20ms, max_interval: 100ms, max_elapsed_time: 300s}",
            merge: "{}",
            streams_max: None,
        }
    }
}

impl Setup {
    /// `load_balancing` over these endpoints.
    pub(crate) fn yaml(&self, endpoints: &[String]) -> String {
        let Self { cores, ack_wait, drain_timeout, timeout, compression, .. } = self;
        let Self { sending_queue, own_queue, retry, merge, .. } = self;
        let hostnames = endpoints.join(", ");
        let balancer = format!(
            "  load_balancing:
    protocol:
      otlp:
        compression: {compression}
        timeout: {timeout}
        tls: {{insecure: true}}
        sending_queue: {sending_queue}
        retry_on_failure: {retry}
    sending_queue: {own_queue}
    resolver: {{static: {{hostnames: [{hostnames}]}}}}"
        );
        let engine = format!(
            "{{cores: {cores}, pin: false, spin: 0s, memory_limit_mib: 200, \
             ack_wait: {ack_wait}, drain_timeout: {drain_timeout}, merge: {merge}}}"
        );
        yaml(&balancer, &[("traces", "load_balancing")], &engine)
    }
}

/// A configuration of one receiver and these exporters; pipelines by signal.
pub(crate) fn yaml(exporters: &str, pipelines: &[(&str, &str)], engine: &str) -> String {
    let mut all = String::new();
    for (signal, exporters) in pipelines {
        writeln!(all, "    {signal}: {{receivers: [otlp], exporters: [{exporters}]}}").unwrap();
    }
    format!(
        "receivers:
  otlp:
    protocols:
      grpc: {{endpoint: \"127.0.0.1:0\"}}
      http: {{endpoint: \"127.0.0.1:0\"}}
exporters:
{exporters}
service:
  pipelines:
{all}
  telemetry:
    metrics:
      readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: 0}}}}}}}}]
tracemill: {engine}
"
    )
}

/// The parts of a test, and everything that was sent.
pub(crate) struct World {
    pub(crate) router: Process,
    pub(crate) backends: Vec<Backend>,
    ring: Ring,
    sent: RefCell<Vec<(Export, Answer)>>,
}

impl World {
    pub(crate) async fn start(setup: Setup) -> Self {
        let mut backends = Vec::new();
        for at in 0..setup.backends {
            let backend = Backend::new(setup.streams_max).await;
            if !setup.down.contains(&at) {
                backend.start().await;
            }
            backends.push(backend);
        }
        let endpoints: Vec<String> = backends.iter().map(Backend::endpoint).collect();
        let ring = Ring::new(Generation::V3, &endpoints);
        assert_eq!(ring.endpoints(), endpoints);
        let router = Process::start(&setup.yaml(&endpoints)).await;
        Self { router, backends, ring, sent: RefCell::default() }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(&self.router.address("Starting GRPC server")).await
    }

    /// The backend that the ring names.
    pub(crate) fn owner(&self, trace: &[u8; 16]) -> usize {
        self.ring.owner(trace).unwrap().into()
    }

    /// A new trace of this backend.
    pub(crate) fn trace_of(&self, backend: usize) -> [u8; 16] {
        std::iter::repeat_with(new_trace).find(|t| self.owner(t) == backend).unwrap()
    }

    /// A request with so many new traces for each backend.
    pub(crate) fn for_each(&self, traces: usize) -> Export {
        let all = 0..self.backends.len() * traces;
        Export::of(&all.map(|n| self.trace_of(n % self.backends.len())).collect::<Vec<_>>())
    }

    /// A request for one backend.
    pub(crate) fn for_one(&self, backend: usize) -> Export {
        Export::of(&[self.trace_of(backend)])
    }

    /// Spans of a request that belong to a backend.
    pub(crate) fn share(&self, export: &Export, backend: usize) -> i64 {
        export.spans.iter().map(|s| i64::from(self.owner(&s.trace) == backend)).sum()
    }

    /// Sends a request, writes down its answer.
    pub(crate) async fn send(&self, client: &Client, export: Export) -> Answer {
        self.send_with(client, export, &[]).await
    }

    pub(crate) async fn send_with(
        &self,
        client: &Client,
        export: Export,
        headers: &[(&str, &str)],
    ) -> Answer {
        let answer = client.call(request(TRACES, headers), frame(0, &export.message)).await;
        self.note(export, answer.clone());
        answer
    }

    pub(crate) fn note(&self, export: Export, answer: Answer) {
        self.sent.borrow_mut().push((export, answer));
    }

    /// Sends a request that must be taken whole.
    pub(crate) async fn send_ok(&self, client: &Client, export: Export) {
        let answer = self.send(client, export).await;
        assert!(answer.is_ok(), "{answer:?}\n{}", self.router.log());
        assert_eq!(answer.rejected().0, 0, "{answer:?}");
    }

    /// One connection in a closed loop until told otherwise, or until its connection ends.
    pub(crate) async fn load(&self, stop: &Cell<bool>) {
        let client = self.client().await;
        while !stop.get() {
            let answer = self.send(&client, Export::new(8)).await;
            if answer.status.is_none() {
                return;
            }
        }
    }

    /// Requests answered so far.
    pub(crate) fn answers(&self) -> usize {
        self.sent.borrow().len()
    }

    /// Requests answered with this status (`None`: not answered).
    pub(crate) fn answers_of(&self, status: Option<u32>) -> usize {
        self.sent.borrow().iter().filter(|(_, a)| a.status == status).count()
    }

    /// Spans of the requests for which `f` says yes.
    pub(crate) fn spans_where(&self, f: impl Fn(&Answer) -> bool) -> usize {
        self.sent.borrow().iter().filter(|(_, a)| f(a)).map(|(e, _)| e.spans.len()).sum()
    }

    /// Waits until the router holds nothing, and looks at its metrics.
    pub(crate) async fn settled(&self) -> Metrics {
        settle("the router has delivered what it owns", async || {
            let metrics = self.router.scrape().await;
            (metrics.items("in_flight") == 0).then_some(metrics)
        })
        .await
    }

    /// Waits for quiet, then judges: nothing is missing but what the metrics count as failed.
    pub(crate) async fn judge(&self) -> Metrics {
        let metrics = self.settled().await;
        self.conservation(&metrics);
        let missing = self.missing();
        let failed = metrics.items("failed");
        assert!(
            missing as u64 <= failed,
            "{missing} missing, {failed} counted\n{}",
            self.router.log()
        );
        metrics
    }

    /// As [`Self::judge`], and not one item was lost.
    pub(crate) async fn judge_lossless(&self) -> Metrics {
        let metrics = self.judge().await;
        assert_eq!(metrics.items("failed"), 0, "{}", metrics.0);
        assert_eq!(self.missing(), 0);
        metrics
    }

    /// What clients heard and what the metrics say is the same.
    pub(crate) fn conservation(&self, metrics: &Metrics) {
        let received = metrics.sum("tracemill_receiver_received_items", &[]);
        let accepted = metrics.sum("otelcol_receiver_accepted_spans", &[]);
        let refused = metrics.sum("otelcol_receiver_refused_spans", &[]);
        assert_eq!(received, accepted + refused, "{}", metrics.0);
        for backend in &self.backends {
            let endpoint = backend.endpoint();
            let of = |what: &str| {
                let name = format!("tracemill_exporter_{what}_items");
                metrics.sum(&name, &[("endpoint", &endpoint)])
            };
            let ended = of("sent") + of("failed") + of("in_flight");
            assert_eq!(of("offered"), ended, "{endpoint}: {}", metrics.0);
        }
        if self.answers_of(None) > 0 {
            return;
        }
        let ok: usize = self.spans_where(Answer::is_ok);
        let answers = self.sent.borrow();
        let rejected: i64 =
            answers.iter().filter(|(_, a)| a.is_ok()).map(|(_, a)| a.rejected().0).sum();
        assert_eq!(accepted as i64, ok as i64 - rejected, "{}", metrics.0);
    }

    /// Judges placement and duplicates, and counts spans answered OK that no backend has.
    pub(crate) fn missing(&self) -> usize {
        let mut taken: HashMap<SpanKey, Vec<(usize, bool)>> = HashMap::new();
        for (at, backend) in self.backends.iter().enumerate() {
            for call in backend.calls().iter().filter(|c| c.fate == Fate::Taken) {
                for &span in &call.spans {
                    assert_eq!(self.owner(&span.trace), at, "{span:?} is misplaced");
                    taken.entry(span).or_default().push((at, call.heard));
                }
            }
        }
        for (span, places) in &taken {
            let (_, before) = places.split_last().unwrap();
            let known = before.iter().any(|(_, heard)| *heard);
            assert!(!known, "{span:?} was sent again although its fate was known: {places:?}");
        }
        let mut missing = BTreeMap::new();
        for (export, answer) in self.sent.borrow().iter().filter(|(_, a)| a.is_ok()) {
            let (rejected, why) = answer.rejected();
            let absent: Vec<_> =
                export.spans.iter().filter(|s| !taken.contains_key(s)).copied().collect();
            let mut excused = rejected;
            for span in absent {
                let named = why.contains(&self.backends[self.owner(&span.trace)].endpoint());
                if named && excused > 0 {
                    excused -= 1;
                } else {
                    missing.insert(span, self.owner(&span.trace));
                }
            }
            assert_eq!(excused, 0, "{rejected} rejected, yet some of it was delivered: {why}");
        }
        missing.len()
    }

    /// Waits until a backend has taken so many spans.
    pub(crate) async fn taken(&self, backend: usize, spans: usize) {
        until("a backend has taken what it should", || self.backends[backend].taken() >= spans)
            .await;
    }
}
