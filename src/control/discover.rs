//! Where a balancer finds its backends: resolvers on the control thread. Each says its names as the
//! ring hashes them, first at once and then whenever they change; what changed becomes a new ring,
//! made here and handed to every core.

use std::sync::Arc;

use super::Doorway;
use crate::config::Plan;
use crate::config::plan::{self, ExporterKind, LoadBalancing};
use crate::route::{Generation, Ring};
use crate::router::core::Message;

/// One balancer's resolver.
#[derive(Debug)]
pub struct Discovery {
    /// Position of the exporter in the plan.
    pub exporter: usize,
    generation: Generation,
    resolver: Resolver,
    ring: Arc<Ring>,
}

/// The kinds of resolvers, each with what it needs to find the next answer.
#[derive(Debug)]
enum Resolver {
    /// The names of the configuration, for ever (loadbalancing 1.6).
    Static,
}

impl Resolver {
    /// The next answer that may differ from the one before.
    async fn next(&mut self) -> Vec<String> {
        match self {
            Self::Static => std::future::pending().await,
        }
    }
}

impl Discovery {
    fn of(exporter: usize, balancing: &LoadBalancing) -> Self {
        let plan::Resolver::Static(names) = &balancing.resolver;
        Self {
            exporter,
            generation: balancing.ring,
            resolver: Resolver::Static,
            ring: Arc::new(Ring::new(balancing.ring, names)),
        }
    }

    /// The ring of the last answer.
    #[must_use]
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Hands every new ring to every core, for as long as it is polled.
    pub(super) async fn follow(mut self, cores: Vec<Doorway>) {
        loop {
            let names = self.resolver.next().await;
            if names == self.ring.names() {
                continue;
            }
            self.ring = Arc::new(Ring::new(self.generation, &names));
            for core in &cores {
                let ring = Arc::clone(&self.ring);
                if core.inbox.send(Message::Ring { exporter: self.exporter, ring }).is_err() {
                    tracing::error!("A core does not take its messages; it keeps the old ring.");
                }
            }
        }
    }
}

/// The resolvers of all balancers of a plan, each with its first answer.
#[must_use]
pub fn all(plan: &Plan) -> Vec<Discovery> {
    let balancers = plan.exporters.iter().enumerate().filter_map(|(at, e)| match &e.kind {
        ExporterKind::LoadBalancing(balancing) => Some(Discovery::of(at, balancing)),
        _ => None,
    });
    balancers.collect()
}
