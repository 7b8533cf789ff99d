//! One configuration on the control thread: its sockets, resolvers, files, and what watches them.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::discover::{Discovery, Tally};
use super::fault::StartError;
use super::listen::{Accepting, Gate, listen};
use super::{Doorway, secrets};
use crate::config::Plan;
use crate::config::plan::{ExporterKind, FileOptions};
use crate::net::tls::Reload;
use crate::router::blueprint::{Blueprint, Sampling};
use crate::router::trust::{Trust, Watched};
use crate::runtime::clock;
use crate::runtime::lease::Limit;
use crate::upstream::file;
use crate::upstream::outlet::Limits;

/// What waits for a disk may take this part of the memory limit beside it.
const FILE_SHARE: u64 = 16;

/// What all configurations of a process have in common.
#[derive(Debug)]
pub(super) struct Process {
    /// Memory for telemetry.
    pub(super) memory: Arc<Limit>,
    /// Memory for messages that are still arriving.
    pub(super) arriving: Arc<Limit>,
    /// Drawn anew for each process.
    pub(super) seed: u64,
    /// Data cores.
    pub(super) cores: usize,
}

/// One configuration.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) number: u64,
    pub(super) plan: Arc<Plan>,
    /// Its sockets, until it takes no more connections.
    pub(super) gates: RefCell<Vec<Gate>>,
    pub(super) limits: Arc<Limits>,
    pub(super) resolvers: Vec<Arc<Tally>>,
    files: Vec<(FileOptions, Rc<file::Writer>)>,
    trust: Arc<Trust>,
    accepting: RefCell<Option<Accepting>>,
    /// Follow what can change while it runs.
    following: RefCell<JoinSet<()>>,
}

impl Generation {
    /// Opens everything that `plan` names. What `before` has open already is taken over.
    pub(super) async fn prepare(
        plan: Arc<Plan>,
        process: &Process,
        before: Option<&Self>,
    ) -> Result<(Self, Blueprint, Vec<Discovery>), StartError> {
        let number = before.map_or(0, |before| before.number + 1);
        let trust = Arc::new(Trust::load(&plan).map_err(StartError::Tls)?);
        let open = before.map_or(Vec::new(), |before| before.gates.borrow().clone());
        let gates = listen(&plan, open)?.into();
        let limits = Arc::new(Limits::default());
        let discoveries = discoveries(&plan, number).await?;
        let mut rings = vec![None; plan.exporters.len()];
        for discovery in &discoveries {
            rings[discovery.exporter] = Some(Arc::clone(discovery.ring()));
        }
        let files = open_files(&plan, before.map_or(&[], |before| &before.files))?;
        let sink = |e: &crate::config::plan::Exporter| {
            let mut mine = files.iter().filter(|(_, writer)| writer.target().0 == e.id);
            mine.next().map(|(_, writer)| writer.sink())
        };
        let blueprint = Blueprint {
            generation: number,
            rings,
            trust: Arc::clone(&trust),
            files: plan.exporters.iter().map(sink).collect(),
            plan: Arc::clone(&plan),
            limits: Arc::clone(&limits),
            memory: Arc::clone(&process.memory),
            arriving: Arc::clone(&process.arriving),
            sampling: Sampling::all(&plan, process.cores).map_err(StartError::Core)?,
            seed: process.seed,
            cores: process.cores,
        };
        let resolvers = discoveries.iter().map(Discovery::tally).collect();
        let (accepting, following) = (RefCell::default(), RefCell::default());
        let generation =
            Self { number, plan, gates, limits, resolvers, files, trust, accepting, following };
        Ok((generation, blueprint, discoveries))
    }

    /// Takes connections, and follows what can change, for the cores behind `doors`.
    pub(super) fn open(&self, discoveries: Vec<Discovery>, doors: &[Doorway]) {
        let mut following = self.following.borrow_mut();
        for discovery in discoveries {
            following.spawn(discovery.follow(doors.to_vec()));
        }
        for watched in self.trust.watched(&self.plan) {
            following.spawn(watch_files(watched));
        }
        let secrets = self.plan.secrets();
        if !secrets.is_empty() {
            following.spawn(secrets::follow(secrets));
        }
        *self.accepting.borrow_mut() = Some(Accepting::start(&self.gates.borrow(), doors));
    }

    /// Takes no more connections: sockets that no other generation has are closed.
    pub(super) async fn close(&self) {
        self.gates.take();
        if let Some(accepting) = self.accepting.take() {
            accepting.end().await;
        }
    }

    /// Follows nothing any more.
    pub(super) fn leave(&self) {
        self.following.borrow_mut().abort_all();
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &file::Writer> {
        self.files.iter().map(|(_, writer)| &**writer)
    }

    /// Closes files that no other configuration has. Items lost, by exporter and path.
    pub(super) fn close_files(self) -> Vec<(String, String, u64)> {
        let wait = self.plan.engine.drain_timeout;
        let mut lost = Vec::new();
        for (_, writer) in self.files {
            let Some(writer) = Rc::into_inner(writer) else { continue };
            let (exporter, path) = writer.target();
            let (exporter, path) = (exporter.to_owned(), path.to_owned());
            let items = writer.close(wait);
            if items > 0 {
                lost.push((exporter, path, items));
            }
        }
        lost
    }
}

/// Opens the files of `plan` that `before` has not open.
fn open_files(
    plan: &Plan,
    before: &[(FileOptions, Rc<file::Writer>)],
) -> Result<Vec<(FileOptions, Rc<file::Writer>)>, StartError> {
    let mut writers = Vec::new();
    for exporter in &plan.exporters {
        let ExporterKind::File(options) = &exporter.kind else { continue };
        let same = |(open, writer): &&(FileOptions, Rc<file::Writer>)| {
            open == options && writer.target().0 == exporter.id
        };
        if let Some((_, open)) = before.iter().find(same) {
            writers.push((options.clone(), Rc::clone(open)));
            continue;
        }
        let bytes_max = plan.engine.hard_bytes / FILE_SHARE;
        let writer = file::Writer::start(&exporter.id, options, bytes_max).map_err(|cause| {
            let (exporter, path) = (exporter.id.clone(), options.path.clone());
            StartError::File { exporter, path, cause }
        })?;
        writers.push((options.clone(), Rc::new(writer)));
    }
    Ok(writers)
}

/// The resolvers of all balancers, asked side by side.
async fn discoveries(plan: &Plan, generation: u64) -> Result<Vec<Discovery>, StartError> {
    let balancers = plan.exporters.iter().enumerate().filter_map(|(at, e)| match &e.kind {
        ExporterKind::LoadBalancing(balancing) => Some((at, e, balancing)),
        _ => None,
    });
    let started = balancers.map(|(at, exporter, balancing)| async move {
        let discovery = Discovery::start((generation, at), &exporter.id, balancing).await;
        discovery.map_err(|cause| StartError::Resolver { exporter: exporter.id.clone(), cause })
    });
    futures_util::future::try_join_all(started).await
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
