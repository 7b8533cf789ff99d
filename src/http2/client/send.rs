//! Calls, written: their heads at once, their bodies within the peer's windows.
//!
//! Bodies leave in the order in which the calls were started, each whole before the next, because a
//! message is of use to the peer only when it is whole. One that waits for its own window lets the
//! others pass; one that has room is never overtaken by a later one.

use super::super::Out;
use super::super::flow::Window;
use super::super::frame::{self, CANCEL, DATA, END_HEADERS, END_STREAM, HEADERS};
use super::super::hpack::Block;
use super::streams::Stream;
use super::{Call, Client};

/// A frame of DATA, however large the peer would have it.
const DATA_BYTES_MAX: usize = 256 << 10;
/// What control frames may wait to be written, until nothing more is read.
const OUT_BYTES_MAX: usize = 16 << 10;
/// Calls that are begun before the peer's SETTINGS are there.
const STREAMS_UNSETTLED: usize = 100;

/// Whether one more call may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    Now,
    /// When another one is over.
    Later,
    /// Not on this connection.
    Never,
}

impl<C: Call> Client<C> {
    /// Whether one more call may be started.
    pub(crate) fn room(&self) -> Room {
        let max = match self.settled {
            true => self.peer.streams_max as usize,
            false => STREAMS_UNSETTLED,
        };
        match () {
            () if self.is_leaving() => Room::Never,
            () if self.streams.len() < max => Room::Now,
            () => Room::Later,
        }
    }

    /// Starts a call; there must be [`Room`]. Its head is `block`, in the form that the peer
    /// understands by now, and what is written in `own`. The first call's block is the one that
    /// enters the peer's table, so any other must be one that enters nothing.
    pub(crate) fn start(&mut self, call: C, block: &Block, own: &[u8]) {
        let id = self.streams.take_next();
        let is_empty = call.body().is_empty();
        let end = if is_empty { END_STREAM } else { 0 };
        let (out, table, max) = (&mut self.out, self.table, self.peer.frame_bytes_max);
        let len = table.len(block) + own.len();
        if len <= max {
            frame::put_header(out, len, HEADERS, END_HEADERS | end, id);
            table.put(out, block);
            out.extend_from_slice(own);
        } else {
            let mut all = Vec::with_capacity(len);
            table.put(&mut all, block);
            all.extend_from_slice(own);
            frame::put_block(out, id, end, &all, max);
        }
        self.table = table.used();
        if !is_empty {
            self.sending.push(id);
        }
        self.streams.push(Stream {
            id,
            call,
            sent: 0,
            send: i64::from(self.peer.stream_window),
            receive: Window::new(self.options.window),
            headed: false,
            expected: None,
            received: 0,
        });
    }

    /// Gives a call up; the peer is told to forget it.
    pub(crate) fn cancel(&mut self, is_it: impl Fn(&C) -> bool) -> Option<C> {
        let id = self.streams.iter_mut().find(|s| is_it(&s.call))?.id;
        frame::put_reset(&mut self.out, id, CANCEL);
        self.streams.remove(id).map(|s| s.call)
    }

    /// Appends what may be sent: `room` bytes and at most one frame more. True if that was the
    /// limit.
    pub(crate) fn write(&mut self, to: &mut impl Out, room: usize) -> bool {
        let end = to.len() + room;
        to.own().append(&mut self.out);
        if self.sending.is_empty() {
            return false;
        }
        let mut sending = std::mem::take(&mut self.sending);
        sending.retain(|id| !self.write_body(*id, to, end));
        self.sending = sending;
        to.len() >= end && !self.sending.is_empty()
    }

    /// Appends of one body what may be sent; true if nothing of it is left.
    fn write_body(&mut self, id: u32, to: &mut impl Out, end: usize) -> bool {
        let Some(stream) = self.streams.get(id) else { return true };
        let mut window = usize::try_from(self.send.min(stream.send)).unwrap_or(0);
        let frame_bytes = self.peer.frame_bytes_max.min(DATA_BYTES_MAX);
        let body = stream.call.body();
        let begun = stream.sent;
        while window > 0 && stream.sent < body.len() && to.len() < end {
            let len = (body.len() - stream.sent).min(window).min(frame_bytes);
            let piece = body.slice(stream.sent..stream.sent + len);
            stream.sent += len;
            window -= len;
            let flags = if stream.sent == body.len() { END_STREAM } else { 0 };
            frame::put_header(to.own(), len, DATA, flags, id);
            to.lend(piece);
        }
        let sent = (stream.sent - begun) as i64;
        stream.send -= sent;
        self.send -= sent;
        stream.sent == body.len()
    }

    /// Whether so much is to be written that nothing more should be read.
    pub(crate) fn is_clogged(&self) -> bool {
        self.out.len() >= OUT_BYTES_MAX
    }
}
