//! Balancers and their resolvers: what a resolver says becomes a ring, made here once and handed
//! to every core. A failed answer is told, counted, and changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Doorway;
use crate::config::plan::LoadBalancing;
use crate::route::{Generation as RingGeneration, Ring};
use crate::router::core::Message;
use crate::upstream::resolve::{Error, Resolver};

/// Receivers wait so long for the first answer; then requests are taken and refused until it is
/// there.
const FIRST_ANSWER_WAIT: Duration = Duration::from_secs(5);

/// How a resolver fares, for the metrics of the balancer.
#[derive(Debug, Default)]
pub struct Tally {
    /// Answers.
    pub answered: AtomicU64,
    /// Failures.
    pub failed: AtomicU64,
    /// Answers that differed from the one before.
    pub updates: AtomicU64,
    /// Names in the last answer.
    pub backends: AtomicU64,
}

/// One balancer's resolver.
#[derive(Debug)]
pub struct Discovery {
    /// Position of the exporter in the plan.
    pub exporter: usize,
    generation: u64,
    id: String,
    ring_generation: RingGeneration,
    resolver: Resolver,
    ring: Arc<Ring>,
    tally: Arc<Tally>,
}

impl Discovery {
    /// The balancer `id` at position `exporter` of configuration `generation`, with its first
    /// answer if that comes soon.
    ///
    /// # Errors
    /// If the resolver lacks what it needs.
    pub async fn start(
        (generation, exporter): (u64, usize),
        id: &str,
        balancing: &LoadBalancing,
    ) -> Result<Self, Error> {
        let mut discovery = Self {
            exporter,
            generation,
            id: id.to_owned(),
            ring_generation: balancing.ring,
            resolver: Resolver::new(&balancing.resolver).await?,
            ring: Arc::new(Ring::new(balancing.ring, &[])),
            tally: Arc::default(),
        };
        if tokio::time::timeout(FIRST_ANSWER_WAIT, discovery.change()).await.is_err() {
            tracing::warn!(
                exporter = id,
                "No backend is known yet: requests are refused until the resolver finds one."
            );
        }
        Ok(discovery)
    }

    /// The ring of the last answer.
    #[must_use]
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// What is counted while it is followed.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// Hands every new ring to every core, for as long as it is polled.
    pub(super) async fn follow(mut self, cores: Vec<Doorway>) {
        loop {
            self.change().await;
            for core in &cores {
                let ring = Arc::clone(&self.ring);
                let Self { generation, exporter, .. } = self;
                let message = Message::Ring { generation, exporter, ring };
                if core.inbox.send(message).is_err() {
                    tracing::error!("A core does not take its messages; it keeps the old ring.");
                }
            }
        }
    }

    /// Waits for an answer that differs from the last one. Can be dropped and called again.
    async fn change(&mut self) {
        loop {
            match self.resolver.next().await {
                Ok(names) => {
                    self.tally.answered.fetch_add(1, Relaxed);
                    let is_first = self.tally.updates.load(Relaxed) == 0;
                    if names != self.ring.names() || (is_first && names.is_empty()) {
                        return self.take(&names);
                    }
                }
                Err(cause) => {
                    self.tally.failed.fetch_add(1, Relaxed);
                    let backends = self.ring.names().len();
                    let id = &*self.id;
                    tracing::warn!(exporter = id, backends, "failed to resolve: {cause}");
                }
            }
        }
    }

    fn take(&mut self, names: &[String]) {
        if !matches!(self.resolver, Resolver::Static(_)) {
            self.tell(names);
        }
        self.ring = Arc::new(Ring::new(self.ring_generation, names));
        self.tally.updates.fetch_add(1, Relaxed);
        self.tally.backends.store(names.len() as u64, Relaxed);
    }

    fn tell(&self, names: &[String]) {
        let before: BTreeSet<&String> = self.ring.names().iter().collect();
        let after: BTreeSet<&String> = names.iter().collect();
        let joined: Vec<_> = after.difference(&before).collect();
        let left: Vec<_> = before.difference(&after).collect();
        tracing::info!(
            exporter = &*self.id,
            backends = names.len(),
            ?joined,
            ?left,
            "Backends have changed."
        );
    }
}
