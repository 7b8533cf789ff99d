//! Which endpoint a trace was first seen at: a bounded table that forgets the oldest.

/// Entries of a bucket: one cache line.
const WAYS: usize = 8;
/// Buckets: 8 MiB in all.
const BUCKETS: usize = 1 << 17;
/// Bytes that the table takes, however long it runs.
pub(super) const BYTES: usize = BUCKETS * WAYS * 8;
/// Traces that are remembered at once.
pub(super) const TRACES_MAX: usize = BUCKETS * WAYS;

/// Marks a trace that was seen at two endpoints.
pub(super) const SPLIT: u8 = u8::MAX;

/// The table. Of a trace it keeps 55 bits of its id and one byte; a trace is forgotten after
/// eight newer ones have come to its bucket. At 10,000 traces a second that is about a minute
/// and a half, and the spans of one trace come within a second.
#[derive(Debug)]
pub(super) struct Seen(Box<[[u64; WAYS]]>);

impl Seen {
    pub(super) fn new() -> Self {
        Self(vec![[0; WAYS]; BUCKETS].into_boxed_slice())
    }

    /// Where the trace was seen first; from now on `home` if never.
    pub(super) fn note(&mut self, trace: &[u8; 16], home: u8) -> Option<u8> {
        let (bucket, print) = self.place(trace);
        if let Some(entry) = bucket.iter().find(|e| **e & !0xff == print) {
            return Some((entry & 0xff) as u8);
        }
        bucket.copy_within(..WAYS - 1, 1);
        bucket[0] = print | u64::from(home);
        None
    }

    /// Remembers that the trace was seen at two endpoints.
    pub(super) fn mark_split(&mut self, trace: &[u8; 16]) {
        let (bucket, print) = self.place(trace);
        for entry in bucket.iter_mut().filter(|e| **e & !0xff == print) {
            *entry = print | u64::from(SPLIT);
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the id is cut into pieces")]
    fn place(&mut self, trace: &[u8; 16]) -> (&mut [u64; WAYS], u64) {
        // The ids are the demonstration's own and random in every bit.
        let id = u128::from_be_bytes(*trace);
        let bucket = (id >> 64) as usize % BUCKETS;
        // Never zero, which marks a free entry.
        (&mut self.0[bucket], id as u64 & !0xff | 1 << 63)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random::trace_id;

    #[test]
    fn a_trace_keeps_its_first_home_until_it_is_split() {
        let mut seen = Seen::new();
        let ids: Vec<_> = (0..10_000).map(|n| trace_id(1, n)).collect();
        let homes = || (0..4u8).cycle();
        for (id, home) in ids.iter().zip(homes()) {
            assert_eq!(seen.note(id, home), None);
        }
        for (id, home) in ids.iter().zip(homes()) {
            assert_eq!(seen.note(id, 9), Some(home));
        }
        seen.mark_split(&ids[5]);
        assert_eq!(seen.note(&ids[5], 1), Some(SPLIT));
        assert_eq!(seen.note(&ids[6], 1), Some(2));
    }
}
