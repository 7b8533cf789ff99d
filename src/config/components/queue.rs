//! `sending_queue` (otlp 4.4, loadbalancing 1.4).

use std::time::Duration;

use http::HeaderName;

use crate::config::read::{Absent, Block, Kind};
use crate::upstream::options::{MergeOptions, QueueOptions, Sizer};

/// What the block says.
#[derive(Debug)]
pub struct Sending {
    /// The queue; without one calls wait for the backend.
    pub queue: Option<QueueOptions>,
    /// How calls are merged, with the limits of the `batch` block.
    pub merge: MergeOptions,
    /// Headers of requests by which calls are parted: `batch.partition.metadata_keys`.
    pub partition: Vec<HeaderName>,
}

/// Reads the block of `b`.
pub fn read(b: &mut Block<'_>, absent: Absent, merge: &MergeOptions) -> Sending {
    let mut sending = Sending { queue: None, merge: *merge, partition: Vec::new() };
    sending.queue = b.optional("sending_queue", absent, |b| queue(b, &mut sending));
    sending
}

fn queue(b: &mut Block<'_>, sending: &mut Sending) -> QueueOptions {
    let default = QueueOptions::default();
    let sizer = sizer(b, "requests", Sizer::Requests);
    let size = b.signed("queue_size", i64::try_from(default.size_max).unwrap_or(i64::MAX));
    if size <= 0 {
        b.error_at("queue_size", "must be greater than zero", "queue_size: 1000");
    }
    let consumers = b.signed("num_consumers", 10);
    if consumers <= 0 {
        b.error_at("num_consumers", "must be greater than zero", "num_consumers: 10");
    }
    let block_on_overflow = b.flag("block_on_overflow", default.block_on_overflow);
    let wait_for_result = b.flag("wait_for_result", default.wait_for_result);
    if b.has("storage") {
        let what = "a queue on disk is not in this release";
        b.refuse_at("storage", what, "leave storage out: the queue is in memory and bounded");
        if wait_for_result {
            b.error_at("wait_for_result", "cannot stand beside storage", "");
        }
    }
    let given = b.has("sizer");
    b.optional("batch", Absent::Off, |b| batch(b, given, sizer, size, sending));
    QueueOptions {
        sizer,
        size_max: u64::try_from(size).unwrap_or(1),
        num_consumers: usize::try_from(consumers).unwrap_or(1),
        block_on_overflow,
        wait_for_result,
    }
}

/// Merging is tracemill's own and always on; a `batch` block can lower its limits.
fn batch(
    b: &mut Block<'_>,
    queue_sizer_given: bool,
    queue_sizer: Sizer,
    queue_size: i64,
    sending: &mut Sending,
) {
    // A sizer that the queue's block names is inherited, even one that a batch does not have.
    let name = match queue_sizer {
        Sizer::Requests if queue_sizer_given && b.is_given() => "requests",
        Sizer::Bytes if b.is_given() => "bytes",
        _ => "items",
    };
    let sizer = sizer(b, name, Sizer::Items);
    if sizer == Sizer::Requests {
        b.error_at("sizer", "a batch is counted in items or bytes", "sizer: items");
    }
    let flush = b.duration("flush_timeout", Duration::from_millis(200));
    if flush.is_zero() {
        b.error_at("flush_timeout", "must be greater than zero", "flush_timeout: 200ms");
    }
    let min = b.signed("min_size", 8192);
    let max = b.signed("max_size", 0);
    for (key, value) in [("min_size", min), ("max_size", max)] {
        if value < 0 {
            b.error_at(key, "must not be negative", "");
        }
    }
    if max > 0 && max < min {
        b.error_at("max_size", format!("{max} is less than min_size ({min})"), "");
    }
    if sizer == queue_sizer && min > queue_size {
        let what = format!("{min} is more than queue_size ({queue_size}): it could never fill");
        b.error_at("min_size", what, "");
    }
    b.block("partition", |b| {
        let keys = b.texts("metadata_keys", &[]);
        for (at, key) in keys.iter().enumerate() {
            if keys[..at].iter().any(|other| other.eq_ignore_ascii_case(key)) {
                let what = format!("duplicate entry in metadata_keys: \"{key}\"");
                b.error_at("metadata_keys", what, "");
            }
        }
        let names = keys.iter().filter_map(|key| HeaderName::from_bytes(key.as_bytes()).ok());
        sending.partition = names.collect();
    });
    for key in ["flush_timeout", "min_size"] {
        if b.has(key) {
            let what = "has no effect here: calls are merged while others are in flight, and leave \
                        when 256 KiB have gathered or after 2 ms";
            b.warn_at(key, what, "tracemill: {merge: {bytes: ..., linger: ...}} changes that");
        }
    }
    let merge = &mut sending.merge;
    match (sizer, u64::try_from(max)) {
        (_, Ok(0) | Err(_)) => {}
        (Sizer::Bytes, Ok(max)) => {
            merge.bytes_max = usize::try_from(max).unwrap_or(usize::MAX);
            merge.bytes = merge.bytes.min(merge.bytes_max);
        }
        (_, Ok(max)) => merge.items_max = max,
    }
}

fn sizer(b: &mut Block<'_>, default: &str, fallback: Sizer) -> Sizer {
    let choices = [("requests", Sizer::Requests), ("items", Sizer::Items), ("bytes", Sizer::Bytes)];
    b.choice("sizer", default, &choices, fallback)
}

/// A queue in front of an exporter that needs none: checked, without effect.
pub fn ignored(b: &mut Block<'_>) {
    if b.has("sending_queue") {
        read(b, Absent::Off, &MergeOptions::default());
        b.ignore("sending_queue", Kind::Any, "this exporter answers at once");
    }
}
