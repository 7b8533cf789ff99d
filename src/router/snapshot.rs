//! What one core has counted, copied out whole when somebody asks.

use std::sync::Arc;

use crate::otlp::Signal;
use crate::route::Ring;
use crate::sampler::SamplerSnapshot;
use crate::upstream::lane::Lane;
use crate::upstream::stats::Stats;

/// What came in at one receiver. `received = accepted + refused`, in items.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Requests with at least one item.
    pub requests: u64,
    /// Items that were taken.
    pub accepted: u64,
    /// Items that the client was told to keep.
    pub refused: u64,
    /// Of those, for lack of memory.
    pub refused_for_memory: u64,
}

impl Received {
    /// Adds what another core counted.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.accepted += other.accepted;
        self.refused += other.refused;
        self.refused_for_memory += other.refused_for_memory;
    }
}

/// One lane.
#[derive(Clone, Debug)]
pub struct LaneSnapshot {
    /// Component id.
    pub exporter: String,
    /// `host:port`, or nothing for what has no owner.
    pub endpoint: String,
    /// What it sends.
    pub signal: Signal,
    /// Counters.
    pub stats: Stats,
    /// Items held, in flight included.
    pub held_items: u64,
    /// Bytes held, in flight included.
    pub held_bytes: u64,
    /// In units of the queue's sizer.
    pub queue_size: u64,
    /// Calls in flight.
    pub calls_in_flight: usize,
    /// Open connections.
    pub connections: u32,
}

impl LaneSnapshot {
    /// Adds what another core counted for the same endpoint.
    pub fn add(&mut self, other: &Self) {
        self.stats.add(&other.stats);
        self.held_items += other.held_items;
        self.held_bytes += other.held_bytes;
        self.queue_size += other.queue_size;
        self.calls_in_flight += other.calls_in_flight;
        self.connections += other.connections;
    }
}

/// One core.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// By receiver: transport, then signal.
    pub received: Vec<(String, [[Received; 3]; 2])>,
    /// Every lane.
    pub lanes: Vec<LaneSnapshot>,
    /// The ring of each exporter that has one.
    pub rings: Vec<Option<Arc<Ring>>>,
    /// By sampled pipeline, in the order of the plan.
    pub samplers: Vec<SamplerSnapshot>,
    /// Requests that wait for their answer.
    pub waiting: usize,
    /// Bytes of telemetry held.
    pub bytes: u64,
    /// Connections of clients.
    pub connections: usize,
}

/// What an exporter lost or holds before it comes to a lane, or shows without one: numbers of no
/// endpoint.
#[must_use]
pub fn endpointless(
    (exporter, signal, stats, queue_size): (&str, Signal, &Stats, u64),
) -> LaneSnapshot {
    LaneSnapshot {
        exporter: exporter.to_owned(),
        endpoint: String::new(),
        signal,
        stats: stats.clone(),
        held_items: 0,
        held_bytes: 0,
        queue_size,
        calls_in_flight: 0,
        connections: 0,
    }
}

/// Copies a lane's numbers.
#[must_use]
pub fn lane(lane: &Lane) -> LaneSnapshot {
    let queue = lane.queue();
    let target = lane.target();
    LaneSnapshot {
        exporter: target.exporter.clone(),
        endpoint: target.endpoint.clone(),
        signal: target.signal,
        stats: queue.stats.clone(),
        held_items: queue.held_items(),
        held_bytes: queue.held_bytes(),
        queue_size: queue.size_used(),
        calls_in_flight: queue.calls_in_flight(),
        connections: u32::try_from(lane.connections()).unwrap_or(u32::MAX),
    }
}
