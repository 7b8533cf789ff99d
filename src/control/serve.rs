//! `tracemill --config`: a plan from its start to the signal that ends it.

use std::future::Future;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::{Running, metrics};
use crate::config::{Loaded, Plan, Severity};
use crate::runtime::clock;
use crate::telemetry::http::{self, Health, ListenError};
use crate::telemetry::log::{self, Log};

/// Runs a configuration until SIGTERM or SIGINT. Exit code 1 means that it did not start; what is
/// lost at the end is named in the log, as in the collector.
#[must_use]
pub fn run(loaded: Loaded) -> ExitCode {
    let Loaded { plan, notices, .. } = loaded;
    let log = match Log::start(&plan.telemetry, clock::wall) {
        Ok(log) => log,
        Err(e) => {
            eprintln!("Error: {e}");
            return ExitCode::FAILURE;
        }
    };
    for notice in notices.iter().filter(|n| n.severity != Severity::Warning) {
        tracing::info!("{notice}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let code = match runtime {
        Ok(runtime) => runtime.block_on(serve(Arc::new(plan), &log)),
        Err(e) => {
            eprintln!("Error: the control thread cannot start: {e}");
            ExitCode::FAILURE
        }
    };
    drop(log);
    code
}

async fn serve(plan: Arc<Plan>, log: &Log) -> ExitCode {
    let refuse = |e: &dyn std::fmt::Display| {
        eprintln!("Error: {e}");
        ExitCode::FAILURE
    };
    // Before there is a port that says we are here: who sees it may end us properly.
    let ended = ended();
    // The admin ports first: a process that cannot be observed should not take traffic.
    let health = Health::default();
    let admin = match Admin::listen(&plan) {
        Ok(admin) => admin,
        Err(e) => return refuse(&e),
    };
    let running = match Running::start(Arc::clone(&plan)).await {
        Ok(running) => Rc::new(running),
        Err(e) => return refuse(&e),
    };
    for (entrance, address) in running.addresses() {
        tracing::info!(
            otelcol.component.id = %plan.receivers[entrance.receiver()].id,
            otelcol.component.kind = "receiver",
            endpoint = %address,
            "Starting {} server",
            entrance.name()
        );
    }
    admin.log();
    tracing::info!("Everything is ready. Begin running and processing data.");
    health.ready(clock::now(), clock::wall());
    let life = async {
        let name = ended.await;
        tracing::info!(signal = name, "Received signal from OS");
        tracing::info!("Starting shutdown...");
        health.unavailable();
        running.drain().await;
    };
    // The pages stay until everything is delivered or given up.
    tokio::select! {
        () = life => {}
        never = admin.serve(&plan, &running, &health, log.lost()) => match never {},
    }
    let running = Rc::into_inner(running).expect("whoever shared it has ended");
    for (exporter, endpoint, items) in running.stop().await {
        tracing::error!(
            otelcol.component.id = %exporter,
            otelcol.component.kind = "exporter",
            endpoint = %endpoint,
            dropped_items = items,
            "Exporting failed. Dropping data."
        );
    }
    tracing::info!("Shutdown complete.");
    ExitCode::SUCCESS
}

/// Catches the signals that end the process from now on; the future waits for one, and is its
/// name. SIGHUP, on which the collector loads its configuration again, must not end it.
fn ended() -> impl Future<Output = &'static str> {
    let catch = |kind| signal(kind).expect("signals can be caught once tokio runs");
    let (mut term, mut int) = (catch(SignalKind::terminate()), catch(SignalKind::interrupt()));
    let mut hang_up = catch(SignalKind::hangup());
    async move {
        loop {
            tokio::select! {
                _ = term.recv() => return "terminated",
                _ = int.recv() => return "interrupt",
                _ = hang_up.recv() => tracing::warn!(
                    "SIGHUP has no effect: a changed configuration is read at the next start."
                ),
            }
        }
    }
}

/// The admin pages: metrics of each reader, and each health check.
struct Admin {
    metrics: Vec<std::net::TcpListener>,
    health: Vec<std::net::TcpListener>,
}

impl Admin {
    fn listen(plan: &Plan) -> Result<Self, ListenError> {
        let key = "service::telemetry::metrics::readers";
        let metrics = plan.telemetry.metrics.iter().map(|r| http::listen(key, &r.endpoint()));
        let health = plan
            .health_checks
            .iter()
            .map(|h| http::listen(&format!("extensions::{}::endpoint", h.id), &h.endpoint));
        Ok(Self {
            metrics: metrics.collect::<Result<_, _>>()?,
            health: health.collect::<Result<_, _>>()?,
        })
    }

    /// Says where the pages are; the configuration may leave the port to the system.
    fn log(&self) {
        let pages = self.metrics.iter().map(|socket| ("metrics", socket));
        for (page, socket) in pages.chain(self.health.iter().map(|s| ("health_check", s))) {
            match socket.local_addr() {
                Ok(address) => tracing::info!(endpoint = %address, "Serving {page}"),
                Err(e) => tracing::warn!("Serving {page} at an address that cannot be read: {e}"),
            }
        }
    }

    /// Never ends. A page that fails is told once; the others go on.
    async fn serve(
        self,
        plan: &Plan,
        running: &Rc<Running>,
        health: &Health,
        lost: log::Lost,
    ) -> std::convert::Infallible {
        let lost = &lost;
        let pages =
            self.metrics.into_iter().zip(&plan.telemetry.metrics).map(|(socket, reader)| {
                let running = Rc::clone(running);
                told(http::serve_metrics(socket, move || {
                    let running = Rc::clone(&running);
                    async move { metrics::page(&running, reader, lost.lines()).await }
                }))
            });
        let checks = self
            .health
            .into_iter()
            .zip(&plan.health_checks)
            .map(|(socket, check)| told(http::serve_health(socket, check, health, clock::now)));
        let pages = futures_util::future::join_all(pages);
        let checks = futures_util::future::join_all(checks);
        tokio::join!(pages, checks);
        std::future::pending().await
    }
}

async fn told(page: impl Future<Output = std::io::Result<std::convert::Infallible>>) {
    let Err(e) = page.await;
    tracing::error!("An admin page has ended: {e}");
}
