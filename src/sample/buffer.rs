//! Where spans wait: appended to blocks, blocks fill segments, segments are freed whole.
//!
//! A span's **address** is one word: segment, block, ordinal; never a pointer or a byte offset, so
//! a block can be packed or moved in place later. Beside the bytes stands a directory: where each
//! span begins, which span of its trace came before it, and whose it is. A **run** says for
//! neighbouring spans from which ResourceSpans and ScopeSpans they came.
//!
//! A segment goes when the last of its traces was due and nothing of it waits to leave, or when
//! all its spans are gone. Where most are gone early, the rest is moved ([`super::survivors`]), so
//! a few long waits cannot pin memory. What waits for longer than most has a head of its own:
//! among spans that go soon it would be moved again and again, among its like it goes whole.

use std::collections::VecDeque;

use crate::memory;

/// Most bytes of a block, but for one that holds a single larger span.
pub const BLOCK_BYTES_MAX: usize = 64 << 10;
/// Most spans of a block.
pub const BLOCK_SPANS_MAX: usize = 1 << ORDINAL_BITS;
/// Bytes of a segment, but for one that holds a single larger span.
pub const SEGMENT_BYTES: usize = 1 << 20;
/// Most blocks of a segment.
const BLOCKS_MAX: usize = 1 << BLOCK_BITS;
const ORDINAL_BITS: u32 = 8;
const BLOCK_BITS: u32 = 6;
/// Emptied segments that are always kept for what comes next. Of those that a tick frees beyond
/// that, and nobody needs before the next one, a part is given back: fresh memory costs a page
/// fault for every nine spans, and what comes in a second is now more and now less.
const SPARE_MIN: usize = 4;
/// The part of unneeded segments that is given back with a tick.
const SPARE_PART: usize = 4;
/// The part of a directory that may stay unused: what an emptied segment needed is mostly what it
/// needs next.
const UNUSED_PART: usize = 8;
/// How far behind the last span memory is asked for: a few spans, so that it has answered when they
/// come.
const AHEAD_BYTES: usize = 1 << 10;
/// Most segments that are emptied before what they were is used again.
const SPARSE_MAX: usize = 16;
/// The owner of a span that is gone.
const NOBODY: u32 = u32::MAX;

/// Which segment takes a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// That of spans as they arrive.
    Arrivals,
    /// That of moved ones that wait for longer than most.
    Survivors,
}

/// Where a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address(u32);

impl Address {
    /// No span.
    pub const NONE: Self = Self(u32::MAX);

    fn new(segment: usize, block: usize, ordinal: usize) -> Self {
        let word = (segment << BLOCK_BITS | block) << ORDINAL_BITS | ordinal;
        Self(u32::try_from(word).expect("fewer segments than an address can name"))
    }

    /// Slot of its segment.
    #[must_use]
    pub const fn segment(self) -> usize {
        (self.0 >> (BLOCK_BITS + ORDINAL_BITS)) as usize
    }

    const fn block(self) -> usize {
        (self.0 >> ORDINAL_BITS) as usize & (BLOCKS_MAX - 1)
    }

    const fn ordinal(self) -> usize {
        self.0 as usize & (BLOCK_SPANS_MAX - 1)
    }
}

/// Where neighbouring spans came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Their resource, in its interner.
    pub resource: u32,
    /// Their scope.
    pub scope: u32,
    /// Number of the ResourceSpans that brought them, over all requests.
    pub batch: u32,
    /// Number of the ScopeSpans.
    pub group: u32,
}

#[derive(Debug)]
struct Run {
    first: u8,
    origin: Origin,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    before: Address,
    owner: u32,
    offset: u16,
}

#[derive(Debug)]
struct Block {
    payload: u32,
    first_span: u32,
    first_run: u32,
}

#[derive(Debug, Default)]
struct Segment {
    payload: Vec<u8>,
    spans: Vec<Entry>,
    blocks: Vec<Block>,
    runs: Vec<Run>,
    /// The last tick at which a trace of it is due.
    due: u64,
    /// Spans that wait to leave.
    pinned: u32,
    /// Bytes of spans that are known to be gone.
    gone_bytes: u32,
    sealed: bool,
    /// Bytes that the buffer counts for it.
    counted: u64,
}

/// The block that takes what comes next, the last of its segment.
#[derive(Clone, Copy, Debug)]
struct Filling {
    slot: usize,
    block: usize,
    spans: usize,
    bytes: usize,
    /// Bytes at which it is full. A first span may be larger.
    bytes_max: usize,
    /// That of the last span; none of an empty block.
    origin: Option<Origin>,
}

impl Filling {
    const fn takes(&self, len: usize) -> bool {
        self.spans < BLOCK_SPANS_MAX && self.bytes + len <= self.bytes_max
    }
}

/// The segments of one shard.
#[derive(Debug, Default)]
pub struct Buffer {
    segments: Vec<Segment>,
    /// Those without memory.
    free: Vec<usize>,
    /// Those that are empty, and keep theirs for what comes next.
    spare: Vec<usize>,
    /// Those in use, in the order in which they were begun.
    order: VecDeque<usize>,
    /// What is filled, by [`Head`].
    heads: [Option<Filling>; 2],
    /// The fewest that were spare since `tick`: those that nobody needed.
    spare_low: usize,
    /// The last tick at which segments were freed.
    tick: u64,
    bytes: u64,
    spans: u64,
}

/// A span as it lies in the buffer.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// The whole field: tag, length, content.
    pub field: &'a [u8],
    /// Where it came from.
    pub origin: Origin,
    /// The span of its trace before it.
    pub before: Address,
}

impl Buffer {
    /// Appends a span as it arrives; `owner` is its chain, due at tick `due`. True if it began a
    /// run, which the interners must count.
    pub fn append(
        &mut self,
        field: &[u8],
        origin: Origin,
        before: Address,
        owner: u32,
        due: u64,
    ) -> (Address, bool) {
        self.append_to(Head::Arrivals, field, origin, before, owner, due)
    }

    /// Like [`Self::append`], to one of the heads.
    pub fn append_to(
        &mut self,
        head: Head,
        field: &[u8],
        origin: Origin,
        before: Address,
        owner: u32,
        due: u64,
    ) -> (Address, bool) {
        if !self.heads[head as usize].is_some_and(|filling| filling.takes(field.len())) {
            self.begin_block(head, field.len());
        }
        // It is changed where it lies: what was written in parts and is read whole has to reach the
        // cache first, behind all bytes of the span before.
        let filling = self.heads[head as usize].as_mut().expect("begun just now");
        let segment = &mut self.segments[filling.slot];
        let new_run = filling.origin != Some(origin);
        if new_run {
            let first = u8::try_from(filling.spans).expect("below the spans of a block");
            segment.runs.push(Run { first, origin });
            filling.origin = Some(origin);
        }
        let offset = u16::try_from(filling.bytes).expect("below the bytes of a block");
        segment.spans.push(Entry { before, owner, offset });
        segment.payload.extend_from_slice(field);
        // Where the next spans go, no cache knows what lay there.
        let next = segment.payload.spare_capacity_mut().get(AHEAD_BYTES..AHEAD_BYTES + field.len());
        next.into_iter().for_each(memory::fetch);
        segment.due = segment.due.max(due);
        let at = Address::new(filling.slot, filling.block, filling.spans);
        (filling.spans, filling.bytes) = (filling.spans + 1, filling.bytes + field.len());
        self.spans += 1;
        (at, new_run)
    }

    /// Goes on in a new block, which takes at least `len` bytes.
    #[cold]
    fn begin_block(&mut self, head: Head, len: usize) {
        let same = self.heads[head as usize].map(|filling| filling.slot).filter(|slot| {
            let segment = &self.segments[*slot];
            let has_room = segment.payload.len() + len <= segment.payload.capacity();
            has_room && segment.blocks.len() < BLOCKS_MAX
        });
        let slot = same.unwrap_or_else(|| self.begin_segment(head, len));
        let segment = &mut self.segments[slot];
        let room = segment.payload.capacity() - segment.payload.len();
        self.heads[head as usize] = Some(Filling {
            slot,
            block: segment.begin_block(),
            spans: 0,
            bytes: 0,
            bytes_max: room.min(BLOCK_BYTES_MAX),
            origin: None,
        });
    }

    fn begin_segment(&mut self, head: Head, len: usize) -> usize {
        self.seal(head);
        let spare = if len <= SEGMENT_BYTES { self.spare.pop() } else { None };
        self.spare_low = self.spare_low.min(self.spare.len());
        let slot = spare.unwrap_or_else(|| self.add_segment(len.max(SEGMENT_BYTES)));
        self.order.push_back(slot);
        slot
    }

    fn add_segment(&mut self, payload_bytes: usize) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.segments.push(Segment::default());
            self.segments.len() - 1
        });
        self.change(slot, |segment| segment.payload = Vec::with_capacity(payload_bytes));
        slot
    }

    /// Ends the segment that is filled; its directory gives back what it does not need.
    fn seal(&mut self, head: Head) {
        let Some(Filling { slot, .. }) = self.heads[head as usize].take() else { return };
        self.change(slot, |segment| {
            segment.sealed = true;
            shrink(&mut segment.spans);
            shrink(&mut segment.runs);
        });
    }

    /// Changes what memory a segment has.
    fn change(&mut self, slot: usize, change: impl FnOnce(&mut Segment)) {
        let segment = &mut self.segments[slot];
        change(segment);
        let bytes = segment.bytes();
        self.bytes = self.bytes - segment.counted + bytes;
        segment.counted = bytes;
    }

    /// The span at `at`.
    #[must_use]
    pub fn get(&self, at: Address) -> Stored<'_> {
        let segment = &self.segments[at.segment()];
        let block = &segment.blocks[at.block()];
        let next = segment.blocks.get(at.block() + 1);
        let index = block.first_span as usize + at.ordinal();
        let entry = segment.spans[index];
        let start = block.payload as usize + entry.offset as usize;
        let spans_end = next.map_or(segment.spans.len(), |b| b.first_span as usize);
        let end = if index + 1 < spans_end {
            block.payload as usize + segment.spans[index + 1].offset as usize
        } else {
            next.map_or(segment.payload.len(), |b| b.payload as usize)
        };
        let runs_end = next.map_or(segment.runs.len(), |b| b.first_run as usize);
        let runs = &segment.runs[block.first_run as usize..runs_end];
        let run = runs.partition_point(|run| run.first as usize <= at.ordinal()) - 1;
        let field = &segment.payload[start..end];
        Stored { field, origin: runs[run].origin, before: entry.before }
    }

    /// The span of the same trace before the one at `at`.
    #[must_use]
    #[inline]
    pub fn before(&self, at: Address) -> Address {
        self.segments[at.segment()].entry(at).before
    }

    /// Makes `before` the span before the one at `at`.
    pub fn relink(&mut self, at: Address, before: Address) {
        self.segments[at.segment()].entry_mut(at).before = before;
    }

    /// The span waits to leave: its segment stays.
    pub fn pin(&mut self, at: Address) {
        self.segments[at.segment()].pinned += 1;
    }

    /// The span has left, or moved.
    pub fn unpin(&mut self, at: Address) {
        self.segments[at.segment()].pinned -= 1;
    }

    /// The span is gone before its time.
    pub fn forget(&mut self, at: Address) {
        let len = u32::try_from(self.get(at).field.len()).expect("fits a segment");
        let segment = &mut self.segments[at.segment()];
        segment.gone_bytes += len;
        segment.entry_mut(at).owner = NOBODY;
    }

    /// Frees segments of which nothing is needed at tick `now`; the origins of their runs, whose
    /// resources and scopes are to be released.
    pub fn free(&mut self, now: u64, mut released: impl FnMut(Origin)) {
        let is_next_tick = now > self.tick;
        if is_next_tick {
            self.tick = now;
            self.keep_spare(self.spare.len() - self.spare_low.div_ceil(SPARE_PART));
        }
        let (mut order, mut done) = (std::mem::take(&mut self.order), Vec::new());
        order.retain(|&slot| {
            let is_done = self.segments[slot].is_done(now);
            done.extend(is_done.then_some(slot));
            !is_done
        });
        self.order = order;
        done.into_iter().for_each(|slot| self.free_one(slot, &mut released));
        if is_next_tick {
            self.spare_low = self.spare.len();
        }
    }

    /// Gives back what no segment uses; false if that is nothing.
    pub fn trim(&mut self) -> bool {
        let had = self.spare.len();
        self.keep_spare(0);
        self.spare.len() < had
    }

    fn keep_spare(&mut self, count: usize) {
        let kept = count.max(SPARE_MIN).min(self.spare.len());
        self.spare.split_off(kept).into_iter().for_each(|slot| self.discard(slot));
        self.spare_low = self.spare_low.min(self.spare.len());
    }

    fn discard(&mut self, slot: usize) {
        let segment = std::mem::take(&mut self.segments[slot]);
        self.bytes -= segment.counted;
        self.free.push(slot);
    }

    fn free_one(&mut self, slot: usize, released: &mut impl FnMut(Origin)) {
        let segment = &mut self.segments[slot];
        if !segment.sealed {
            self.heads.iter_mut().for_each(|head| *head = head.filter(|head| head.slot != slot));
        }
        self.spans -= segment.spans.len() as u64;
        segment.runs.iter().for_each(|run| released(run.origin));
        if segment.payload.capacity() == SEGMENT_BYTES {
            segment.clear();
            self.spare.push(slot);
        } else {
            self.discard(slot);
        }
    }

    /// Some of the sealed segments of which less than a quarter is left, but something is; none if
    /// there are none.
    #[must_use]
    pub fn sparse(&self) -> Vec<usize> {
        let is_sparse = |slot: &usize| {
            let segment = &self.segments[*slot];
            let left = segment.payload.len() - segment.gone_bytes as usize;
            segment.sealed && left > 0 && left * 4 < segment.payload.len()
        };
        self.order.iter().copied().filter(is_sparse).take(SPARSE_MAX).collect()
    }

    /// Whose the spans of a segment are, each owner at least once; some may be gone.
    pub fn owners(&self, segment: usize) -> impl Iterator<Item = u32> {
        let owners = self.segments[segment].spans.iter().map(|entry| entry.owner);
        owners.filter(|owner| *owner != NOBODY)
    }

    /// The tick at which the last trace of a segment is due.
    #[must_use]
    pub fn due(&self, segment: usize) -> u64 {
        self.segments[segment].due
    }

    /// All of a segment has moved elsewhere.
    pub fn vacate(&mut self, segment: usize) {
        let segment = &mut self.segments[segment];
        segment.gone_bytes = u32::try_from(segment.payload.len()).expect("below 4 GiB");
    }

    /// Bytes allocated.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Spans that lie here, gone ones included.
    #[must_use]
    pub const fn spans(&self) -> u64 {
        self.spans
    }
}

impl Segment {
    /// One more block; its number.
    fn begin_block(&mut self) -> usize {
        let position = |n: usize| u32::try_from(n).expect("below 4 GiB");
        self.blocks.push(Block {
            payload: position(self.payload.len()),
            first_span: position(self.spans.len()),
            first_run: position(self.runs.len()),
        });
        self.blocks.len() - 1
    }

    fn entry(&self, at: Address) -> &Entry {
        &self.spans[self.blocks[at.block()].first_span as usize + at.ordinal()]
    }

    fn entry_mut(&mut self, at: Address) -> &mut Entry {
        &mut self.spans[self.blocks[at.block()].first_span as usize + at.ordinal()]
    }

    /// Bytes allocated.
    fn bytes(&self) -> u64 {
        let spans = self.spans.capacity() * size_of::<Entry>();
        let runs = self.runs.capacity() * size_of::<Run>();
        (self.payload.capacity() + spans + runs) as u64
    }

    /// Nothing is in it; it keeps its memory.
    fn clear(&mut self) {
        self.payload.clear();
        self.spans.clear();
        self.blocks.clear();
        self.runs.clear();
        (self.due, self.pinned, self.gone_bytes, self.sealed) = (0, 0, 0, false);
    }

    /// Nothing of it is needed. The head may be done too; then the next span begins a new one.
    fn is_done(&self, now: u64) -> bool {
        let all_gone = self.sealed && self.gone_bytes as usize == self.payload.len();
        self.pinned == 0 && (self.due <= now || all_gone)
    }
}

/// Gives back what is not needed, if it is much.
fn shrink<T>(directory: &mut Vec<T>) {
    if directory.capacity() - directory.len() > directory.len() / UNUSED_PART {
        directory.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(batch: u32) -> Origin {
        Origin { resource: 0, scope: 0, batch, group: batch }
    }

    #[test]
    fn spans_are_found_again_in_blocks_and_segments() {
        let mut buffer = Buffer::default();
        let mut all = Vec::new();
        let mut before = Address::NONE;
        for i in 0..6_000u32 {
            let len = 1 + (i as usize * 7_919) % 900;
            let field = vec![(i % 251) as u8; len];
            let (at, _) = buffer.append(&field, origin(i / 5), before, i, 3);
            all.push((at, field, before));
            before = at;
        }
        for (i, (at, field, before)) in all.iter().enumerate() {
            let stored = buffer.get(*at);
            assert_eq!((stored.field, stored.before), (&field[..], *before), "{i}");
            assert_eq!(stored.origin.batch as usize, i / 5);
        }
        assert!(all.last().unwrap().0.segment() > 1);
    }

    #[test]
    fn a_span_larger_than_a_segment_has_one_of_its_own() {
        let mut buffer = Buffer::default();
        buffer.append(&[1; 100], origin(0), Address::NONE, 0, 0);
        let large = vec![2; SEGMENT_BYTES + 5];
        let (at, _) = buffer.append(&large, origin(0), Address::NONE, 0, 0);
        let (next, _) = buffer.append(&vec![3; 70_000], origin(0), Address::NONE, 0, 0);
        let (last, _) = buffer.append(&[4; 3], origin(0), Address::NONE, 0, 0);
        assert_eq!(buffer.get(at).field, large);
        assert_eq!(buffer.get(next).field.len(), 70_000);
        assert_eq!(buffer.get(last).field, [4; 3]);
    }

    #[test]
    fn what_waits_for_long_has_segments_of_its_own() {
        let mut buffer = Buffer::default();
        let mut append = |head, due| {
            let field = [1; BLOCK_BYTES_MAX];
            buffer.append_to(head, &field, origin(0), Address::NONE, 0, due).0.segment()
        };
        let (mut soon, mut late) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            soon.push(append(Head::Arrivals, 5));
            late.push(append(Head::Survivors, 60));
        }
        assert!(soon.iter().all(|segment| !late.contains(segment)));
        let more = append(Head::Arrivals, 6);
        assert_eq!(Some(&more), soon.last(), "the head is filled on");
        buffer.free(6, |_| ());
        assert_eq!(buffer.spans(), 20);
        let (at, _) = buffer.append(&[1; 9], origin(0), Address::NONE, 0, 7);
        assert!(!late.contains(&at.segment()), "the next span begins a new one");
    }

    #[test]
    fn a_span_that_is_gone_has_no_owner() {
        let mut buffer = Buffer::default();
        let add = |buffer: &mut Buffer, owner| {
            buffer.append(&[1; 100], origin(0), Address::NONE, owner, 5).0
        };
        let all: Vec<Address> = (0..3).map(|owner| add(&mut buffer, owner)).collect();
        buffer.forget(all[1]);
        assert_eq!(buffer.owners(all[0].segment()).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn a_segment_goes_when_its_last_trace_was_due_and_nothing_waits_to_leave() {
        let mut buffer = Buffer::default();
        let (at, _) = buffer.append(&[1; 100], origin(0), Address::NONE, 0, 5);
        buffer.pin(at);
        let mut released = 0;
        buffer.free(4, |_| released += 1);
        buffer.free(5, |_| released += 1);
        assert_eq!((released, buffer.spans()), (0, 1), "pinned");
        buffer.unpin(at);
        buffer.free(5, |_| released += 1);
        assert_eq!((released, buffer.spans(), buffer.bytes()), (1, 0, SEGMENT_BYTES as u64));
    }

    #[test]
    fn what_a_tick_frees_is_given_back_as_nobody_needs_it() {
        let mut buffer = Buffer::default();
        let fill = |buffer: &mut Buffer, segments: usize, due: u64| {
            for _ in 0..segments * 16 {
                buffer.append(&[1; BLOCK_BYTES_MAX], origin(0), Address::NONE, 0, due);
            }
        };
        let spare = |buffer: &Buffer| buffer.bytes() / SEGMENT_BYTES as u64;
        fill(&mut buffer, 40, 1);
        buffer.free(1, |_| ());
        assert_eq!(spare(&buffer), 40);
        fill(&mut buffer, 30, 2);
        buffer.free(2, |_| ());
        assert_eq!(spare(&buffer), 37, "a quarter of the ten that nobody needed is gone");
        for tick in 3..20 {
            let before = spare(&buffer);
            buffer.free(tick, |_| ());
            let left = before - before.div_ceil(SPARE_PART as u64);
            assert_eq!(spare(&buffer), left.max(SPARE_MIN as u64));
        }
        fill(&mut buffer, 30, 20);
        buffer.free(20, |_| ());
        assert!(buffer.trim());
        assert_eq!(spare(&buffer), SPARE_MIN as u64);
        assert!(!buffer.trim());
        buffer.free(21, |_| ());
        assert_eq!(spare(&buffer), SPARE_MIN as u64);
    }
}
