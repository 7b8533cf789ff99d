//! ROLE: the demonstration, `tracemill` without arguments. In one process, over loopback sockets:
//!
//! ```text
//! generator ─▶ the router, as `--config` would run it ─▶ endpoints ─▶ judge ─▶ table, proof
//! ```
//!
//! The router is not special: `router.yaml` is loaded by `config` and started by `control`, with
//! the endpoints' addresses in it. Clients and endpoints have a core each, which the operating
//! system places; they are built from the same rooms and are the only part that looks into spans.
//!
//! Invariants: everything is bounded, however long it runs; the verdict rests on what was sent and
//! what arrived, and the router's own counters must agree with it.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant as Tick, MissedTickBehavior};

use crate::config::plan::{ExporterKind, Resolver};
use crate::config::{self, Machine, Plan, Request};
use crate::control::{Running, StartError};
use crate::net::listener;
use crate::route::Ring;
use crate::runtime::{self, clock, cores};
use crate::telemetry::log::Log;
use crate::telemetry::process;

mod endpoints;
mod generator;
mod judge;
mod proof;
mod seen;
mod span;
mod table;
mod traffic;

use endpoints::Endpoints;
use generator::{CONNECTIONS, Clients, Sent};
use judge::Judge;
use proof::{Counters, Outcome};
use table::{Second, Table, count, print};
use traffic::Traffic;

/// What the router runs.
const CONFIG: &str = include_str!("demo/router.yaml");
/// Endpoints, as many as `router.yaml` names.
const ENDPOINTS: usize = 4;
/// Spans per second for each CPU, unless set: a fraction of what it can do.
const RATE_PER_CPU: f64 = if cfg!(debug_assertions) { 5_000.0 } else { 50_000.0 };
/// Spans per second, unless set.
const RATE_MAX: f64 = 100_000.0;
/// The last row is shown only if it is about at least this long.
const SHORTEST_ROW: Duration = Duration::from_millis(500);
/// Time for what is under way to arrive when the clients have ended.
const SETTLE: Duration = Duration::from_secs(10);
/// Time for the clients to hear their last answers.
const LAST_ANSWERS: Duration = Duration::from_secs(30);

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
    /// The router.
    Start(StartError),
    /// `router.yaml` does not suit this release.
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

/// Shows the router at work. Exit code 1 if it cannot be shown or the proof fails.
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
    let sockets: Vec<_> = (0..ENDPOINTS)
        .map(|_| listener::listen("127.0.0.1:0").map_err(Failure::Listen))
        .collect::<Result<_, _>>()?;
    let addresses: Vec<String> = sockets
        .iter()
        .map(|socket| socket.local_addr().map(|address| address.to_string()))
        .collect::<Result<_, _>>()?;
    let plan = plan(&addresses, cpus)?;
    let _log =
        Log::start(&plan.telemetry, clock::wall).map_err(|e| Failure::Config(e.to_string()))?;
    let ring = ring(&plan)?;
    let running = Running::start(Arc::new(plan)).await.map_err(Failure::Start)?;
    let endpoints = Endpoints::start(sockets, Judge::new(&addresses, ring))?;
    let router = running.addresses()[0].1;
    let rate = options.rate.map_or_else(|| (RATE_PER_CPU * cpus as f64).min(RATE_MAX), f64::from);
    introduce(&options, rate, &router.to_string(), running.threads().len(), &addresses);
    let clients = Clients::start(router, rate, Traffic::new(clock::unix_nanos()))?;
    watch(options.duration, &running, &endpoints, &clients, &addresses).await;
    print("\nThe clients stop; what is under way is delivered.\n");
    let sent = tokio::time::timeout(LAST_ANSWERS, clients.stop()).await;
    let sent = sent.map_err(|_| Failure::Stuck)?;
    let counters = settled(&running, &addresses).await;
    let cpu = cpu_of(&running);
    let abandoned = running.shut_down().await.iter().map(|(_, _, items)| items).sum();
    let judge = endpoints.judge();
    let outcome = Outcome { sent: &sent, judge: &judge, counters: &counters, abandoned, cpu };
    let (text, holds) = outcome.prove();
    print(&text);
    print(&epilogue(&sent, rate, options.duration));
    Ok(holds)
}

/// The embedded configuration, read as a file would be.
fn plan(addresses: &[String], cpus: usize) -> Result<Plan, Failure> {
    // Clients and endpoints need CPUs, too.
    let cores = if cpus < 4 { 1 } else { 2 };
    let env = |name: &str| match name {
        "CONFIG" => Some(CONFIG.to_owned()),
        "CORES" => Some(cores.to_string()),
        "PIN" => Some((cpus > cores).to_string()),
        _ => addresses.get(name.strip_prefix("ENDPOINT_")?.parse::<usize>().ok()?).cloned(),
    };
    let request = Request { configs: vec!["env:CONFIG".into()], ..Request::default() };
    match config::load(&request, &env, &Machine::read()) {
        Ok(loaded) => Ok(loaded.plan),
        Err(report) => Err(Failure::Config(report.to_string())),
    }
}

/// The ring that the collector would build, for the judge: not the router's own.
fn ring(plan: &Plan) -> Result<Ring, Failure> {
    let ring = plan.exporters.iter().find_map(|exporter| match &exporter.kind {
        ExporterKind::LoadBalancing(balancing) => {
            let Resolver::Static(names) = &balancing.resolver;
            Some(Ring::new(balancing.ring, names))
        }
        _ => None,
    });
    ring.ok_or_else(|| Failure::Config("it has no load_balancing exporter".into()))
}

fn introduce(options: &Options, rate: f64, router: &str, cores: usize, addresses: &[String]) {
    let ports: Vec<_> = addresses.iter().map(|a| a.rsplit(':').next().unwrap_or(a)).collect();
    print(&format!(
        "tracemill demo: a router tier in one process, over real sockets, for {}.\n\n  \
           clients    {CONNECTIONS} connections send {} spans/s. A trace has about {} spans; they come\n             \
                      in {} requests over {} connections, as from several services.\n  \
           router     {router}, OTLP/gRPC, on {cores} data core{}. It runs a collector's YAML\n             \
                      (src/demo/router.yaml): otlp receiver, load_balancing by traceID.\n  \
           endpoints  127.0.0.1, ports {}.\n\n\
         What to look at: each trace goes whole to one endpoint, so the shares are those of the\n\
         consistent-hash ring and stay the same. \"hop\" is the time from a client to an endpoint.\n\
         Ctrl-C ends early, with the proof.{}\n",
        config::show_duration(options.duration),
        count(rate),
        traffic::SPANS_PER_TRACE,
        traffic::SPREAD,
        traffic::SPREAD,
        if cores == 1 { "" } else { "s" },
        ports.join(", "),
        if cfg!(debug_assertions) { DEBUG_BUILD } else { "" },
    ));
}

/// Shows a table each second until the time is over or the user has had enough.
async fn watch(
    duration: Duration,
    running: &Running,
    endpoints: &Endpoints,
    clients: &Clients,
    addresses: &[String],
) {
    let mut table = Table::new(addresses.to_vec());
    let start = Tick::now();
    let mut ticks =
        tokio::time::interval_at(start + Duration::from_secs(1), Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last, mut bytes, mut cpu) = (start, 0, cpu_of(running));
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
        let snapshots = running.snapshots().await;
        let (now, now_bytes, now_cpu) = (Tick::now(), clients.sent().bytes, cpu_of(running));
        table.show(&Second {
            elapsed: now - start,
            length: now - last,
            endpoints: endpoints.judge().recent(),
            bytes: now_bytes - bytes,
            cpu: now_cpu.saturating_sub(cpu),
            in_flight: Counters::of(&snapshots, addresses).in_flight(),
        });
        (last, bytes, cpu) = (now, now_bytes, now_cpu);
    }
}

/// The router's counters when it holds nothing any more, or after [`SETTLE`].
async fn settled(running: &Running, addresses: &[String]) -> Counters {
    let until = Tick::now() + SETTLE;
    loop {
        let counters = Counters::of(&running.snapshots().await, addresses);
        if counters.in_flight() == 0 || Tick::now() >= until {
            return counters;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// CPU time of the data cores alone.
fn cpu_of(running: &Running) -> Duration {
    running.threads().into_iter().filter_map(|tid| process::thread_cpu(tid).ok()).sum()
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
    out + "\nHow to go on: configs/router.yaml is such a configuration, with comments.\n  \
           tracemill demo --rate 1000000      under load, where a span costs far less CPU\n  \
           tracemill --config FILE            runs a collector's configuration\n  \
           tracemill validate --config FILE   says what is wrong with it\n"
}
