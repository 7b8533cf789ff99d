//! One configuration on one core: its router, its doors and its samplers, from the first
//! connection to the last span that it owns. A new configuration is a new generation beside it;
//! what is in flight ends in the old one.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::Router;
use super::blueprint::{self, Blueprint};
use super::core::Lost;
use super::door::{Door, doors, enter};
use super::kept::Kept;
use crate::config::plan::{Pipeline, Sampling};
use crate::net::socket::Accepted;
use crate::runtime::clock;
use crate::runtime::drain::Drain;
use crate::runtime::executor;
use crate::runtime::lease::Purse;
use crate::sample::{self, Setup, Shard};
use crate::sampler::{Homes, Parts, Sampler};

/// What all generations of a core stand on.
pub(super) struct Ground {
    /// Number of the core.
    pub(super) core: usize,
    /// Memory of the process.
    pub(super) memory: Purse,
    /// Memory for messages that are still arriving.
    pub(super) arriving: Purse,
    /// The samplers that the other cores can reach.
    pub(super) homes: Homes,
}

/// One configuration on one core.
pub(super) struct Generation {
    /// The same on every core.
    pub(super) number: u64,
    /// Its router.
    pub(super) router: Rc<Router>,
    /// Connections that it serves.
    pub(super) connections: Rc<Cell<usize>>,
    doors: Vec<Door>,
    drain: Drain,
    samplers: Vec<Placed>,
}

/// A sampler of this generation.
struct Placed {
    /// Id of its pipeline.
    pipeline: String,
    options: sample::Options,
    soft_bytes: u64,
    sampler: Rc<Sampler>,
    kept: Rc<Kept>,
    /// The next generation goes on with it.
    handed_on: Cell<bool>,
}

impl Generation {
    /// Makes everything that `blueprint` asks for. A sampler of `before` whose policies are the
    /// same is taken over with all that it holds; others finish what they have begun.
    pub(super) fn new(blueprint: &Blueprint, ground: &Ground, before: Option<&Self>) -> Self {
        let router = Rc::new(blueprint::router(blueprint, ground.core, ground.memory.clone()));
        let (drain, connections) = (Drain::default(), Rc::new(Cell::new(0)));
        let doors = doors(blueprint, &router, &ground.arriving, &drain, &connections);
        let ticking = Rc::clone(&router);
        executor::detach(async move { ticking.tick().await });
        let samplers = samplers(blueprint, ground, &router, before);
        start(&samplers, before);
        router.set_samplers(samplers.iter().map(|placed| Rc::clone(&placed.sampler)).collect());
        Self { number: blueprint.generation, router, connections, doors, drain, samplers }
    }

    /// Serves a connection that came in at entrance `listener`.
    pub(super) fn enter(&self, listener: usize, socket: Accepted, load: Arc<AtomicUsize>) {
        enter(&self.doors[listener], socket, load);
    }

    /// Asks its clients to leave; what it owns is delivered without lingering.
    pub(super) fn drain(&self) {
        self.drain.call();
        self.router.drain();
    }

    /// Everything that its samplers hold is decided now.
    pub(super) fn finish_samplers(&self) {
        self.own().for_each(|placed| placed.sampler.finish());
    }

    /// Whether nothing is owned and nobody waits.
    pub(super) fn is_idle(&self) -> bool {
        self.router.is_idle() && self.own().all(|placed| placed.sampler.is_idle())
    }

    /// Gives up what is left, and says what was.
    pub(super) fn abandon(&self, ground: &Ground) -> Lost {
        ground.homes.take_in();
        let mut items = self.router.abandon();
        let held: u64 = self.own().map(|placed| placed.sampler.held()).sum();
        if held > 0 {
            items.push(("tail_sampling".to_owned(), "undecided or not exported".to_owned(), held));
        }
        let mut pending = BTreeMap::new();
        for placed in self.own().filter(|placed| placed.options.drop_pending_on_shutdown) {
            pending.insert(placed.pipeline.clone(), placed.sampler.given_up());
        }
        Lost { items, pending }
    }

    /// Ends it when it is idle everywhere; `next` need not ask its samplers any more.
    pub(super) fn end(self, ground: &Ground, next: &Self) {
        for placed in self.own() {
            placed.sampler.end();
            ground.homes.leave(&placed.sampler);
        }
        let own: Vec<_> = self.own().map(|placed| &placed.sampler).collect();
        next.samplers.iter().for_each(|placed| placed.sampler.forget(&own));
        self.router.end();
    }

    /// Samplers that the next generation has not taken over.
    fn own(&self) -> impl Iterator<Item = &Placed> {
        self.samplers.iter().filter(|placed| !placed.handed_on.get())
    }
}

fn samplers(
    blueprint: &Blueprint,
    ground: &Ground,
    router: &Rc<Router>,
    before: Option<&Generation>,
) -> Vec<Placed> {
    let sampled = blueprint.plan.pipelines.iter().filter_map(|p| Some((p, p.sampling.as_ref()?)));
    let place = |(at, (pipeline, sampling)): (usize, (&Pipeline, &Sampling))| {
        let soft_bytes = blueprint.plan.engine.soft_bytes;
        let old = before.iter().flat_map(|b| &b.samplers).find(|p| p.pipeline == pipeline.id);
        let legs = blueprint::legs(blueprint, pipeline);
        let options = sampling.options.clone();
        let (sampler, kept) = match old {
            Some(old) if old.options == options && old.soft_bytes == soft_bytes => {
                old.handed_on.set(true);
                old.kept.turn_to(Rc::clone(router), legs);
                (Rc::clone(&old.sampler), Rc::clone(&old.kept))
            }
            _ => {
                let old = old.map(|old| Rc::clone(&old.sampler));
                let sampler = sampler(blueprint, ground, router, (at, &options), old.as_deref());
                sampler.leave_to(old);
                (sampler, Kept::new(Rc::clone(router), legs))
            }
        };
        let (pipeline, handed_on) = (pipeline.id.clone(), Cell::new(false));
        Placed { pipeline, options, soft_bytes, sampler, kept, handed_on }
    };
    sampled.enumerate().map(place).collect()
}

/// Lets the samplers decide that no generation before has. All of them are known: they take in what
/// other cores send to any.
fn start(samplers: &[Placed], before: Option<&Generation>) {
    let old = |placed: &Placed| {
        let mut old = before.iter().flat_map(|b| &b.samplers);
        old.any(|old| Rc::ptr_eq(&old.sampler, &placed.sampler))
    };
    for placed in samplers.iter().filter(|placed| !old(placed)) {
        executor::detach(Rc::clone(&placed.sampler).run(Rc::clone(&placed.kept)));
    }
}

/// The next spans of a trace that `old` has go where it has them. So the number of shards stays
/// that of the first configuration of a pipeline.
fn sampler(
    blueprint: &Blueprint,
    ground: &Ground,
    router: &Rc<Router>,
    (number, options): (usize, &sample::Options),
    old: Option<&Sampler>,
) -> Rc<Sampler> {
    let blueprint::Sampling { program, limiters, census, shards } =
        blueprint.sampling[number].clone();
    let shards = old.map_or(shards, Sampler::shards);
    let setup = Setup { program, limiters, census, shards, seed: blueprint.seed };
    ground.homes.enter(|at| {
        Sampler::new(Parts {
            at,
            seed: blueprint.seed,
            shards,
            shard: Shard::new(clock::now(), options, setup),
            homes: ground.homes.clone(),
            memory: ground.memory.clone(),
            soft_bytes: blueprint.plan.engine.soft_bytes,
            queues: router.queues(),
        })
    })
}
