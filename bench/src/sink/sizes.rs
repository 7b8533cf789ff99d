//! How many spans of each trace have come: what a judge needs who knows how many were sent.
//!
//! Exact, with a bound: traces beyond it are not counted.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

/// Spans by trace id.
#[derive(Debug)]
pub(crate) struct Sizes {
    spans: HashMap<[u8; 16], u32>,
    traces_max: usize,
}

impl Sizes {
    pub(crate) fn new(traces_max: usize) -> Self {
        Self { spans: HashMap::new(), traces_max }
    }

    /// Counts one span of the trace with this id.
    pub(crate) fn add(&mut self, id: &[u8]) {
        let Ok(id) = id.try_into() else { return };
        if let Some(spans) = self.spans.get_mut(&id) {
            *spans += 1;
        } else if self.spans.len() < self.traces_max {
            self.spans.insert(id, 1);
        }
    }

    /// Lines of trace id and spans, in no order.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let mut out = BufWriter::new(File::create(path)?);
        for (id, spans) in &self.spans {
            writeln!(out, "{:032x} {spans}", u128::from_be_bytes(*id))?;
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_traces_that_came_first_are_counted_to_the_end() {
        let mut sizes = Sizes::new(2);
        for id in [[1; 16], [2; 16], [3; 16], [1; 16]] {
            sizes.add(&id);
        }
        assert_eq!(sizes.spans, HashMap::from([([1; 16], 2), ([2; 16], 1)]));
    }
}
