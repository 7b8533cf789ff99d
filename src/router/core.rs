//! The life of one core: it makes its router and servers from the plan, serves what the control
//! thread hands it, goes over to a new plan, and ends when it is told to.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use tokio::sync::oneshot;

use super::blueprint::Blueprint;
use super::generation::{Generation, Ground};
use super::snapshot::Snapshot;
use crate::net::socket::Accepted;
use crate::route::Ring;
use crate::runtime::clock;
use crate::runtime::executor;
use crate::runtime::lease::{Lease, Purse};
use crate::runtime::mailbox::Receiver;
use crate::runtime::mesh::Port;
use crate::runtime::timer;
use crate::sampler::{self, Homes, Parcel};

/// Telemetry bytes are leased in pieces of this size.
const MEMORY_CHUNK_BYTES: u64 = 256 << 10;
/// Memory for arriving messages is leased in pieces of this size.
const ARRIVING_CHUNK_BYTES: u64 = 64 << 10;
/// How often a draining core looks whether it is done.
const IDLE_LOOK: Duration = Duration::from_millis(20);
/// How long a draining core waits for clients to act on GOAWAY. What one of them sends before it
/// has seen it would be taken and then dropped.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the control thread tells a core.
#[derive(Debug)]
pub enum Message {
    /// A client connected.
    Connection {
        /// Its socket.
        socket: Accepted,
        /// Position of the listener among the entrances of the plan.
        listener: usize,
    },
    /// Somebody wants to know.
    Snapshot(oneshot::Sender<Snapshot>),
    /// A balancer has a new ring.
    Ring {
        /// Of which generation.
        generation: u64,
        /// Position of the exporter.
        exporter: usize,
        /// The ring.
        ring: Arc<Ring>,
    },
    /// Make everything that a new plan needs, beside the old. Answered when it is there: only when
    /// all cores have it one of them may use it.
    Prepare(Box<Blueprint>, oneshot::Sender<()>),
    /// What was prepared takes over: new connections are its own, clients of the old one are asked
    /// to leave.
    Switch,
    /// What is left of a generation that was switched from.
    Left(u64, oneshot::Sender<Left>),
    /// It has nothing left, on any core.
    End(u64),
    /// Take no more, deliver what is owned. Answered when nothing is left.
    Drain(oneshot::Sender<()>),
    /// Give up what is left and end. Answered with what was lost.
    Stop(oneshot::Sender<Lost>),
}

/// What an old generation still has on one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// Connections.
    pub connections: usize,
    /// Nothing is owned and nobody waits.
    pub is_idle: bool,
}

/// What was given up at the end.
#[derive(Debug, Default)]
pub struct Lost {
    /// Items that were not delivered, by exporter and endpoint.
    pub items: Vec<(String, String, u64)>,
    /// Traces and spans that samplers gave up because they are told to, by pipeline.
    pub pending: BTreeMap<String, (u64, u64)>,
}

impl Lost {
    /// Adds what was lost elsewhere.
    pub fn add(&mut self, other: Self) {
        self.items.extend(other.items);
        for (pipeline, (traces, spans)) in other.pending {
            let sum = self.pending.entry(pipeline).or_default();
            *sum = (sum.0 + traces, sum.1 + spans);
        }
    }
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
    let ground = Ground {
        core,
        memory: Purse::new(Lease::new(Arc::clone(&blueprint.memory), MEMORY_CHUNK_BYTES)),
        arriving: Purse::new(Lease::new(Arc::clone(&blueprint.arriving), ARRIVING_CHUNK_BYTES)),
        homes: Homes::new(port),
    };
    let mut life = Life {
        current: Rc::new(Generation::new(&blueprint, &ground, None)),
        prepared: None,
        old: Vec::new(),
        load,
        ground,
    };
    executor::detach(sampler::carry(life.ground.homes.clone()));
    loop {
        match inbox.recv().await {
            Message::Stop(done) => {
                let mut lost = Lost::default();
                life.all().for_each(|generation| lost.add(generation.abandon(&life.ground)));
                life.ground.homes.clear();
                let _ = done.send(lost);
                return;
            }
            message => {
                let is_connection = matches!(message, Message::Connection { .. });
                life.hear(message);
                // A flood of connections comes in one at a time, between the turns of the others.
                if is_connection {
                    executor::rest().await;
                }
            }
        }
    }
}

/// One core from its start to its end.
struct Life {
    ground: Ground,
    current: Rc<Generation>,
    prepared: Option<Generation>,
    /// Switched from, and not done.
    old: Vec<Rc<Generation>>,
    load: Arc<AtomicUsize>,
}

impl Life {
    fn all(&self) -> impl Iterator<Item = &Rc<Generation>> {
        self.old.iter().chain([&self.current])
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Connection { socket, listener } => {
                self.current.enter(listener, socket, Arc::clone(&self.load));
            }
            Message::Snapshot(to) => {
                let connections = self.all().map(|g| g.connections.get()).sum();
                // Whoever asked may be gone.
                let _ = to.send(Snapshot { connections, ..self.current.router.snapshot() });
            }
            Message::Ring { generation, exporter, ring } => {
                let Some(of) = self.all().find(|g| g.number == generation) else { return };
                of.router.swap(exporter, &ring);
                let router = Rc::clone(&of.router);
                executor::detach(async move { router.reclaim(exporter).await });
            }
            Message::Prepare(blueprint, ready) => {
                let next = Generation::new(&blueprint, &self.ground, Some(&self.current));
                self.prepared = Some(next);
                let _ = ready.send(());
            }
            Message::Switch => {
                let next = self.prepared.take().expect("it was prepared");
                let old = std::mem::replace(&mut self.current, Rc::new(next));
                old.drain();
                self.old.push(old);
            }
            Message::Left(number, to) => {
                if let Some(old) = self.old.iter().find(|g| g.number == number) {
                    let connections = old.connections.get();
                    let _ = to.send(Left { connections, is_idle: old.is_idle() });
                }
            }
            Message::End(number) => self.end(number),
            Message::Drain(done) => self.drain(done),
            Message::Stop(_) => unreachable!("it ends the loop"),
        }
    }

    fn end(&mut self, number: u64) {
        let Some(at) = self.old.iter().position(|g| g.number == number) else { return };
        let old = self.old.remove(at);
        let next = self.old.get(at).unwrap_or(&self.current);
        if let Some(old) = Rc::into_inner(old) {
            old.end(&self.ground, next);
        }
    }

    fn drain(&self, done: oneshot::Sender<()>) {
        let all: Vec<_> = self.all().cloned().collect();
        all.iter().for_each(|generation| generation.drain());
        executor::detach(async move {
            let leave_by = clock::now() + LEAVE_TIMEOUT;
            let connections = || all.iter().map(|g| g.connections.get()).sum::<usize>();
            let may_bring_more = || connections() > 0 && clock::now() < leave_by;
            let mut done = Some(done);
            // Other cores may bring spans as long as they drain; this ends with the core.
            loop {
                timer::sleep(IDLE_LOOK).await;
                if may_bring_more() {
                    continue;
                }
                all.iter().for_each(|generation| generation.finish_samplers());
                if all.iter().all(|generation| generation.is_idle()) {
                    done.take().map(|done| done.send(()));
                }
            }
        });
    }
}
