//! The calls under way on a connection. What has ended is forgotten: frames that still come for it
//! are nobody's.

use std::collections::VecDeque;

use super::super::flow::Window;

/// The highest number of a stream (RFC 9113 §5.1.1).
pub(super) const ID_MAX: u32 = 0x7fff_ffff;

/// A call whose reply is not whole.
#[derive(Debug)]
pub(super) struct Stream<C> {
    pub(super) id: u32,
    pub(super) call: C,
    /// How much of its body is sent.
    pub(super) sent: usize,
    /// What the peer lets us send on it.
    pub(super) send: i64,
    pub(super) receive: Window,
    /// The head of the reply has come.
    pub(super) headed: bool,
    /// `content-length`, and what has come.
    pub(super) expected: Option<u64>,
    pub(super) received: u64,
}

/// Streams in the order of their numbers, which is nearly the order in which they end.
#[derive(Debug)]
pub(super) struct Streams<C> {
    open: VecDeque<Stream<C>>,
    /// The next number; above [`ID_MAX`] there is none.
    next: u32,
}

impl<C> Streams<C> {
    /// None yet; the first will have this number.
    pub(super) fn from(next: u32) -> Self {
        Self { open: VecDeque::new(), next }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether there is a number for one more.
    pub(super) fn has_next(&self) -> bool {
        self.next <= ID_MAX
    }

    /// Takes the next number.
    pub(super) fn take_next(&mut self) -> u32 {
        debug_assert!(self.has_next());
        let id = self.next;
        self.next += 2;
        id
    }

    /// Whether we have used this number.
    pub(super) fn was_opened(&self, id: u32) -> bool {
        id % 2 == 1 && id < self.next
    }

    pub(super) fn push(&mut self, stream: Stream<C>) {
        self.open.push_back(stream);
    }

    #[inline]
    fn find(&self, id: u32) -> Option<usize> {
        // The oldest is asked for most.
        match self.open.front() {
            Some(oldest) if oldest.id == id => Some(0),
            _ => self.open.binary_search_by_key(&id, |s| s.id).ok(),
        }
    }

    #[inline]
    pub(super) fn get(&mut self, id: u32) -> Option<&mut Stream<C>> {
        self.find(id).map(|at| &mut self.open[at])
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stream<C>> {
        self.open.iter_mut()
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Stream<C>> {
        self.find(id).and_then(|at| self.open.remove(at))
    }

    /// Takes the newest, if its number is above `id`.
    pub(super) fn pop_above(&mut self, id: u32) -> Option<Stream<C>> {
        match self.open.back() {
            Some(newest) if newest.id > id => self.open.pop_back(),
            _ => None,
        }
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Stream<C>> {
        self.open.drain(..)
    }
}
