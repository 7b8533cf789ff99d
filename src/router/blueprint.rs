//! What a core is made from, and how its router is put together: outlets by exporter, ways by
//! receiver.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::debug::Sink;
use super::trust::Trust;
use super::{Exits, Router, Rules, Way};
use crate::config::Plan;
use crate::config::plan::{ExporterKind, LoadBalancing, Pipeline};
use crate::otlp::Signal;
use crate::otlp::edit::Edits;
use crate::route::Ring;
use crate::rpc::way;
use crate::runtime::gate::Gate;
use crate::runtime::lease::{Limit, Purse};
use crate::sample::policy::Limiters;
use crate::sample::{Census, Program};
use crate::upstream::options::{Protocol, QueueOptions};
use crate::upstream::outlet::{Limits, Outlet, Recipe, Site};
use crate::upstream::replies::Replies;
use crate::upstream::{self, file};

/// What a core is made from; the same for all cores but for the number.
#[derive(Clone, Debug)]
pub struct Blueprint {
    /// Number of the configuration since the start, from 0.
    pub generation: u64,
    /// The configuration.
    pub plan: Arc<Plan>,
    /// First ring of each exporter that is a balancer.
    pub rings: Vec<Option<Arc<Ring>>>,
    /// Queue limits of the process.
    pub limits: Arc<Limits>,
    /// Memory limit of the process.
    pub memory: Arc<Limit>,
    /// Memory for messages that are still arriving, besides [`Self::memory`].
    pub arriving: Arc<Limit>,
    /// TLS of entrances and exporters.
    pub trust: Arc<Trust>,
    /// Ways to the file of each exporter that has one.
    pub files: Vec<Option<file::Sink>>,
    /// Drawn anew for each process, so that nobody can choose ids that collide.
    pub seed: u64,
    /// What the samplers of all cores have in common, one per sampled pipeline.
    pub sampling: Vec<Sampling>,
    /// How many cores there are.
    pub cores: usize,
}

/// The policies of a pipeline, compiled, and what its shards share.
#[derive(Clone, Debug)]
pub struct Sampling {
    pub(super) program: Arc<Program>,
    pub(super) limiters: Arc<Limiters>,
    pub(super) census: Arc<Census>,
    /// How many shards have traces.
    pub(super) shards: usize,
}

impl Sampling {
    /// Compiles the policies of every sampled pipeline, for the shards of so many cores.
    ///
    /// # Errors
    /// What does not compile; configuration has found that before.
    pub fn all(plan: &Plan, cores: usize) -> Result<Vec<Self>, String> {
        let sampled = plan.pipelines.iter().filter_map(|p| p.sampling.as_ref());
        sampled
            .map(|sampling| {
                let (program, limiters) = Program::compile(&sampling.options)?;
                let census = Census::new(sampling.options.num_traces, cores);
                let shards = if sampling.options.wants_one_shard() { 1 } else { cores };
                let (program, limiters) = (Arc::new(program), Arc::new(limiters));
                Ok(Self { program, limiters, census, shards })
            })
            .collect()
    }
}

/// Where connections come in: one entry per socket, in the order of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entrance {
    /// `protocols.grpc` of the receiver at this position.
    Grpc(usize),
    /// `protocols.http`.
    Http(usize),
}

impl Entrance {
    /// Position of its receiver in the plan.
    #[must_use]
    pub const fn receiver(self) -> usize {
        match self {
            Self::Grpc(at) | Self::Http(at) => at,
        }
    }

    /// As log lines name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grpc(_) => "GRPC",
            Self::Http(_) => "HTTP",
        }
    }
}

/// All entrances of a plan.
#[must_use]
pub fn entrances(plan: &Plan) -> Vec<Entrance> {
    let each = plan.receivers.iter().enumerate();
    each.flat_map(|(at, receiver)| {
        let grpc = receiver.grpc.as_ref().map(|_| Entrance::Grpc(at));
        let http = receiver.http.as_ref().map(|_| Entrance::Http(at));
        grpc.into_iter().chain(http)
    })
    .collect()
}

/// A router of core number `core`.
pub(super) fn router(blueprint: &Blueprint, core: usize, memory: Purse) -> Router {
    let plan = &blueprint.plan;
    let site = Site {
        core,
        cores: blueprint.cores,
        replies: Rc::new(RefCell::new(Replies::default())),
        gate: Gate::default(),
        limits: Arc::clone(&blueprint.limits),
        ack_wait: plan.engine.ack_wait,
    };
    let rules = Rules {
        ack_wait: plan.engine.ack_wait,
        refuse_partial: plan.engine.refuse_partial,
        soft_bytes: plan.engine.soft_bytes,
        edits_bytes_max: plan.engine.hard_bytes / 4,
    };
    let outlets =
        (0..plan.exporters.len()).map(|at| outlet(blueprint, at, &site)).collect::<Vec<_>>();
    let debugs = plan
        .exporters
        .iter()
        .filter_map(|e| match &e.kind {
            ExporterKind::Debug(options) => Some(Sink::new(&e.id, options)),
            _ => None,
        })
        .collect();
    let ways = (0..plan.receivers.len()).map(|at| way(blueprint, at)).collect();
    Router::new(outlets, debugs, ways, site, memory, rules)
}

fn outlet(blueprint: &Blueprint, at: usize, site: &Site) -> Outlet {
    let plan = &blueprint.plan;
    let exporter = &plan.exporters[at];
    match &exporter.kind {
        ExporterKind::LoadBalancing(balancing) => {
            let recipe = recipe(blueprint, at, balanced(balancing), balancing.queue);
            let ring = blueprint.rings[at].clone().expect("a balancer has a first ring");
            let is_given = |signal| {
                let mut pipelines = plan.pipelines.iter();
                pipelines.any(|p| p.signal == signal && p.exporters.contains(&at))
            };
            let keys = Signal::ALL
                .map(|signal| is_given(signal).then(|| balancing.keys[signal as usize].clone()));
            Outlet::balancer(recipe, ring, keys, site)
        }
        ExporterKind::OtlpGrpc { endpoint, options } => {
            Outlet::single(&recipe(blueprint, at, (**options).clone(), None), endpoint, site)
        }
        ExporterKind::OtlpHttp { endpoints, options } => {
            let mut options = (**options).clone();
            through_proxies(&mut options, endpoints);
            Outlet::by_signal(&recipe(blueprint, at, options, None), endpoints, site)
        }
        ExporterKind::Debug(_) | ExporterKind::File(_) | ExporterKind::Nop => Outlet::Nop,
    }
}

/// How an exporter's lanes are made, with what its pipelines say about them.
fn recipe(
    blueprint: &Blueprint,
    at: usize,
    options: upstream::Options,
    outer_queue: Option<QueueOptions>,
) -> Recipe {
    let plan = &blueprint.plan;
    let mut sampled = plan.pipelines.iter().filter(|p| p.sampling.is_some());
    let is_fed = sampled.any(|p| p.exporters.contains(&at));
    let (exporter, tls) = (plan.exporters[at].id.clone(), blueprint.trust.clients[at].clone());
    let mut recipe = Recipe { exporter, options, tls, outer_queue, is_fed };
    cap(&mut recipe, batch_cap(plan, at));
    gather(&mut recipe, plan, at);
    recipe
}

/// Where the user names no proxy, that of the environment stands before a URL.
fn through_proxies(options: &mut upstream::Options, endpoints: &[String; 3]) {
    let Protocol::Http(http) = &mut options.protocol else { return };
    for (url, chosen) in endpoints.iter().zip(&mut http.proxies) {
        let (None, Ok(uri)) = (&chosen, url.parse()) else { continue };
        *chosen = way::proxy_of_process(&uri);
    }
}

/// The two levels of the balancer as one: parts are what is retried and queued, so a retry at the
/// balancer's own level is the part's, unless the inner level has its own (loadbalancing 1.5).
fn balanced(balancing: &LoadBalancing) -> upstream::Options {
    let mut options = balancing.template.clone();
    options.retry = options.retry.or(balancing.retry);
    options
}

/// `batch` behind a sampler gathers, if all that the exporter gets comes through one; of several
/// the most eager holds.
fn gather(recipe: &mut Recipe, plan: &Plan, exporter: usize) {
    let users = plan.pipelines.iter().filter(|p| p.exporters.contains(&exporter));
    let batches: Option<Vec<_>> = users.map(|p| p.batch.filter(|_| p.sampling.is_some())).collect();
    let Some(batches) = batches.filter(|batches| !batches.is_empty()) else { return };
    let merge = &mut recipe.options.merge;
    let linger = batches.iter().map(|batch| batch.timeout).min().unwrap_or_default();
    let items = batches.iter().map(|batch| batch.items).min().unwrap_or(0);
    // Without a timeout, or a size, it sends at once (otlp 4.7).
    if !linger.is_zero() && items > 0 {
        merge.linger = linger.max(merge.linger);
        merge.gather_items = items;
    }
}

/// `batch` caps merging; of several pipelines the smallest cap holds.
fn batch_cap(plan: &Plan, exporter: usize) -> u64 {
    plan.pipelines
        .iter()
        .filter(|p| p.exporters.contains(&exporter) && p.batch_items_max > 0)
        .map(|p| p.batch_items_max)
        .min()
        .unwrap_or(0)
}

fn cap(recipe: &mut Recipe, items_max: u64) {
    let merge = &mut recipe.options.merge;
    merge.items_max = match (merge.items_max, items_max) {
        (0, b) => b,
        (a, 0) => a,
        (a, b) => a.min(b),
    };
}

/// Where the receiver's requests go.
fn way(blueprint: &Blueprint, receiver: usize) -> Way {
    let plan = &blueprint.plan;
    let mut way = Way { receiver: plan.receivers[receiver].id.clone(), ..Way::default() };
    // What comes by several connectors comes several times.
    let feeds = |pipeline: &'_ Pipeline| {
        let all = pipeline.receivers.iter().zip(&pipeline.edits);
        all.filter(|(at, _)| **at == receiver).map(|(_, edits)| edits.clone()).collect::<Vec<_>>()
    };
    let sampled = plan.pipelines.iter().filter(|p| p.sampling.is_some());
    for (at, pipeline) in sampled.enumerate() {
        let feeds = feeds(pipeline).into_iter();
        way.samplers.extend(feeds.map(|edits| (at, Arc::new(edits))));
    }
    let whole = plan.pipelines.iter().filter(|p| p.sampling.is_none());
    let mine = whole.flat_map(|p| feeds(p).into_iter().map(move |edits| (p, edits)));
    for (pipeline, edits) in mine {
        let more = exits(blueprint, &pipeline.exporters, Arc::new(edits));
        let all = &mut way.exits[pipeline.signal as usize];
        match all.iter_mut().find(|exits| exits.edits == more.edits) {
            Some(exits) => {
                exits.outlets.extend(more.outlets);
                exits.debugs.extend(more.debugs);
                exits.files.extend(more.files);
            }
            None => all.push(more),
        }
        for &exporter in &pipeline.exporters {
            if let ExporterKind::LoadBalancing(balancing) = &plan.exporters[exporter].kind {
                let timeout = Some(balancing.timeout).filter(|t| !t.is_zero());
                way.bound = way.bound.into_iter().chain(timeout).min();
            }
        }
    }
    way
}

/// The ways behind the sampler of a pipeline.
pub(super) fn legs(blueprint: &Blueprint, pipeline: &Pipeline) -> Vec<Exits> {
    let legs = pipeline.legs.iter();
    legs.map(|leg| exits(blueprint, &leg.exporters, Arc::new(leg.edits.clone()))).collect()
}

/// Some exporters, by what they are.
fn exits(blueprint: &Blueprint, these: &[usize], edits: Arc<Edits>) -> Exits {
    let exporters = &blueprint.plan.exporters;
    let is_debug = |at: usize| matches!(exporters[at].kind, ExporterKind::Debug(_));
    let debugs = these.iter().filter(|at| is_debug(**at));
    Exits {
        edits,
        outlets: these.to_vec(),
        debugs: debugs.map(|&at| (0..at).filter(|before| is_debug(*before)).count()).collect(),
        files: these.iter().filter_map(|&at| blueprint.files[at].clone()).collect(),
    }
}
