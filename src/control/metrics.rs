//! One page of metrics from what every core has counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Running;
use super::discover::Tally;
use crate::config::Plan;
use crate::config::plan::{Exporter, ExporterKind};
use crate::otlp::Signal;
use crate::route::Ring;
use crate::router::snapshot::{LaneSnapshot, Received, Snapshot};
use crate::runtime::clock;
use crate::telemetry::options::{MetricsLevel, MetricsReader};
use crate::telemetry::{Page, Process, names, process};
use crate::upstream::file;
use crate::upstream::stats::Loss;

mod sampling;

/// Asks the cores and renders the page of one reader.
pub async fn page(running: &Running, reader: &MetricsReader, log_lines_lost: u64) -> String {
    let snapshots = running.snapshots().await;
    let plan = &*running.plan();
    let telemetry = &plan.telemetry;
    let mut page = Page::new(reader, telemetry.metrics_level, &telemetry.resource);
    receivers(&mut page, plan, &snapshots);
    processors(&mut page, plan, &snapshots);
    sampling::samplers(&mut page, plan, &snapshots);
    let mut lanes = merged(&snapshots);
    lanes.extend(running.files(files).into_iter().flatten());
    for exporter in &plan.exporters {
        self::exporter(&mut page, plan, exporter, &lanes);
    }
    endpoints(&mut page, &lanes);
    rings(&mut page, plan, &snapshots, &lanes);
    resolvers(&mut page, plan, &running.resolvers());
    limits(&mut page, running);
    cores(&mut page, running, &snapshots);
    if let Ok(process) = Process::read() {
        process.show(&mut page, clock::now());
    }
    page.counter(&names::LOG_LINES_LOST, &[], log_lines_lost);
    page.render()
}

fn receivers(page: &mut Page, plan: &Plan, snapshots: &[Snapshot]) {
    for (at, receiver) in plan.receivers.iter().enumerate() {
        for (t, transport) in ["grpc", "http"].into_iter().enumerate() {
            for signal in Signal::ALL {
                let s = signal as usize;
                let mut all = Received::default();
                for one in snapshots.iter().filter_map(|c| c.received.get(at)) {
                    all.add(&one.1[t][s]);
                }
                // As in the collector, from the first request on.
                if all.requests == 0 {
                    continue;
                }
                let labels = [("receiver", &*receiver.id), ("transport", transport)];
                page.counter(&names::RECEIVER_ACCEPTED[s], &labels, all.accepted);
                page.counter(&names::RECEIVER_REFUSED[s], &labels, all.refused);
                page.counter(&names::RECEIVER_FAILED[s], &labels, 0);
                let [receiver, transport] = labels;
                let labels = [receiver, transport, ("data_type", signal.name())];
                page.counter(&names::RECEIVED_ITEMS, &labels, all.accepted + all.refused);
            }
        }
    }
}

/// `memory_limiter` is where requests are counted on their way through a pipeline.
fn processors(page: &mut Page, plan: &Plan, snapshots: &[Snapshot]) {
    let mut limiters: BTreeMap<(&str, Signal), Received> = BTreeMap::new();
    for pipeline in &plan.pipelines {
        for limiter in &pipeline.memory_limiters {
            let all = limiters.entry((limiter, pipeline.signal)).or_default();
            for &receiver in &pipeline.receivers {
                for core in snapshots.iter().filter_map(|c| c.received.get(receiver)) {
                    core.1.iter().for_each(|t| all.add(&t[pipeline.signal as usize]));
                }
            }
        }
    }
    for ((limiter, signal), all) in limiters.into_iter().filter(|(_, all)| all.requests > 0) {
        let id = ("processor", limiter);
        let labels = [("otel.signal", signal.name()), id];
        let passed = all.accepted + all.refused - all.refused_for_memory;
        page.counter(&names::PROCESSOR_INCOMING_ITEMS, &labels, all.accepted + all.refused);
        page.counter(&names::PROCESSOR_OUTGOING_ITEMS, &labels, passed);
        page.counter(&names::MEMORY_LIMITER_ACCEPTED[signal as usize], &[id], passed);
        let refused = all.refused_for_memory;
        page.counter(&names::MEMORY_LIMITER_REFUSED[signal as usize], &[id], refused);
    }
}

type Key = (String, String, Signal);

/// The lanes of all cores, summed by exporter, endpoint and signal.
fn merged(snapshots: &[Snapshot]) -> BTreeMap<Key, LaneSnapshot> {
    let mut all: BTreeMap<Key, LaneSnapshot> = BTreeMap::new();
    for lane in snapshots.iter().flat_map(|s| &s.lanes) {
        let key = (lane.exporter.clone(), lane.endpoint.clone(), lane.signal);
        match all.get_mut(&key) {
            None => drop(all.insert(key, lane.clone())),
            Some(sum) => sum.add(lane),
        }
    }
    all
}

/// A file as lanes, one per signal; its path is the endpoint.
fn files(file: &file::Writer) -> [(Key, LaneSnapshot); 3] {
    let (exporter, path) = file.target();
    Signal::ALL.map(|signal| {
        let (stats, held_items) = file.stats(signal);
        let lane = LaneSnapshot {
            exporter: exporter.to_owned(),
            endpoint: path.to_owned(),
            signal,
            stats,
            held_items,
            held_bytes: 0,
            queue_size: 0,
            calls_in_flight: 0,
            connections: 0,
        };
        ((exporter.to_owned(), path.to_owned(), signal), lane)
    })
}

/// The collector's metrics of one exporter.
fn exporter(
    page: &mut Page,
    plan: &Plan,
    exporter: &Exporter,
    lanes: &BTreeMap<Key, LaneSnapshot>,
) {
    let detailed = plan.telemetry.metrics_level >= MetricsLevel::Detailed;
    for signal in Signal::ALL {
        let mine: Vec<&LaneSnapshot> = lanes
            .iter()
            .filter(|(k, _)| k.0 == exporter.id && k.2 == signal)
            .map(|(_, l)| l)
            .collect();
        let used = plan.pipelines.iter().any(|p| {
            p.signal == signal && p.exporters.iter().any(|&e| plan.exporters[e].id == exporter.id)
        });
        if mine.is_empty() || !used {
            continue;
        }
        let sum = |f: &dyn Fn(&LaneSnapshot) -> u64| mine.iter().map(|l| f(l)).sum::<u64>();
        let (id, s) = (("exporter", &*exporter.id), signal as usize);
        let data = ("data_type", signal.name());
        let server = server(&exporter.kind);
        let mut labels = vec![id];
        if let Some((host, port)) = &server {
            labels.extend([("server.address", &**host), ("server.port", &**port)]);
        }
        if sum(&|l| l.stats.offered) > 0 {
            page.counter(&names::EXPORTER_SENT[s], &labels, sum(&|l| l.stats.sent));
            let in_flight = sum(&|l| l.calls_in_flight as u64);
            page.gauge(&names::EXPORTER_IN_FLIGHT_REQUESTS, &[data, id], in_flight as f64);
        }
        let overflowed = sum(&|l| l.stats.overflowed);
        // To the collector's balancer a full queue of a backend is a call that failed.
        let balances = matches!(exporter.kind, ExporterKind::LoadBalancing(_));
        let refused = if balances { overflowed - sum(&|l| l.stats.unplaced) } else { 0 };
        send_failed(page, s, &labels, &mine, refused, detailed);
        if overflowed > 0 {
            page.counter(&names::EXPORTER_ENQUEUE_FAILED[s], &[id], overflowed);
        }
        if let Some(capacity) = queue_capacity(&exporter.kind) {
            // A balancer's is the one over all endpoints.
            let size = sum(&|l| if balances == l.endpoint.is_empty() { l.queue_size } else { 0 });
            page.gauge(&names::EXPORTER_QUEUE_SIZE, &[data, id], size as f64);
            page.gauge(&names::EXPORTER_QUEUE_CAPACITY, &[data, id], capacity as f64);
        }
    }
}

fn send_failed(
    page: &mut Page,
    s: usize,
    labels: &[(&str, &str)],
    lanes: &[&LaneSnapshot],
    refused: u64,
    detailed: bool,
) {
    let mut by_reason: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    if refused > 0 {
        by_reason.insert(if detailed { ("_OTHER", "false") } else { ("", "") }, refused);
    }
    for (loss, items) in lanes.iter().flat_map(|l| &l.stats.losses) {
        let permanent = matches!(loss, Loss::Code(c) if !c.is_retryable());
        let reason = if detailed {
            (loss.name(), if permanent { "true" } else { "false" })
        } else {
            ("", "")
        };
        *by_reason.entry(reason).or_default() += items;
    }
    for ((kind, permanent), items) in by_reason {
        let mut labels = labels.to_vec();
        if detailed {
            labels.extend([("error.type", kind), ("error.permanent", permanent)]);
        }
        page.counter(&names::EXPORTER_SEND_FAILED[s], &labels, items);
    }
}

/// `server.address` and `server.port` of a plain exporter.
fn server(kind: &ExporterKind) -> Option<(String, String)> {
    let ExporterKind::OtlpGrpc { endpoint, .. } = kind else { return None };
    let (host, port) = endpoint.rsplit_once(':')?;
    Some((host.to_owned(), port.to_owned()))
}

fn queue_capacity(kind: &ExporterKind) -> Option<u64> {
    match kind {
        ExporterKind::LoadBalancing(b) => b.queue.map(|q| q.size_max),
        ExporterKind::OtlpGrpc { options, .. } | ExporterKind::OtlpHttp { options, .. } => {
            options.queue.map(|q| q.size_max)
        }
        ExporterKind::Debug(_) | ExporterKind::File(_) | ExporterKind::Nop => None,
    }
}

/// What we know of each endpoint, and the balancer's own metrics.
fn endpoints(page: &mut Page, lanes: &BTreeMap<Key, LaneSnapshot>) {
    for ((exporter, endpoint, signal), lane) in lanes {
        let stats = &lane.stats;
        if lane.stats.offered == 0 {
            continue;
        }
        let labels =
            [("exporter", &**exporter), ("endpoint", endpoint), ("data_type", signal.name())];
        page.counter(&names::OFFERED_ITEMS, &labels, stats.offered);
        page.counter(&names::SENT_ITEMS, &labels, stats.sent);
        page.gauge(&names::IN_FLIGHT_ITEMS, &labels, lane.held_items as f64);
        page.counter(&names::PARTIAL_REJECTED_ITEMS, &labels, stats.rejected);
        page.counter(&names::PARTS, &labels, stats.parts);
        page.counter(&names::CALLS, &labels, stats.calls);
        let merge = if stats.calls > 0 { stats.parts as f64 / stats.calls as f64 } else { 0.0 };
        page.gauge(&names::MERGE_FACTOR, &labels, merge);
        for (loss, items) in &stats.losses {
            let [a, b, c] = labels;
            page.counter(&names::FAILED_ITEMS, &[a, b, c, ("reason", loss.name())], *items);
        }
    }
}

fn rings(
    page: &mut Page,
    plan: &Plan,
    snapshots: &[Snapshot],
    lanes: &BTreeMap<Key, LaneSnapshot>,
) {
    for (at, exporter) in plan.exporters.iter().enumerate() {
        let ring = snapshots.first().and_then(|s| s.rings.get(at).cloned().flatten());
        let (Some(ring), ExporterKind::LoadBalancing(_)) = (ring, &exporter.kind) else { continue };
        for (at, endpoint) in ring.endpoints().iter().enumerate() {
            let labels = [("exporter", &*exporter.id), ("endpoint", endpoint)];
            let number = u16::try_from(at).expect("a ring has fewer endpoints");
            page.gauge(&names::RING_SHARE, &labels, ring.share(number));
            let key = |signal| (exporter.id.clone(), endpoint.clone(), signal);
            let lanes = Signal::ALL.into_iter().filter_map(|signal| lanes.get(&key(signal)));
            // As in the collector, one series for all signals.
            let all = lanes.cloned().reduce(|mut all, lane| {
                all.add(&lane);
                all
            });
            let Some(all) = all else { continue };
            page.gauge(&names::ENDPOINT_CONNECTIONS, &labels, f64::from(all.connections));
            outcome(page, endpoint, &all);
        }
        for signal in Signal::ALL {
            hottest(page, exporter, signal, &ring, lanes);
        }
    }
}

/// What balancers with the same kind of resolver have counted together.
fn resolvers(page: &mut Page, plan: &Plan, tallies: &[Arc<Tally>]) {
    let labels = plan.exporters.iter().filter_map(|e| match &e.kind {
        ExporterKind::LoadBalancing(b) => Some(b.resolver.label()),
        _ => None,
    });
    let mut kinds: BTreeMap<&str, [u64; 4]> = BTreeMap::new();
    for (label, tally) in labels.zip(tallies) {
        let [backends, updates, answered, failed] = kinds.entry(label).or_default();
        // One label set for all of them, as in the collector: the largest is shown.
        *backends = (*backends).max(tally.backends.load(Relaxed));
        *updates += tally.updates.load(Relaxed);
        *answered += tally.answered.load(Relaxed);
        *failed += tally.failed.load(Relaxed);
    }
    for (label, [backends, updates, answered, failed]) in kinds {
        let resolver = ("resolver", label);
        if updates > 0 {
            page.gauge(&names::LOADBALANCER_NUM_BACKENDS, &[resolver], backends as f64);
            page.counter(&names::LOADBALANCER_NUM_BACKEND_UPDATES, &[resolver], updates);
        }
        for (success, count) in [("true", answered), ("false", failed)] {
            if count > 0 {
                let labels = [resolver, ("success", success)];
                page.counter(&names::LOADBALANCER_NUM_RESOLUTIONS, &labels, count);
            }
        }
    }
}

/// How far the busiest endpoint of a balancer is above the mean, by signal.
fn hottest(
    page: &mut Page,
    exporter: &Exporter,
    signal: Signal,
    ring: &Ring,
    lanes: &BTreeMap<Key, LaneSnapshot>,
) {
    let key = |endpoint: &String| (exporter.id.clone(), endpoint.clone(), signal);
    let mine = ring.endpoints().iter().filter_map(|endpoint| lanes.get(&key(endpoint)));
    let offered: Vec<_> = mine.map(|lane| lane.stats.offered as f64).collect();
    let mean = offered.iter().sum::<f64>() / offered.len().max(1) as f64;
    if mean > 0.0 {
        let hottest = offered.iter().copied().fold(0.0, f64::max);
        let labels = [("exporter", &*exporter.id), ("data_type", signal.name())];
        page.gauge(&names::HOTTEST_TO_MEAN, &labels, hottest / mean);
    }
}

/// One record per call on the wire; the collector records what it enqueues.
fn outcome(page: &mut Page, endpoint: &str, lane: &LaneSnapshot) {
    let stats = &lane.stats;
    if stats.calls_ok + stats.calls_failed == 0 {
        return;
    }
    let endpoint = ("endpoint", endpoint);
    page.recorded(&names::LOADBALANCER_BACKEND_LATENCY, &[endpoint], &stats.latency);
    for (success, calls) in [("true", stats.calls_ok), ("false", stats.calls_failed)] {
        if calls > 0 {
            let labels = [endpoint, ("success", success)];
            page.counter(&names::LOADBALANCER_BACKEND_OUTCOME, &labels, calls);
        }
    }
}

fn limits(page: &mut Page, running: &Running) {
    let (queues, memory) = running.limits();
    let mut show = |labels: &[(&str, &str)], used: u64, max: u64| {
        page.gauge(&names::LIMIT_USED, labels, used as f64);
        page.gauge(&names::LIMIT_MAX, labels, max as f64);
        page.gauge(&names::LIMIT_FILL, labels, used as f64 / max.max(1) as f64);
    };
    show(&[("limit", "memory_bytes")], memory.leased(), memory.max());
    for (what, used, max) in queues.fill() {
        let limit = ("limit", "queue_size");
        let exporter = ("exporter", &*what.exporter);
        let data = ("data_type", what.signal.name());
        match &what.endpoint {
            Some(endpoint) => show(&[data, ("endpoint", endpoint), exporter, limit], used, max),
            None => show(&[data, exporter, limit], used, max),
        }
    }
}

fn cores(page: &mut Page, running: &Running, snapshots: &[Snapshot]) {
    let mut connections = Vec::new();
    for (at, (snapshot, tid)) in snapshots.iter().zip(running.threads()).enumerate() {
        let number = at.to_string();
        let core = [("core", &*number)];
        connections.push(snapshot.connections as f64);
        page.gauge(&names::CORE_CONNECTIONS, &core, snapshot.connections as f64);
        page.gauge(&names::CORE_HELD_BYTES, &core, snapshot.bytes as f64);
        page.gauge(&names::CORE_BUSY, &core, running.busy_share(at));
        let cpu = process::thread_cpu(tid).unwrap_or(Duration::ZERO);
        page.counter_f64(&names::CORE_CPU_SECONDS, &core, cpu.as_secs_f64());
    }
    let mean = connections.iter().sum::<f64>() / connections.len().max(1) as f64;
    if mean > 0.0 {
        let most = connections.iter().copied().fold(0.0, f64::max);
        page.gauge(&names::CONNECTION_SKEW, &[], most / mean);
    }
}
