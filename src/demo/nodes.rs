//! The nodes of the demonstration, as `--config` would run them: a router and two samplers. None is
//! special: each configuration is loaded by `config` and started by `control`, with the addresses
//! of those behind it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant as Tick;

use super::Failure;
use super::counters::{Counters, Sampling};
use super::traffic::SPANS_PER_TRACE;
use crate::config::plan::ExporterKind;
use crate::config::{self, Machine, Plan, Request};
use crate::control::Running;
use crate::route::Ring;
use crate::sample::options::Options;
use crate::telemetry::{self, process};

/// What the router runs.
const ROUTER: &str = include_str!("router.yaml");
/// What each sampler runs.
const SAMPLER: &str = include_str!("sampler.yaml");
/// Samplers, as many as `router.yaml` names.
pub(super) const SAMPLERS: usize = 2;
/// How long samplers remember traces: longer than late spans need.
const REMEMBER_SECONDS: f64 = 15.0;
/// Traces that a sampler remembers, at least and at most.
const TRACES: (f64, f64) = (20_000.0, 4_000_000.0);
/// Time for what is under way to arrive when the clients have ended.
const SETTLE: Duration = Duration::from_secs(10);

/// The nodes, running.
#[derive(Debug)]
pub(super) struct Nodes {
    router: Running,
    samplers: Vec<Running>,
    /// Addresses of the samplers.
    pub names: Vec<String>,
    /// Addresses of the store, one for each sampler.
    stores: Vec<String>,
}

/// What all nodes have counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Census {
    pub router: Counters,
    pub samplers: Vec<Counters>,
    /// CPU time of the data cores: router, samplers.
    pub cpu: [Duration; 2],
    /// Spans that they gave up when they were stopped.
    pub abandoned: u64,
}

impl Census {
    /// All samplers as one.
    pub(super) fn sampling(&self) -> Sampling {
        let mut sum = Sampling::default();
        self.samplers.iter().for_each(|sampler| sum.add(&sampler.sampling));
        sum
    }
}

impl Nodes {
    /// Starts samplers that send to `stores`, and a router of `cores` cores in front of them, for
    /// so many spans a second.
    pub(super) async fn start(
        stores: Vec<String>,
        cores: usize,
        rate: f64,
    ) -> Result<Self, Failure> {
        let traces = (rate / f64::from(SPANS_PER_TRACE) * REMEMBER_SECONDS).ceil();
        let traces = traces.clamp(TRACES.0, TRACES.1).to_string();
        let (mut samplers, mut names) = (Vec::new(), Vec::new());
        for store in &stores {
            let plan = plan(SAMPLER, &[("STORE", store), ("TRACES", &traces)])?;
            let running = Running::start(Arc::new(plan)).await.map_err(Failure::Start)?;
            names.push(running.addresses()[0].1.to_string());
            samplers.push(running);
        }
        let cores = cores.to_string();
        let plan =
            plan(ROUTER, &[("SAMPLER_0", &names[0]), ("SAMPLER_1", &names[1]), ("CORES", &cores)])?;
        let router = Running::start(Arc::new(plan)).await.map_err(Failure::Start)?;
        Ok(Self { router, samplers, names, stores })
    }

    /// Where the router takes traces.
    pub(super) fn entrance(&self) -> std::net::SocketAddr {
        self.router.addresses()[0].1.tcp().expect("the demonstration uses TCP")
    }

    /// How the process logs: as the router is configured.
    pub(super) fn telemetry(&self) -> telemetry::Options {
        self.router.plan().telemetry.clone()
    }

    /// What the samplers do.
    pub(super) fn sampling(&self) -> Result<Options, Failure> {
        let plan = self.samplers.first().map(Running::plan);
        let mut pipelines = plan.iter().flat_map(|plan| &plan.pipelines);
        let sampling = pipelines.find_map(|p| p.sampling.as_ref());
        sampling.map(|s| s.options.clone()).ok_or_else(|| Failure::Config("nothing samples".into()))
    }

    /// The ring that the collector would build: not the router's own.
    pub(super) fn ring(&self) -> Result<Ring, Failure> {
        let plan = self.router.plan();
        let ring = plan.exporters.iter().find_map(|exporter| match &exporter.kind {
            ExporterKind::LoadBalancing(balancing) => {
                balancing.resolver.names().map(|names| Ring::new(balancing.ring, names))
            }
            _ => None,
        });
        ring.ok_or_else(|| Failure::Config("it has no load_balancing exporter".into()))
    }

    /// What has been counted so far.
    pub(super) async fn count(&self) -> Census {
        let router = Counters::of(&self.router.snapshots().await, &self.names);
        let mut samplers = Vec::new();
        for (sampler, store) in self.samplers.iter().zip(&self.stores) {
            samplers.push(Counters::of(&sampler.snapshots().await, std::slice::from_ref(store)));
        }
        let cpu = [cpu_of(&self.router), self.samplers.iter().map(cpu_of).sum()];
        Census { router, samplers, cpu, abandoned: 0 }
    }

    /// Ends the nodes as SIGTERM does, one tier after the other: the router delivers what it holds,
    /// then the samplers decide what waits and deliver what they keep.
    pub(super) async fn finish(self) -> Census {
        let until = Tick::now() + SETTLE;
        while Counters::of(&self.router.snapshots().await, &self.names).in_flight() > 0
            && Tick::now() < until
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.router.drain().await;
        futures_util::future::join_all(self.samplers.iter().map(Running::drain)).await;
        let mut census = self.count().await;
        for node in std::iter::once(self.router).chain(self.samplers) {
            census.abandoned +=
                node.stop().await.items.iter().map(|(_, _, spans)| spans).sum::<u64>();
        }
        census
    }
}

/// An embedded configuration, read as a file would be.
fn plan(text: &str, variables: &[(&str, &str)]) -> Result<Plan, Failure> {
    let env = |name: &str| match name {
        "CONFIG" => Some(text.to_owned()),
        _ => variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()),
    };
    let request = Request { configs: vec!["env:CONFIG".into()], ..Request::default() };
    match config::load(&request, &env, &Machine::read()) {
        Ok(loaded) => Ok(loaded.plan),
        Err(report) => Err(Failure::Config(report.to_string())),
    }
}

/// CPU time of the data cores alone.
fn cpu_of(running: &Running) -> Duration {
    running.threads().into_iter().filter_map(|tid| process::thread_cpu(tid).ok()).sum()
}
