//! `batch` processor: caps merging (otlp 4.7).

use std::time::Duration;

use crate::config::plan::Batch;
use crate::config::read::{Block, Kind};

/// Reads the processor.
pub fn read(b: &mut Block<'_>) -> Batch {
    let timeout = b.duration("timeout", Duration::from_millis(200));
    let size = b.unsigned32("send_batch_size", 8192);
    let max = b.unsigned32("send_batch_max_size", 0);
    if max > 0 && max < size {
        let what = format!("{max} is less than send_batch_size ({size})");
        b.error_at("send_batch_max_size", what, &format!("send_batch_max_size: {size}"));
    }
    if !b.unrecorded(|b| b.texts("metadata_keys", &[])).is_empty() {
        let what =
            "has no effect here: calls are parted by the headers that their exporter sends on";
        b.warn_at(
            "metadata_keys",
            what,
            "sending_queue: {batch: {partition: {metadata_keys: [...]}}}",
        );
    }
    b.ignore("metadata_cardinality_limit", Kind::Int, "batches are not parted by metadata");
    let what = "caps merging, which is always on; behind a sampler it waits for its size or timeout, \
                elsewhere a client waits for its answer and it does not";
    b.note_here(what, "");
    Batch { items: size.into(), items_max: max.into(), timeout }
}
