//! ROLE: the control thread. It binds the sockets, starts the cores, hands each new connection to
//! the least busy core, serves the admin pages, goes over to a new configuration, and sees the
//! process to its end. Cores never wait for it: it hands them messages, and they answer when they
//! like.

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use self::discover::Tally;
use self::generation::{Generation, Process};
use crate::config::Plan;
use crate::net::listener::Address;
use crate::router::blueprint::{Blueprint, Entrance};
use crate::router::core::{self as router_core, Lost, Message};
use crate::router::snapshot::Snapshot;
use crate::runtime::executor::{self, Seat};
use crate::runtime::lease::Limit;
use crate::runtime::mailbox::{Sender, mailbox};
use crate::runtime::mesh::{Port, mesh};
use crate::runtime::{clock, cores, preflight};
use crate::sampler::Parcel;
use crate::telemetry::process;
use crate::upstream::file;
use crate::upstream::outlet::Limits;

pub mod discover;
pub mod fault;
mod generation;
mod listen;
pub mod metrics;
mod reload;
mod secrets;
pub mod serve;

pub use fault::StartError;

/// Messages that may wait for a core.
const INBOX_MAX: usize = 4096;
/// Room for arriving messages: at least one body of the largest size by default (20 MiB on HTTP).
const ARRIVING_BYTES_MIN: u64 = 24 << 20;
const ARRIVING_BYTES_MAX: u64 = 64 << 20;
/// How often the busy share of the cores is looked at.
const BUSY_TICK: Duration = Duration::from_secs(1);
/// How often a drain says what is left.
const DRAIN_TICK: Duration = Duration::from_secs(2);

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
    process: Process,
    cores: Vec<Core>,
    current: RefCell<Rc<Generation>>,
    /// Configurations before that have not delivered everything.
    old: RefCell<Vec<reload::Old>>,
    _busy: JoinSet<()>,
}

impl Running {
    /// Binds every socket, starts every core and takes connections.
    ///
    /// # Errors
    /// Nothing runs then.
    pub async fn start(plan: Arc<Plan>) -> Result<Self, StartError> {
        preflight::check().map_err(StartError::Refused)?;
        let seats = cores::choose(&plan.engine).map_err(StartError::Cores)?;
        let process = Process {
            memory: Limit::new(plan.engine.hard_bytes),
            arriving: Limit::new(arriving_bytes(plan.engine.hard_bytes)),
            seed: seed(),
            cores: seats.len(),
        };
        let (generation, blueprint, discoveries) =
            Generation::prepare(plan, &process, None).await?;
        let mut cores = Vec::new();
        for ((number, &cpu), port) in seats.iter().enumerate().zip(mesh(seats.len())) {
            cores.push(start_core(&blueprint, number, cpu, port).await?);
        }
        let doors: Vec<Doorway> = cores.iter().map(Core::doorway).collect();
        generation.open(discoveries, &doors);
        let mut busy = JoinSet::new();
        busy.spawn(watch_busy(cores.iter().map(|c| (c.tid, Arc::clone(&c.load))).collect()));
        let (current, old) = (RefCell::new(Rc::new(generation)), RefCell::default());
        Ok(Self { process, cores, current, old, _busy: busy })
    }

    fn current(&self) -> Rc<Generation> {
        Rc::clone(&self.current.borrow())
    }

    /// Where connections come in, with the ports that were really bound.
    #[must_use]
    pub fn addresses(&self) -> Vec<(Entrance, Address)> {
        let current = self.current();
        let gates = current.gates.borrow();
        gates.iter().map(|gate| (gate.entrance, gate.address.clone())).collect()
    }

    /// Kernel ids of the data cores' threads.
    #[must_use]
    pub fn threads(&self) -> Vec<u32> {
        self.cores.iter().map(|c| c.tid).collect()
    }

    /// What runs.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.current().plan)
    }

    /// Share of the last second that a core was busy.
    #[must_use]
    pub fn busy_share(&self, core: usize) -> f64 {
        self.cores[core].load.busy_nanos.load(Relaxed) as f64 / 1e9
    }

    /// Queue limits of the process, and its memory limit.
    #[must_use]
    pub fn limits(&self) -> (Arc<Limits>, &Limit) {
        (Arc::clone(&self.current().limits), &self.process.memory)
    }

    /// How the balancers' resolvers fare, in the order of the plan.
    #[must_use]
    pub fn resolvers(&self) -> Vec<Arc<Tally>> {
        self.current().resolvers.clone()
    }

    /// Tells about each `file` exporter.
    pub fn files<T>(&self, tell: impl FnMut(&file::Writer) -> T) -> Vec<T> {
        self.current().files().map(tell).collect()
    }

    /// Asks every core what it has counted. A core that ended is left out.
    pub async fn snapshots(&self) -> Vec<Snapshot> {
        self.ask(Message::Snapshot).await
    }

    /// Asks every core; those that answer.
    async fn ask<T>(&self, question: impl Fn(oneshot::Sender<T>) -> Message) -> Vec<T> {
        let mut asked = Vec::new();
        for core in &self.cores {
            let (to, answer) = oneshot::channel();
            if core.inbox.send(question(to)).is_ok() {
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
        let current = self.current();
        current.close().await;
        current.leave();
        let all = self.ask(Message::Drain);
        // Over time: what is left is reported when the cores stop.
        let _ = tokio::time::timeout(current.plan.engine.drain_timeout, self.telling(all)).await;
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

    /// Ends the cores. Returns what was lost.
    pub async fn stop(self) -> Lost {
        let mut lost = Lost::default();
        self.ask(Message::Stop).await.into_iter().for_each(|core| lost.add(core));
        for core in self.cores {
            // A panic would have ended the process already.
            let _ = core.thread.join();
        }
        let old = self.old.into_inner().into_iter().map(reload::Old::into_inner);
        let current = self.current.into_inner();
        for generation in old.chain([current]).filter_map(Rc::into_inner) {
            lost.items.extend(generation.close_files());
        }
        lost
    }

    /// [`Self::drain`], then [`Self::stop`].
    pub async fn shut_down(self) -> Lost {
        self.drain().await;
        self.stop().await
    }
}

/// Messages that are still arriving may take a sixteenth of the memory limit beside it.
fn arriving_bytes(hard_bytes: u64) -> u64 {
    (hard_bytes / 16).clamp(ARRIVING_BYTES_MIN, ARRIVING_BYTES_MAX)
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
