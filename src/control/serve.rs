//! `tracemill --config`: a plan from its start to the signal that ends it.

use std::future::Future;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Running, metrics};
use crate::config::{Loaded, Notice, Plan, Report, Severity};
use crate::router::core::Lost;
use crate::runtime::clock;
use crate::telemetry::http::{self, Health, ListenError};
use crate::telemetry::log::{self, Log};

/// How often an earlier configuration is looked at.
const RETIRE_TICK: Duration = Duration::from_secs(1);

/// Reads the configuration again.
type Read<'a> = &'a dyn Fn() -> Result<Loaded, Report>;

/// Runs a configuration until SIGTERM or SIGINT, and what `read` says on SIGHUP. Exit code 1 means
/// that it did not start; what is lost at the end is named in the log, as in the collector.
#[must_use]
pub fn run(loaded: Loaded, read: Read<'_>) -> ExitCode {
    let Loaded { plan, notices, .. } = loaded;
    let log = match Log::start(&plan.telemetry, clock::wall) {
        Ok(log) => log,
        Err(e) => {
            eprintln!("Error: {e}");
            return ExitCode::FAILURE;
        }
    };
    tell_notices(&notices);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let code = match runtime {
        Ok(runtime) => runtime.block_on(serve(Arc::new(plan), read, &log)),
        Err(e) => {
            eprintln!("Error: the control thread cannot start: {e}");
            ExitCode::FAILURE
        }
    };
    drop(log);
    code
}

/// What is odd about a configuration that runs.
fn tell_notices(notices: &[Notice]) {
    for notice in notices {
        match notice.severity {
            Severity::Warning => tracing::warn!("{notice}"),
            _ => tracing::info!("{notice}"),
        }
    }
}

async fn serve(plan: Arc<Plan>, read: Read<'_>, log: &Log) -> ExitCode {
    let refuse = |e: &dyn std::fmt::Display| {
        eprintln!("Error: {e}");
        ExitCode::FAILURE
    };
    // Before there is a port that says we are here: who sees it may end us properly.
    let mut signals = Signals::catch();
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
    tell_receivers(&running);
    admin.log();
    tracing::info!("Everything is ready. Begin running and processing data.");
    health.ready(clock::now(), clock::wall());
    let life = async {
        let name = live(&running, read, &mut signals).await;
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
    tell_lost(&running.stop().await);
    tracing::info!("Shutdown complete.");
    ExitCode::SUCCESS
}

fn tell_lost(lost: &Lost) {
    for (pipeline, &(traces, spans)) in lost.pending.iter().filter(|&(_, &lost)| lost != (0, 0)) {
        tracing::warn!(
            otelcol.component.kind = "processor",
            otelcol.pipeline.id = %pipeline,
            dropped_traces = traces,
            dropped_items = spans,
            "Dropping pending traces, as drop_pending_traces_on_shutdown says."
        );
    }
    for (exporter, endpoint, items) in &lost.items {
        tracing::error!(
            otelcol.component.id = %exporter,
            otelcol.component.kind = "exporter",
            endpoint = %endpoint,
            dropped_items = items,
            "Exporting failed. Dropping data."
        );
    }
}

fn tell_receivers(running: &Running) {
    for (entrance, address) in running.addresses() {
        tracing::info!(
            otelcol.component.id = %running.plan().receivers[entrance.receiver()].id,
            otelcol.component.kind = "receiver",
            endpoint = %address,
            "Starting {} server",
            entrance.name()
        );
    }
}

/// Goes over to a changed configuration when it is asked to; the name of the signal that ends it.
async fn live(running: &Running, read: Read<'_>, signals: &mut Signals) -> &'static str {
    let mut refused = String::new();
    loop {
        let interval = running.plan().engine.reload_interval;
        let look = async {
            match interval.is_zero() {
                true => std::future::pending().await,
                false => tokio::time::sleep(interval).await,
            }
        };
        tokio::select! {
            event = signals.next() => match event {
                Event::End(name) => return name,
                Event::HangUp => {
                    tracing::info!("Received SIGHUP: the configuration is read again.");
                    refused.clear();
                    reload(running, read, true, &mut refused).await;
                }
            },
            () = look => reload(running, read, false, &mut refused).await,
            () = tokio::time::sleep(RETIRE_TICK), if running.is_retiring() => {
                running.retire().await;
            }
        }
    }
}

/// Takes the configuration that is there now, if it has changed. What is wrong with it is told
/// once.
async fn reload(running: &Running, read: Read<'_>, asked: bool, refused: &mut String) {
    let why = match read() {
        Ok(loaded) if loaded.plan == *running.plan() => {
            if asked {
                tracing::info!("The configuration has not changed.");
            }
            return;
        }
        Ok(loaded) => {
            tell_notices(&loaded.notices);
            match running.reload(Arc::new(loaded.plan)).await {
                Ok(()) => {
                    refused.clear();
                    tell_receivers(running);
                    return tracing::info!("The new configuration runs.");
                }
                Err(e) => e.to_string(),
            }
        }
        Err(report) => report.to_string(),
    };
    if why != *refused {
        tracing::error!("The new configuration is refused; the old one runs on. {why}");
        *refused = why;
    }
}

/// What the process is asked to do.
enum Event {
    /// End; the name of the signal.
    End(&'static str),
    /// Read the configuration again.
    HangUp,
}

/// The signals that are caught, from its making on.
struct Signals {
    term: Signal,
    int: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> Self {
        let catch = |kind| signal(kind).expect("signals can be caught once tokio runs");
        Self {
            term: catch(SignalKind::terminate()),
            int: catch(SignalKind::interrupt()),
            hang_up: catch(SignalKind::hangup()),
        }
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.term.recv() => Event::End("terminated"),
            _ = self.int.recv() => Event::End("interrupt"),
            _ = self.hang_up.recv() => Event::HangUp,
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
