//! ROLE: the demonstration, `tracemill` without arguments. In one process, over loopback sockets:
//!
//! ```text
//! generator ─▶ router ─▶ two samplers ─▶ store ─▶ account of every trace ─▶ table, proof
//! ```
//!
//! Router and samplers are not special: `router.yaml` and `sampler.yaml` are loaded by `config` and
//! started by `control`. Clients and store have a core each, which the operating system places;
//! they are built from the same rooms and are the only part that looks into spans.
//!
//! Invariants: everything is bounded, however long it runs; the proof rests on what was sent and
//! what arrived, and the nodes' own counters must agree with it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::{Instant as Tick, MissedTickBehavior};

use crate::config;
use crate::control::StartError;
use crate::net::listener;
use crate::net::options::Transport;
use crate::runtime::{self, clock, cores};
use crate::telemetry::log::Log;

mod book;
mod counters;
mod endpoints;
mod generator;
mod homes;
mod nodes;
mod proof;
mod rounds;
mod span;
mod store;
mod table;
mod traffic;
mod verdicts;

use book::Book;
use endpoints::Endpoints;
use generator::{CONNECTIONS, Clients, Sent, histogram};
use homes::Homes;
use nodes::{Nodes, SAMPLERS};
use proof::Outcome;
use store::Store;
use table::{Second, Table, count, print};
use traffic::Traffic;
use verdicts::Verdicts;

/// Spans per second for each CPU, unless set: a fraction of what it can do.
const RATE_PER_CPU: f64 = if cfg!(debug_assertions) { 2_500.0 } else { 50_000.0 };
/// Spans per second, unless set.
const RATE_MAX: f64 = 100_000.0;
/// The last row is shown only if it is about at least this long.
const SHORTEST_ROW: Duration = Duration::from_millis(500);
/// Time for the clients to send the last late spans and to hear their last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(30);
/// What the samplers keep of a round is at the store when the round has been over for so long.
const ARRIVED_AFTER: Duration = Duration::from_secs(20);
/// Traces that the oracle judges in a second beside the traffic, and at the end.
const JUDGED_PER_SECOND: u64 = if cfg!(debug_assertions) { 1_000 } else { 12_000 };
const JUDGED_AT_END: u64 = if cfg!(debug_assertions) { 20_000 } else { 250_000 };

const DEBUG_BUILD: &str =
    "\nThis is a debug build, many times slower than one of `cargo build --release`.";

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How long traffic is sent.
    pub duration: Duration,
    /// Spans per second; `None` takes what suits the number of CPUs.
    pub rate: Option<u32>,
}

/// Why the demonstration cannot be shown.
#[derive(Debug)]
enum Failure {
    /// Sockets, threads.
    Io(std::io::Error),
    /// A port of 127.0.0.1.
    Listen(listener::Error),
    /// CPUs.
    Cores(cores::Error),
    /// A node.
    Start(StartError),
    /// An embedded configuration does not suit this release.
    Config(String),
    /// The clients do not end.
    Stuck,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(e) => e.fmt(f),
            Self::Listen(e) => e.fmt(f),
            Self::Cores(e) => e.fmt(f),
            Self::Start(e) => e.fmt(f),
            Self::Config(text) => write!(f, "the demonstration's configuration: {text}"),
            Self::Stuck => write!(f, "the router has not answered for {LAST_ANSWERS:?}"),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        Self::Io(e)
    }
}

/// Shows both tiers at work. Exit code 1 if it cannot be shown or the proof fails.
#[must_use]
pub fn run(options: Options) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let shown = runtime.map_err(Failure::Io).and_then(|r| r.block_on(show(options)));
    match shown {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("Error: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn show(options: Options) -> Result<bool, Failure> {
    let cpus = cores::choose(&runtime::Options::default()).map_err(Failure::Cores)?.len();
    let rate = options.rate.map_or_else(|| (RATE_PER_CPU * cpus as f64).min(RATE_MAX), f64::from);
    let sockets: Vec<_> = (0..SAMPLERS)
        .map(|_| listener::listen_tcp("127.0.0.1:0", Transport::Tcp).map_err(Failure::Listen))
        .collect::<Result<_, _>>()?;
    let stores: Vec<String> = sockets
        .iter()
        .map(|socket| socket.local_addr().map(|address| address.to_string()))
        .collect::<Result<_, _>>()?;
    // The samplers, the clients and the store need CPUs, too.
    let router_cores = if cpus < 6 { 1 } else { 2 };
    let nodes = Nodes::start(stores, router_cores, rate).await?;
    let _log =
        Log::start(&nodes.telemetry(), clock::wall).map_err(|e| Failure::Config(e.to_string()))?;
    let homes = Arc::new(Homes::new(&nodes.names, nodes.ring()?));
    let traffic = Traffic::new(clock::unix_nanos());
    let verdicts = Verdicts::new(&nodes.sampling()?, traffic.clone());
    introduce(&options, rate, router_cores, &nodes);
    let stage = Stage {
        book: Book::new(traffic.clone(), Arc::clone(&homes), verdicts),
        endpoints: Endpoints::start(sockets, Store::new(SAMPLERS))?,
        clients: Clients::start(nodes.entrance(), rate, traffic, homes)?,
        nodes,
        hop: histogram(),
    };
    stage.play(&options, rate).await
}

fn introduce(options: &Options, rate: f64, cores: usize, nodes: &Nodes) {
    let ports: Vec<_> = nodes.names.iter().map(|a| a.rsplit(':').next().unwrap_or(a)).collect();
    print(&format!(
        "tracemill demo: both tiers in one process, over real sockets, for {}.\n\n  \
           clients    {CONNECTIONS} connections send {} spans/s. A trace has about {} spans; they come\n             \
                      in {} requests over {} connections, as from several services. Some traces\n             \
                      have errors, some are slow, some are health checks; some spans are late.\n  \
           router     {}, OTLP/gRPC, on {cores} data core{}: load_balancing by traceID\n             \
                      (src/demo/router.yaml).\n  \
           samplers   127.0.0.1, ports {}, a data core each: tail_sampling, which drops health\n             \
                      checks and keeps errors, slow traces and 5 % (src/demo/sampler.yaml).\n  \
           store      gets what the samplers keep.\n\n\
         What to look at: each trace goes whole to one sampler, which decides 2 to 3 seconds after\n\
         its first span. \"hop\" is the time from a client through the router to a sampler and back.\n\
         Ctrl-C ends early, with the proof.{}\n",
        config::show_duration(options.duration),
        count(rate),
        traffic::SPANS_PER_TRACE,
        traffic::SPREAD,
        traffic::SPREAD,
        nodes.entrance(),
        if cores == 1 { "" } else { "s" },
        ports.join(" and "),
        if cfg!(debug_assertions) { DEBUG_BUILD } else { "" },
    ));
}

/// Everything that runs.
struct Stage {
    nodes: Nodes,
    endpoints: Endpoints,
    clients: Clients,
    book: Book,
    /// All hops.
    hop: Histogram<u64>,
}

impl Stage {
    /// From the first span to the proof; whether it holds.
    async fn play(mut self, options: &Options, rate: f64) -> Result<bool, Failure> {
        let policies = self.nodes.sampling()?.policies.iter().map(|p| p.name.clone()).collect();
        self.watch(options.duration, policies).await;
        print("\nThe clients stop; the samplers decide what waits, and all of it is delivered.\n");
        let stopped = tokio::time::timeout(LAST_ANSWERS, self.clients.stop()).await;
        stopped.map_err(|_| Failure::Stuck)?;
        let Self { nodes, endpoints, clients, mut book, mut hop } = self;
        let census = nodes.finish().await;
        account(&mut book, &clients, &endpoints, Duration::ZERO, JUDGED_AT_END);
        clients.hops().iter().for_each(|h| _ = hop.add(h));
        let (sent, store) = (clients.sent(), endpoints.store());
        let (sums, census, hop) = (&book.sums, &census, &hop);
        let (text, holds) = Outcome { sent: &sent, sums, store: &store, census, hop }.prove();
        print(&text);
        print(&epilogue(&sent, rate, options.duration));
        Ok(holds)
    }

    /// Shows a table each second until the time is over or the user has had enough.
    async fn watch(&mut self, duration: Duration, policies: Vec<String>) {
        let mut table = Table::new(self.nodes.names.clone(), policies);
        let start = Tick::now();
        let mut ticks =
            tokio::time::interval_at(start + Duration::from_secs(1), Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut last, mut bytes, mut stored) = (start, 0, 0);
        let mut before = self.nodes.count().await;
        let mut enough = std::pin::pin!(tokio::signal::ctrl_c());
        let mut over = std::pin::pin!(tokio::time::sleep(duration));
        let mut end = false;
        while !end {
            tokio::select! {
                biased;
                _ = &mut enough => end = true,
                () = &mut over => end = true,
                _ = ticks.tick() => {}
            }
            if end && last.elapsed() < SHORTEST_ROW {
                return;
            }
            let (now, census, hops) = (Tick::now(), self.nodes.count().await, self.clients.hops());
            let all = (self.clients.sent().bytes, self.endpoints.store().spans.iter().sum());
            hops.iter().for_each(|h| _ = self.hop.add(h));
            table.show(&Second {
                elapsed: now - start,
                length: now - last,
                hops,
                bytes: all.0 - bytes,
                before,
                now: census.clone(),
                stored: all.1 - stored,
            });
            (last, (bytes, stored), before) = (now, all, census);
            let Self { book, clients, endpoints, .. } = self;
            account(book, clients, endpoints, ARRIVED_AFTER, JUDGED_PER_SECOND);
        }
    }
}

/// Accounts for the rounds that have been over for `age`. The oracle judges about `budget` traces.
fn account(book: &mut Book, clients: &Clients, endpoints: &Endpoints, age: Duration, budget: u64) {
    let until = book.sums.judged + budget;
    while let Some(closed) = clients.closed(age) {
        book.close(&closed, endpoints, book.sums.judged < until);
    }
}

fn epilogue(sent: &Sent, rate: f64, duration: Duration) -> String {
    let mut out = String::new();
    if sent.lag > duration / 10 {
        let carried = sent.spans as f64 / duration.as_secs_f64().max(1.0);
        out = format!(
            "\nThis machine carried {} spans/s, not {}; for calmer times: \
             tracemill demo --rate {:.0}\n",
            count(carried),
            count(rate),
            carried / 2.0
        );
    }
    out + "\nHow to go on: configs/ has such configurations, with comments.\n  \
           tracemill demo --rate 1000000      under load, where a span costs far less CPU\n  \
           tracemill --config FILE            runs a collector's configuration\n  \
           tracemill validate --config FILE   says what is wrong with it\n"
}
