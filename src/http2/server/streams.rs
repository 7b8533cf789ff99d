//! The streams of a connection, and what became of the last ones.

use std::collections::VecDeque;

use super::super::flow::Window;
use super::answer::Unsent;

/// Streams that have ended and are remembered, to tell what was under way from a fault.
const ENDED_MAX: usize = 64;

/// A stream that is not over.
#[derive(Debug)]
pub(super) struct Stream<C> {
    pub(super) id: u32,
    /// `None` once it is answered: then only the end of the request is still to come.
    pub(super) call: Option<C>,
    /// The request is whole.
    pub(super) ended: bool,
    /// The peer does not wait for the answer any more.
    pub(super) gone: bool,
    pub(super) receive: Window,
    /// What the peer lets us send on it.
    pub(super) send: i64,
    /// `content-length`, and what has come.
    pub(super) expected: Option<u64>,
    pub(super) received: u64,
    /// The rest of an answer that waits for the peer's windows.
    pub(super) unsent: Option<Box<Unsent>>,
}

impl<C> Stream<C> {
    /// One on which the peer may send `receive` bytes, and we `send`.
    pub(super) fn new(id: u32, call: Option<C>, receive: u32, send: u32) -> Self {
        Self {
            id,
            call,
            ended: false,
            gone: false,
            receive: Window::new(receive),
            send: i64::from(send),
            expected: None,
            received: 0,
            unsent: None,
        }
    }

    /// Whether its call runs.
    fn is_running(&self) -> bool {
        self.ended && self.call.is_some() && self.unsent.is_none()
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// By us, with the peer perhaps still sending.
    Reset,
    /// By both.
    Answered,
}

/// Streams in the order of their numbers, which is nearly the order in which they end.
#[derive(Debug)]
pub(super) struct Streams<C> {
    open: VecDeque<Stream<C>>,
    ended: VecDeque<(u32, End)>,
    last: u32,
}

impl<C> Default for Streams<C> {
    fn default() -> Self {
        Self { open: VecDeque::new(), ended: VecDeque::new(), last: 0 }
    }
}

impl<C> Streams<C> {
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    /// The highest number that was used.
    pub(super) fn last(&self) -> u32 {
        self.last
    }

    /// A stream of this number, above all before, is opened or refused.
    pub(super) fn advance(&mut self, id: u32) {
        debug_assert!(id > self.last);
        self.last = id;
    }

    pub(super) fn push(&mut self, stream: Stream<C>) {
        self.open.push_back(stream);
    }

    #[inline]
    fn find(&self, id: u32) -> Option<usize> {
        // The newest is asked for most: its DATA follows its HEADERS.
        match self.open.back() {
            Some(newest) if newest.id == id => Some(self.open.len() - 1),
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

    /// Forgets a stream.
    pub(super) fn remove(&mut self, id: u32, end: End) {
        if let Some(at) = self.find(id) {
            self.open.remove(at);
            self.note(id, end);
        }
    }

    /// The peer does not want the answer. A call that runs keeps its place until it has ended, so
    /// that resets make no room for more calls than are allowed.
    pub(super) fn lose(&mut self, id: u32, end: End) {
        match self.get(id) {
            Some(stream) if stream.is_running() => stream.gone = true,
            Some(_) => self.remove(id, end),
            None => {}
        }
    }

    /// Remembers how a stream ended.
    pub(super) fn note(&mut self, id: u32, end: End) {
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back((id, end));
    }

    /// How a stream ended, if that was not long ago.
    pub(super) fn end_of(&self, id: u32) -> Option<End> {
        self.ended.iter().rev().find_map(|(ended, end)| (*ended == id).then_some(*end))
    }
}
