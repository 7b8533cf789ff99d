//! The life of one core: it makes its router and servers from the plan, serves what the control
//! thread hands it, and ends when it is told to.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::oneshot;

use super::debug::Sink;
use super::kept::Kept;
use super::snapshot::Snapshot;
use super::trust::Trust;
use super::{Exits, Inlet, Router, Rules, Way};
use crate::config::Plan;
use crate::config::plan::{ExporterKind, LoadBalancing, Pipeline};
use crate::net::Stream;
use crate::net::socket::Accepted;
use crate::net::tls::{self, Protocol as Alpn, ServerTls};
use crate::otlp::Signal;
use crate::route::Ring;
use crate::rpc::grpc_server::{self, Server};
use crate::rpc::http_server::{self, HttpServer};
use crate::rpc::lost::Lost;
use crate::rpc::proxy;
use crate::runtime::clock;
use crate::runtime::drain::Drain;
use crate::runtime::executor;
use crate::runtime::gate::Gate;
use crate::runtime::lease::{Lease, Limit, Purse};
use crate::runtime::mailbox::Receiver;
use crate::runtime::mesh::{Mesh, Port};
use crate::runtime::timer::Timeout;
use crate::sample::policy::Limiters;
use crate::sample::{Census, Program, Setup, Shard};
use crate::sampler::{self, Parcel, Parts, Sampler};
use crate::upstream::options::Protocol;
use crate::upstream::outlet::{Limits, Outlet, Recipe, Site};
use crate::upstream::replies::Replies;
use crate::upstream::{self, file};

/// Telemetry bytes are leased in pieces of this size.
const MEMORY_CHUNK_BYTES: u64 = 256 << 10;
/// Memory for arriving messages is leased in pieces of this size.
const ARRIVING_CHUNK_BYTES: u64 = 64 << 10;

/// What the control thread tells a core.
#[derive(Debug)]
pub enum Message {
    /// A client connected.
    Connection {
        /// Its socket.
        socket: Accepted,
        /// Position of the listener in [`entrances`].
        listener: usize,
    },
    /// Somebody wants to know.
    Snapshot(oneshot::Sender<Snapshot>),
    /// A balancer has a new ring.
    Ring {
        /// Position of the exporter.
        exporter: usize,
        /// The ring.
        ring: Arc<Ring>,
    },
    /// Take no more, deliver what is owned. Answered when nothing is left.
    Drain(oneshot::Sender<()>),
    /// Give up what is left and end. Answered with the items lost, by exporter and endpoint.
    Stop(oneshot::Sender<Vec<(String, String, u64)>>),
}

/// What a core is made from; the same for all cores but for the number.
#[derive(Clone, Debug)]
pub struct Blueprint {
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
    program: Arc<Program>,
    limiters: Arc<Limiters>,
    census: Arc<Census>,
}

impl Sampling {
    /// Compiles the policies of every sampled pipeline.
    ///
    /// # Errors
    /// What does not compile; configuration has found that before.
    pub fn all(plan: &Plan) -> Result<Vec<Self>, String> {
        let sampled = plan.pipelines.iter().filter_map(|p| p.sampling.as_ref());
        sampled
            .map(|sampling| {
                let (program, limiters) = Program::compile(&sampling.options)?;
                let census = Arc::new(Census::new(sampling.options.num_traces));
                Ok(Self { program: Arc::new(program), limiters: Arc::new(limiters), census })
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

struct Door {
    server: AnyServer,
    tls: Option<ServerTls>,
}

#[derive(Clone)]
enum AnyServer {
    Grpc(Rc<Server<Inlet>>),
    Http(Rc<HttpServer<Inlet>>),
}

/// Runs core number `core` until it is stopped. `load` counts its connections for the control
/// thread, which chooses the core of a new one by it.
pub async fn run(
    blueprint: Blueprint,
    core: usize,
    port: Port<Parcel>,
    load: Arc<AtomicUsize>,
    mut inbox: Receiver<Message>,
) {
    let drain = Drain::default();
    let memory = Purse::new(Lease::new(Arc::clone(&blueprint.memory), MEMORY_CHUNK_BYTES));
    let router = Rc::new(router(&blueprint, core, memory.clone()));
    start_samplers(&blueprint, &router, Mesh::new(port), &memory);
    let connections = Rc::new(Cell::new(0));
    let arriving = Purse::new(Lease::new(Arc::clone(&blueprint.arriving), ARRIVING_CHUNK_BYTES));
    let doors = doors(&blueprint, &router, &arriving, &drain, &connections);
    let ticking = Rc::clone(&router);
    executor::detach(async move { ticking.tick().await });
    loop {
        match inbox.recv().await {
            Message::Connection { socket, listener } => {
                enter(&doors[listener], socket, Arc::clone(&load));
            }
            Message::Snapshot(to) => {
                // Whoever asked may be gone.
                let _ = to.send(Snapshot { connections: connections.get(), ..router.snapshot() });
            }
            Message::Ring { exporter, ring } => {
                router.swap(exporter, &ring);
                let router = Rc::clone(&router);
                executor::detach(async move { router.reclaim(exporter).await });
            }
            Message::Drain(done) => {
                drain.call();
                router.drain();
                let (router, connections) = (Rc::clone(&router), Rc::clone(&connections));
                executor::detach(async move {
                    let leave_by = clock::now() + LEAVE_TIMEOUT;
                    let may_bring_more = || connections.get() > 0 && clock::now() < leave_by;
                    let mut done = Some(done);
                    // Other cores may bring spans as long as they drain; this ends with the core.
                    loop {
                        crate::runtime::timer::sleep(IDLE_LOOK).await;
                        if may_bring_more() {
                            continue;
                        }
                        router.finish_samplers();
                        if router.is_idle() {
                            done.take().map(|done| done.send(()));
                        }
                    }
                });
            }
            Message::Stop(done) => {
                let _ = done.send(router.abandon());
                return;
            }
        }
    }
}

fn start_samplers(blueprint: &Blueprint, router: &Rc<Router>, mesh: Mesh<Parcel>, memory: &Purse) {
    let plan = &blueprint.plan;
    let sampled = plan.pipelines.iter().filter_map(|p| Some((p, p.sampling.as_ref()?)));
    let mut all = Vec::new();
    for (at, (pipeline, sampling)) in sampled.enumerate() {
        let Sampling { program, limiters, census } = blueprint.sampling[at].clone();
        let seed = blueprint.seed.rotate_left(u32::try_from(mesh.core() % 64).unwrap_or(0));
        let setup = Setup { program, limiters, census, shards: blueprint.cores, seed };
        let sampler = Rc::new(Sampler::new(Parts {
            at,
            seed: blueprint.seed,
            shard: Shard::new(clock::now(), &sampling.options, setup),
            mesh: mesh.clone(),
            memory: memory.clone(),
            soft_bytes: plan.engine.soft_bytes,
            queues: router.queues(),
        }));
        let exit = Kept { router: Rc::clone(router), exits: exits(blueprint, pipeline) };
        executor::detach(Rc::clone(&sampler).run(exit));
        all.push(sampler);
    }
    if !all.is_empty() {
        router.set_samplers(all.clone());
        executor::detach(sampler::carry(mesh, all));
    }
}

/// How often a draining core looks whether it is done.
const IDLE_LOOK: std::time::Duration = std::time::Duration::from_millis(20);
/// How long a draining core waits for clients to act on GOAWAY. What one of them sends before it
/// has seen it would be taken and then dropped.
const LEAVE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// Longest time for a handshake; a peer that says nothing is closed then.
const HANDSHAKE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

fn enter(door: &Door, socket: Accepted, load: Arc<AtomicUsize>) {
    let stream = match Stream::adopt(socket) {
        Ok(stream) => stream,
        Err(e) => {
            load.fetch_sub(1, Relaxed);
            return tracing::debug!("A client left before it was served: {e}");
        }
    };
    let server = door.server.clone();
    match door.tls.clone() {
        None => serve(stream, server, load),
        Some(tls) => executor::detach(async move {
            let shaken = Timeout::new(HANDSHAKE_TIMEOUT, tls::accept(stream, &tls)).await;
            let refused = match shaken {
                Some(Ok(stream)) if server.may_speak(&stream) => {
                    return serve(stream, server, load);
                }
                Some(Ok(_)) => "the client names no protocol (ALPN), which gRPC asks for".into(),
                Some(Err(e)) => e.to_string(),
                None => "it took too long".to_owned(),
            };
            load.fetch_sub(1, Relaxed);
            tracing::debug!("A TLS handshake failed: {refused}.");
        }),
    }
}

impl AnyServer {
    /// As grpc-go, gRPC refuses a client that has not agreed on HTTP/2.
    fn may_speak(&self, stream: &Stream) -> bool {
        matches!(self, Self::Http(_)) || stream.protocol() == Some(Alpn::Http2)
    }
}

fn serve(stream: Stream, server: AnyServer, load: Arc<AtomicUsize>) {
    match server {
        AnyServer::Grpc(server) => attend(grpc_server::serve(stream, server), load),
        AnyServer::Http(server) => attend(http_server::serve(stream, server), load),
    }
}

fn attend(connection: impl Future<Output = Result<(), Lost>> + 'static, load: Arc<AtomicUsize>) {
    executor::detach(async move {
        if let Err(e) = connection.await {
            tracing::debug!("A connection ended: {e}");
        }
        load.fetch_sub(1, Relaxed);
    });
}

fn doors(
    blueprint: &Blueprint,
    router: &Rc<Router>,
    arriving: &Purse,
    drain: &Drain,
    connections: &Rc<Cell<usize>>,
) -> Vec<Door> {
    let plan = &blueprint.plan;
    let server = |entrance| match entrance {
        Entrance::Grpc(at) => AnyServer::Grpc(Rc::new(Server {
            service: Inlet { router: Rc::clone(router), way: at },
            options: plan.receivers[at].grpc.clone().expect("it has an entrance"),
            memory: arriving.clone(),
            windows_bytes: plan.engine.hard_bytes / 4 / blueprint.cores as u64,
            drain: drain.clone(),
            connections: Rc::clone(connections),
        })),
        Entrance::Http(at) => AnyServer::Http(Rc::new(HttpServer {
            service: Inlet { router: Rc::clone(router), way: at },
            options: plan.receivers[at].http.clone().expect("it has an entrance"),
            memory: arriving.clone(),
            drain: drain.clone(),
            connections: Rc::clone(connections),
        })),
    };
    let door =
        |(entrance, tls): (_, &Option<_>)| Door { server: server(entrance), tls: tls.clone() };
    entrances(plan).into_iter().zip(&blueprint.trust.servers).map(door).collect()
}

fn router(blueprint: &Blueprint, core: usize, memory: Purse) -> Router {
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
    let exporter = &blueprint.plan.exporters[at];
    let items_max = batch_cap(&blueprint.plan, at);
    let mut sampled = blueprint.plan.pipelines.iter().filter(|p| p.sampling.is_some());
    let is_fed = sampled.any(|p| p.exporters.contains(&at));
    match &exporter.kind {
        ExporterKind::LoadBalancing(balancing) => {
            let mut recipe = balancing_recipe(&exporter.id, balancing);
            recipe.is_fed = is_fed;
            recipe.tls = blueprint.trust.clients[at].clone();
            cap(&mut recipe, items_max);
            gather(&mut recipe, &blueprint.plan, at);
            let ring = blueprint.rings[at].clone().expect("a balancer has a first ring");
            let is_given = |signal| {
                let mut pipelines = blueprint.plan.pipelines.iter();
                pipelines.any(|p| p.signal == signal && p.exporters.contains(&at))
            };
            let keys = Signal::ALL
                .map(|signal| is_given(signal).then(|| balancing.keys[signal as usize].clone()));
            Outlet::balancer(recipe, ring, keys, site)
        }
        ExporterKind::OtlpGrpc { endpoint, options } => {
            let options = (**options).clone();
            let exporter = exporter.id.clone();
            let tls = blueprint.trust.clients[at].clone();
            let mut recipe = Recipe { exporter, options, tls, outer_queue: None, is_fed };
            cap(&mut recipe, items_max);
            gather(&mut recipe, &blueprint.plan, at);
            Outlet::single(&recipe, endpoint, site)
        }
        ExporterKind::OtlpHttp { endpoints, options } => {
            let mut options = (**options).clone();
            through_proxies(&mut options, endpoints);
            let exporter = exporter.id.clone();
            let tls = blueprint.trust.clients[at].clone();
            let mut recipe = Recipe { exporter, options, tls, outer_queue: None, is_fed };
            cap(&mut recipe, items_max);
            gather(&mut recipe, &blueprint.plan, at);
            Outlet::by_signal(&recipe, endpoints, site)
        }
        ExporterKind::Debug(_) | ExporterKind::File(_) | ExporterKind::Nop => Outlet::Nop,
    }
}

/// Where the user names no proxy, that of the environment stands before a URL.
fn through_proxies(options: &mut upstream::Options, endpoints: &[String; 3]) {
    let Protocol::Http(http) = &mut options.protocol else { return };
    for (url, chosen) in endpoints.iter().zip(&mut http.proxies) {
        let (None, Ok(uri)) = (&chosen, url.parse()) else { continue };
        let variable = |name: &str| std::env::var(name).ok();
        let Some(named) = proxy::of_environment(&uri, &variable) else { continue };
        if url.starts_with("https://") {
            tracing::error!("The proxy of the environment is not used for {url}: it is https.");
            continue;
        }
        match proxy::Proxy::parse(&named) {
            Ok(proxy) => *chosen = Some(proxy),
            Err(what) => {
                tracing::error!("The proxy of the environment is not used for {url}: it {what}.")
            }
        }
    }
}

/// The two levels of the balancer as one: parts are what is retried and queued, so a retry at the
/// balancer's own level is the part's, unless the inner level has its own (loadbalancing 1.5).
fn balancing_recipe(id: &str, balancing: &LoadBalancing) -> Recipe {
    let mut options = balancing.template.clone();
    options.retry = options.retry.or(balancing.retry);
    let (exporter, outer_queue) = (id.to_owned(), balancing.queue);
    Recipe { exporter, options, tls: None, outer_queue, is_fed: false }
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
    let sampled = plan.pipelines.iter().filter(|p| p.sampling.is_some());
    let sampled = sampled.enumerate().filter(|(_, p)| p.receivers.contains(&receiver));
    way.samplers = sampled.map(|(at, _)| at).collect();
    let whole = plan.pipelines.iter().filter(|p| p.sampling.is_none());
    // What comes by several connectors comes several times.
    let mine = whole.flat_map(|p| p.receivers.iter().filter(|&&r| r == receiver).map(move |_| p));
    for pipeline in mine {
        let more = exits(blueprint, pipeline);
        let exits = way.exits[pipeline.signal as usize].get_or_insert_default();
        exits.outlets.extend(more.outlets);
        exits.debugs.extend(more.debugs);
        exits.files.extend(more.files);
        for &exporter in &pipeline.exporters {
            if let ExporterKind::LoadBalancing(balancing) = &plan.exporters[exporter].kind {
                let timeout = Some(balancing.timeout).filter(|t| !t.is_zero());
                way.bound = way.bound.into_iter().chain(timeout).min();
            }
        }
    }
    way
}

/// The exporters of a pipeline, by what they are.
fn exits(blueprint: &Blueprint, pipeline: &Pipeline) -> Exits {
    let exporters = &blueprint.plan.exporters;
    let is_debug = |at: usize| matches!(exporters[at].kind, ExporterKind::Debug(_));
    let debugs = pipeline.exporters.iter().filter(|at| is_debug(**at));
    Exits {
        outlets: pipeline.exporters.clone(),
        debugs: debugs.map(|&at| (0..at).filter(|before| is_debug(*before)).count()).collect(),
        files: pipeline.exporters.iter().filter_map(|&at| blueprint.files[at].clone()).collect(),
    }
}
