//! ROLE: the control thread. It binds the sockets, starts the cores, hands each new connection to
//! the least busy core, serves the admin pages and sees the process to its end. Cores never wait
//! for it: it hands them messages, and they answer when they like.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use self::discover::{Discovery, Tally};
use crate::config::Plan;
use crate::config::plan::ExporterKind;
use crate::net::listener::{self, Address, Listener, SocketFile};
use crate::net::socket::Accepted;
use crate::net::tls::Reload;
use crate::router::core::{self as router_core, Blueprint, Entrance, Message, Sampling};
use crate::router::snapshot::Snapshot;
use crate::router::trust::{self, Trust, Watched};
use crate::runtime::executor::{self, Seat};
use crate::runtime::lease::Limit;
use crate::runtime::mailbox::{Sender, mailbox};
use crate::runtime::mesh::{Port, mesh};
use crate::runtime::{clock, cores, preflight};
use crate::sampler::Parcel;
use crate::telemetry::process;
use crate::upstream::outlet::Limits;
use crate::upstream::{file, resolve};

pub mod discover;
pub mod metrics;
mod secrets;
pub mod serve;

/// Messages that may wait for a core.
const INBOX_MAX: usize = 4096;
/// Room for arriving messages: at least one body of the largest size by default (20 MiB on HTTP).
const ARRIVING_BYTES_MIN: u64 = 24 << 20;
const ARRIVING_BYTES_MAX: u64 = 64 << 20;
/// What waits for a disk may take this part of the memory limit beside it.
const FILE_SHARE: u64 = 16;
/// How often the busy share of the cores is looked at.
const BUSY_TICK: Duration = Duration::from_secs(1);
/// How often a drain says what is left.
const DRAIN_TICK: Duration = Duration::from_secs(2);
/// Wait after an accept that failed (most often: too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the process cannot start.
#[derive(Debug)]
pub enum StartError {
    /// The machine lacks something.
    Refused(preflight::Refusal),
    /// The cores that were asked for cannot be had.
    Cores(cores::Error),
    /// A receiver cannot listen.
    Listen {
        /// Component id.
        receiver: String,
        /// Why.
        cause: listener::Error,
    },
    /// A receiver or exporter has no TLS that it could use.
    Tls(trust::Fault),
    /// A `file` exporter cannot open its file.
    File {
        /// Component id.
        exporter: String,
        /// `path`.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
    /// A balancer's resolver lacks something.
    Resolver {
        /// Component id.
        exporter: String,
        /// Why.
        cause: resolve::Error,
    },
    /// A core did not come up.
    Core(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(e) => e.fmt(f),
            Self::Cores(e) => e.fmt(f),
            Self::Listen { receiver, cause } => {
                write!(
                    f,
                    "cannot start pipelines: failed to start \"{receiver}\" receiver: {cause}"
                )
            }
            Self::Tls(fault) => write!(f, "cannot start pipelines: {fault}"),
            Self::File { exporter, path, cause } => write!(
                f,
                "cannot start pipelines: failed to start \"{exporter}\" exporter: open {path}: \
                 {cause}"
            ),
            Self::Resolver { exporter, cause } => write!(
                f,
                "cannot start pipelines: failed to start \"{exporter}\" exporter: {cause}"
            ),
            Self::Core(text) => f.write_str(text),
        }
    }
}

/// One core, as seen from here.
#[derive(Debug)]
struct Core {
    inbox: Sender<Message>,
    load: Arc<Load>,
    thread: JoinHandle<Result<(), String>>,
    /// Kernel id of the thread.
    tid: u32,
}

/// How loaded a core is.
#[derive(Debug, Default)]
struct Load {
    connections: Arc<AtomicUsize>,
    /// CPU time of the last tick, in nanoseconds.
    busy_nanos: AtomicU64,
}

/// A core as those need it who hand it something.
#[derive(Clone, Debug)]
struct Doorway {
    inbox: Sender<Message>,
    load: Arc<Load>,
}

impl Core {
    fn doorway(&self) -> Doorway {
        Doorway { inbox: self.inbox.clone(), load: Arc::clone(&self.load) }
    }
}

/// Cores that run a plan.
#[derive(Debug)]
pub struct Running {
    plan: Arc<Plan>,
    cores: Vec<Core>,
    addresses: Vec<(Entrance, Address)>,
    limits: Arc<Limits>,
    memory: Arc<Limit>,
    files: Vec<file::Writer>,
    resolvers: Vec<Arc<Tally>>,
    tasks: RefCell<JoinSet<()>>,
}

impl Running {
    /// Binds every socket, starts every core and takes connections.
    ///
    /// # Errors
    /// Nothing runs then.
    pub async fn start(plan: Arc<Plan>) -> Result<Self, StartError> {
        preflight::check().map_err(StartError::Refused)?;
        let seats = cores::choose(&plan.engine).map_err(StartError::Cores)?;
        let trust = Arc::new(Trust::load(&plan).map_err(StartError::Tls)?);
        let listeners = listen(&plan)?;
        let limits = Arc::new(Limits::default());
        let memory = Limit::new(plan.engine.hard_bytes);
        let discoveries = discoveries(&plan).await?;
        let mut rings = vec![None; plan.exporters.len()];
        for discovery in &discoveries {
            rings[discovery.exporter] = Some(Arc::clone(discovery.ring()));
        }
        let (files, sinks) = open_files(&plan)?;
        let blueprint = Blueprint {
            rings,
            trust: Arc::clone(&trust),
            files: sinks,
            plan: Arc::clone(&plan),
            limits: Arc::clone(&limits),
            memory: Arc::clone(&memory),
            arriving: Limit::new(arriving_bytes(plan.engine.hard_bytes)),
            sampling: Sampling::all(&plan).map_err(StartError::Core)?,
            seed: seed(),
            cores: seats.len(),
        };
        let mut cores = Vec::new();
        for ((number, &cpu), port) in seats.iter().enumerate().zip(mesh(seats.len())) {
            cores.push(start_core(&blueprint, number, cpu, port).await?);
        }
        let mut tasks = JoinSet::new();
        let doors: Vec<Doorway> = cores.iter().map(Core::doorway).collect();
        let mut resolvers = Vec::new();
        for discovery in discoveries {
            resolvers.push(discovery.tally());
            tasks.spawn(discovery.follow(doors.clone()));
        }
        let mut addresses = Vec::new();
        for (at, (entrance, socket)) in listeners.into_iter().enumerate() {
            let broken = |e: std::io::Error| StartError::Core(e.to_string());
            addresses.push((entrance, socket.address().map_err(broken)?));
            let socket = Socket::new(socket).map_err(broken)?;
            tasks.spawn(accept(socket, at, doors.clone()));
        }
        for watched in trust.watched(&plan) {
            tasks.spawn(watch_files(watched));
        }
        let secrets = plan.secrets();
        if !secrets.is_empty() {
            tasks.spawn(secrets::follow(secrets));
        }
        tasks.spawn(watch_busy(cores.iter().map(|c| (c.tid, Arc::clone(&c.load))).collect()));
        let tasks = RefCell::new(tasks);
        Ok(Self { plan, cores, addresses, limits, memory, files, resolvers, tasks })
    }

    /// Where connections come in, with the ports that were really bound.
    #[must_use]
    pub fn addresses(&self) -> &[(Entrance, Address)] {
        &self.addresses
    }

    /// Kernel ids of the data cores' threads.
    #[must_use]
    pub fn threads(&self) -> Vec<u32> {
        self.cores.iter().map(|c| c.tid).collect()
    }

    /// What runs.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Share of the last second that a core was busy.
    #[must_use]
    pub fn busy_share(&self, core: usize) -> f64 {
        self.cores[core].load.busy_nanos.load(Relaxed) as f64 / 1e9
    }

    /// Queue limits of the process, and its memory limit.
    #[must_use]
    pub fn limits(&self) -> (&Limits, &Limit) {
        (&self.limits, &self.memory)
    }

    /// How the balancers' resolvers fare, in the order of the plan.
    #[must_use]
    pub fn resolvers(&self) -> &[Arc<Tally>] {
        &self.resolvers
    }

    /// The `file` exporters.
    #[must_use]
    pub fn files(&self) -> &[file::Writer] {
        &self.files
    }

    /// Asks every core what it has counted. A core that ended is left out.
    pub async fn snapshots(&self) -> Vec<Snapshot> {
        let mut asked = Vec::new();
        for core in &self.cores {
            let (to, answer) = oneshot::channel();
            if core.inbox.send(Message::Snapshot(to)).is_ok() {
                asked.push(answer);
            }
        }
        let mut all = Vec::new();
        for answer in asked {
            all.extend(answer.await);
        }
        all
    }

    /// Takes no more, and gives the cores until `drain_timeout` to deliver what they own.
    pub async fn drain(&self) {
        self.tasks.borrow_mut().abort_all();
        let mut drained = Vec::new();
        for core in &self.cores {
            let (done, answer) = oneshot::channel();
            if core.inbox.send(Message::Drain(done)).is_ok() {
                drained.push(answer);
            }
        }
        let all = futures_util::future::join_all(drained);
        // Over time: what is left is reported when the cores stop.
        let _ = tokio::time::timeout(self.plan.engine.drain_timeout, self.telling(all)).await;
    }

    /// Says now and then what is still owned, while `work` goes on.
    async fn telling<T>(&self, work: impl Future<Output = T>) {
        let mut work = std::pin::pin!(work);
        while tokio::time::timeout(DRAIN_TICK, work.as_mut()).await.is_err() {
            let snapshots = self.snapshots().await;
            let items: u64 = snapshots.iter().flat_map(|s| &s.lanes).map(|l| l.held_items).sum();
            tracing::info!(items, "Delivering what is left.");
        }
    }

    /// Ends the cores. Returns what was lost: items by exporter and endpoint.
    pub async fn stop(self) -> Vec<(String, String, u64)> {
        let mut lost = Vec::new();
        for core in &self.cores {
            let (done, answer) = oneshot::channel();
            if core.inbox.send(Message::Stop(done)).is_ok() {
                lost.extend(answer.await.unwrap_or_default());
            }
        }
        for core in self.cores {
            // A panic would have ended the process already.
            let _ = core.thread.join();
        }
        for file in self.files {
            let (exporter, path) = file.target();
            let (exporter, path) = (exporter.to_owned(), path.to_owned());
            let items = file.close(self.plan.engine.drain_timeout);
            if items > 0 {
                lost.push((exporter, path, items));
            }
        }
        lost
    }

    /// [`Self::drain`], then [`Self::stop`].
    pub async fn shut_down(self) -> Vec<(String, String, u64)> {
        self.drain().await;
        self.stop().await
    }
}

/// Opens the files, and gives each exporter that has one its way to it.
fn open_files(plan: &Plan) -> Result<(Vec<file::Writer>, Vec<Option<file::Sink>>), StartError> {
    let (mut writers, mut sinks) = (Vec::new(), vec![None; plan.exporters.len()]);
    for (exporter, sink) in plan.exporters.iter().zip(&mut sinks) {
        let ExporterKind::File(options) = &exporter.kind else { continue };
        let bytes_max = plan.engine.hard_bytes / FILE_SHARE;
        let writer = file::Writer::start(&exporter.id, options, bytes_max).map_err(|cause| {
            let (exporter, path) = (exporter.id.clone(), options.path.clone());
            StartError::File { exporter, path, cause }
        })?;
        *sink = Some(writer.sink());
        writers.push(writer);
    }
    Ok((writers, sinks))
}

/// The resolvers of all balancers, asked side by side.
async fn discoveries(plan: &Plan) -> Result<Vec<Discovery>, StartError> {
    let balancers = plan.exporters.iter().enumerate().filter_map(|(at, e)| match &e.kind {
        ExporterKind::LoadBalancing(balancing) => Some((at, e, balancing)),
        _ => None,
    });
    let started = balancers.map(|(at, exporter, balancing)| async move {
        let discovery = Discovery::start(at, &exporter.id, balancing).await;
        discovery.map_err(|cause| StartError::Resolver { exporter: exporter.id.clone(), cause })
    });
    futures_util::future::try_join_all(started).await
}

/// Messages that are still arriving may take a sixteenth of the memory limit beside it.
fn arriving_bytes(hard_bytes: u64) -> u64 {
    (hard_bytes / 16).clamp(ARRIVING_BYTES_MIN, ARRIVING_BYTES_MAX)
}

fn listen(plan: &Plan) -> Result<Vec<(Entrance, Listener)>, StartError> {
    let mut all = Vec::new();
    for entrance in router_core::entrances(plan) {
        let receiver = &plan.receivers[entrance.receiver()];
        let place = match entrance {
            Entrance::Grpc(_) => receiver.grpc.as_ref().map(|o| (&o.endpoint, o.transport)),
            Entrance::Http(_) => receiver.http.as_ref().map(|o| (&o.endpoint, o.transport)),
        };
        let (endpoint, transport) = place.expect("an entrance has options");
        let socket = listener::listen(endpoint, transport)
            .map_err(|cause| StartError::Listen { receiver: receiver.id.clone(), cause })?;
        all.push((entrance, socket));
    }
    Ok(all)
}

/// Differs from process to process.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(clock::unix_nanos())
}

async fn start_core(
    blueprint: &Blueprint,
    number: usize,
    cpu: usize,
    port: Port<Parcel>,
) -> Result<Core, StartError> {
    let (inbox, messages) = mailbox(INBOX_MAX);
    let load = Arc::new(Load::default());
    let (up, is_up) = oneshot::channel();
    let engine = &blueprint.plan.engine;
    let seat =
        Seat { name: format!("core-{number}"), cpu: engine.pin.then_some(cpu), spin: engine.spin };
    let (blueprint, connections) = (blueprint.clone(), Arc::clone(&load.connections));
    let thread = executor::spawn(seat, move || async move {
        let _ = up.send(executor::thread_id());
        router_core::run(blueprint, number, port, connections, messages).await;
    })
    .map_err(|e| StartError::Core(format!("core {number} cannot be started: {e}")))?;
    match is_up.await {
        Ok(tid) => Ok(Core { inbox, load, thread, tid }),
        Err(_) => Err(StartError::Core(match thread.join() {
            Ok(Err(text)) => text,
            _ => format!("core {number} ended at its start"),
        })),
    }
}

/// A listener as the control thread's executor has it.
enum Socket {
    Tcp(TcpListener),
    Unix { socket: UnixListener, _file: SocketFile },
}

impl Socket {
    fn new(listener: Listener) -> std::io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(socket) => Self::Tcp(TcpListener::from_std(socket)?),
            Listener::Unix(socket, file) => {
                Self::Unix { socket: UnixListener::from_std(socket)?, _file: file }
            }
        })
    }

    async fn accept(&self) -> std::io::Result<Accepted> {
        match self {
            Self::Tcp(socket) => Ok(socket.accept().await?.0.into_std()?.into()),
            Self::Unix { socket, .. } => Ok(socket.accept().await?.0.into_std()?.into()),
        }
    }
}

/// Looks at certificates and keys again and again, and says what came of it.
async fn watch_files(watched: Watched) {
    loop {
        tokio::time::sleep(watched.interval).await;
        let Watched { kind, component, .. } = &watched;
        match watched.look(clock::wall()) {
            Reload::Same => {}
            Reload::Done => tracing::info!(
                otelcol.component.id = %component,
                otelcol.component.kind = kind,
                "The certificates were reloaded."
            ),
            Reload::Kept(e) => tracing::error!(
                otelcol.component.id = %component,
                otelcol.component.kind = kind,
                error = %e,
                "The certificates cannot be reloaded. The old ones stay in use."
            ),
        }
    }
}

/// Hands each connection to the core with the lowest busy share, then the fewest connections.
/// Connections live long, so this is where skew is avoided or made.
async fn accept(listener: Socket, at: usize, cores: Vec<Doorway>) {
    loop {
        let socket = match listener.accept().await {
            Ok(socket) => socket,
            Err(e) => {
                tracing::warn!("A connection cannot be accepted: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let least = |load: &Load| {
            // Tenths of the tick: differences below are noise.
            (load.busy_nanos.load(Relaxed) / 100_000_000, load.connections.load(Relaxed))
        };
        let Some(Doorway { inbox, load }) = cores.iter().min_by_key(|d| least(&d.load)) else {
            return;
        };
        load.connections.fetch_add(1, Relaxed);
        if inbox.send(Message::Connection { socket, listener: at }).is_err() {
            load.connections.fetch_sub(1, Relaxed);
            tracing::warn!("A connection is refused: the core has not taken the last {INBOX_MAX}.");
        }
    }
}

async fn watch_busy(cores: Vec<(u32, Arc<Load>)>) {
    let mut before = vec![Duration::ZERO; cores.len()];
    loop {
        tokio::time::sleep(BUSY_TICK).await;
        for ((tid, load), before) in cores.iter().zip(&mut before) {
            let Ok(cpu) = process::thread_cpu(*tid) else { continue };
            load.busy_nanos.store(crate::time::nanos(cpu.saturating_sub(*before)), Relaxed);
            *before = cpu;
        }
    }
}
