//! One connection to the receiver: calls in flight, frames out and in.
//!
//! It sends like grpc-go: each call with something to send and window to send it gets one DATA
//! frame in turn. Frames are made only when the socket has taken the ones before, as a list of
//! pieces of the body buffers, so bodies are never copied here.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use mio::net::TcpStream;

use super::bodies::{Bodies, Request};
use super::reply::Reply;
use super::stats::Outcome;
use crate::net::{Carry, Received};
use crate::wire::frame::{self, END_HEADERS, END_STREAM, Frame, HEADER_BYTES, Violation};
use crate::wire::frame::{put_header, violation};
use crate::wire::gather::Gather;
use crate::wire::headers::Reader;
use crate::wire::hpack::Block;
use crate::wire::settings::{self, Announced, Peer};
use crate::wire::table::Table;

/// What we announce: replies are small.
pub(super) const ANNOUNCED: Announced = Announced {
    // So that header blocks of replies stand for themselves.
    header_table_bytes: Some(0),
    streams_max: None,
    stream_window: 1 << 20,
    connection_window: 16 << 20,
    frame_bytes_max: frame::FRAME_BYTES_DEFAULT,
    header_list_bytes_max: None,
    client: true,
};

/// Pieces and bytes that are handed to the socket at a time.
const PIECES_MAX: usize = 64;
const BATCH_BYTES: usize = 512 << 10;
/// Stream ids end here, as in grpc-go; then a new connection is made.
const STREAM_ID_MAX: u32 = (1 << 31) / 4 * 3;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) bodies: Bodies,
    pub(super) headers: Block,
    pub(super) frame_bytes_max: usize,
    /// Calls that ended during the last input.
    pub(super) ended: Vec<(Request, Outcome)>,
}

#[derive(Debug)]
struct Call {
    id: u32,
    request: Request,
    /// Monotonic time after which it is given up.
    deadline: u64,
    /// From its first byte to its last one, which is then given back by a piece.
    body: Option<u32>,
    begun: bool,
    sent: usize,
    window: i64,
    /// Whether it is in `sending`.
    queued: bool,
    reply: Reply,
}

/// A piece of output.
#[derive(Debug, Clone, Copy)]
enum Piece {
    /// Of `small`.
    Small { start: usize, end: usize },
    /// Of a body buffer.
    Body { buffer: u32, start: usize, end: usize },
    /// Nothing: everything of this buffer has been written.
    Release(u32),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Connecting,
    /// Connected, the receiver's SETTINGS are still to come.
    Greeting,
    Open,
    /// No new calls.
    Draining,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    state: State,
    writable: bool,
    carry: Carry,
    peer: Peer,
    table: Table,
    gather: Gather,
    reader: Reader,
    calls: Vec<Call>,
    /// Calls with something to send, in turn.
    sending: VecDeque<u32>,
    next_id: u32,
    window: i64,
    unacknowledged: u32,
    /// Control frames that go out before anything else.
    control: Vec<u8>,
    small: Vec<u8>,
    pieces: VecDeque<Piece>,
    pub(super) goaway: Option<String>,
}

/// What is left to do after input or output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    More,
    Wait,
    Close(String),
}

impl Connection {
    pub(super) fn new(socket: TcpStream) -> Self {
        let mut control = frame::PREFACE.to_vec();
        ANNOUNCED.put(&mut control);
        Self {
            socket,
            state: State::Connecting,
            writable: false,
            carry: Carry::default(),
            peer: Peer::default(),
            table: Table::Fresh,
            gather: Gather::default(),
            reader: Reader::default(),
            calls: Vec::new(),
            sending: VecDeque::new(),
            next_id: 1,
            window: i64::from(settings::WINDOW_DEFAULT),
            unacknowledged: 0,
            control,
            small: Vec::new(),
            pieces: VecDeque::new(),
            goaway: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// How many more calls may begin, of `streams` in all.
    pub(super) fn capacity(&self, streams: usize) -> usize {
        match self.state {
            State::Open => {
                streams.min(self.peer.streams_max as usize).saturating_sub(self.calls.len())
            }
            _ => 0,
        }
    }

    /// Begins a call; there must be capacity.
    pub(super) fn begin(&mut self, request: Request, deadline: u64) {
        debug_assert_eq!(self.state, State::Open);
        let id = self.next_id;
        self.next_id += 2;
        if self.next_id > STREAM_ID_MAX {
            self.state = State::Draining;
        }
        let window = i64::from(self.peer.stream_window);
        let reply = Reply::default();
        self.calls.push(Call {
            id,
            request,
            deadline,
            body: None,
            begun: false,
            sent: 0,
            window,
            queued: true,
            reply,
        });
        self.sending.push_back(id);
    }

    /// The socket can be written, which also says how connecting went.
    pub(super) fn on_writable(&mut self) -> After {
        self.writable = true;
        if self.state == State::Connecting {
            match self.socket.take_error() {
                Ok(None) if self.socket.peer_addr().is_ok() => self.state = State::Greeting,
                Ok(None) => return After::Wait,
                Ok(Some(e)) | Err(e) => return After::Close(e.to_string()),
            }
        }
        After::Wait
    }

    /// Whether the connection was ever made.
    pub(super) fn is_connected(&self) -> bool {
        self.state != State::Connecting
    }

    /// One read, and everything that it brought.
    pub(super) fn read(&mut self, buffer: &mut [u8], cx: &mut Context) -> After {
        let (filled, more) = match self.carry.read(&mut self.socket, buffer) {
            Ok(Received::Some { filled, more }) => (filled, more),
            Ok(Received::WouldBlock) => return After::Wait,
            Ok(Received::End) => return After::Close("closed by the receiver".to_owned()),
            Err(e) => return After::Close(e.to_string()),
        };
        let mut bytes = &buffer[..filled];
        loop {
            let frame = match frame::next(&mut bytes, ANNOUNCED.frame_bytes_max) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(v) => return After::Close(v.what.to_owned()),
            };
            if let Err(v) = self.frame(&frame, cx) {
                return After::Close(format!("protocol violation: {}", v.what));
            }
        }
        self.carry.keep(bytes);
        if self.state == State::Draining && self.calls.is_empty() {
            return After::Close(String::new());
        }
        if more { After::More } else { After::Wait }
    }

    fn frame(&mut self, frame: &Frame<'_>, cx: &mut Context) -> Result<(), Violation> {
        if self.gather.is_open() && frame.kind != frame::CONTINUATION {
            return violation(frame::PROTOCOL_ERROR, "a header block was interrupted");
        }
        match frame.kind {
            frame::DATA => self.data(frame, cx)?,
            frame::HEADERS | frame::CONTINUATION => self.headers(frame, cx)?,
            frame::SETTINGS if !frame.has(frame::ACK) => self.settings(frame)?,
            frame::PING => frame::answer_ping(&mut self.control, frame)?,
            frame::WINDOW_UPDATE => {
                let credit = frame.word(0)?;
                if frame.stream == 0 {
                    self.window = frame::widen(self.window, credit)?;
                } else if let Some(at) = self.find(frame.stream) {
                    let call = &mut self.calls[at];
                    call.window = frame::widen(call.window, credit)?;
                    self.resume(at);
                }
            }
            frame::RST_STREAM => {
                let error = frame.word(0)?;
                if let Some(at) = self.find(frame.stream) {
                    let outcome = Reply::reset(error);
                    self.end(at, outcome, cx);
                }
            }
            frame::GOAWAY => {
                let (last, error) = (frame.word(0)? & 0x7fff_ffff, frame.word(4)?);
                let debug = String::from_utf8_lossy(&frame.payload[8..]).into_owned();
                self.goaway = Some(format!("GOAWAY, error {error}: {debug}"));
                self.state = State::Draining;
                for at in (0..self.calls.len()).rev() {
                    if self.calls[at].id > last {
                        self.end(at, Outcome::Unprocessed, cx);
                    }
                }
            }
            frame::PUSH_PROMISE => {
                return violation(frame::PROTOCOL_ERROR, "push was turned off");
            }
            _ => {}
        }
        Ok(())
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.calls.iter().position(|c| c.id == id)
    }

    fn settings(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        let before = i64::from(self.peer.stream_window);
        self.peer.apply(frame)?;
        self.table = self.table.after(&self.peer);
        settings::put_ack(&mut self.control);
        let wider = i64::from(self.peer.stream_window) - before;
        for call in &mut self.calls {
            call.window += wider;
        }
        for at in 0..self.calls.len() {
            self.resume(at);
        }
        if self.state == State::Greeting {
            self.state = State::Open;
        }
        Ok(())
    }

    /// Puts a call that waited for its window back in line.
    fn resume(&mut self, at: usize) {
        let call = &mut self.calls[at];
        if !call.queued && call.window > 0 && call.body.is_some() {
            call.queued = true;
            self.sending.push_back(call.id);
        }
    }

    fn headers(&mut self, frame: &Frame<'_>, cx: &mut Context) -> Result<(), Violation> {
        let Some(whole) = self.gather.push(frame)? else { return Ok(()) };
        let said = self.reader.read(whole.block)?;
        let Some(at) = self.calls.iter().position(|c| c.id == whole.stream) else {
            return Ok(());
        };
        self.calls[at].reply.headers(said);
        if whole.end_stream {
            let outcome = self.calls[at].reply.outcome();
            self.end(at, outcome, cx);
        }
        Ok(())
    }

    fn data(&mut self, frame: &Frame<'_>, cx: &mut Context) -> Result<(), Violation> {
        let payload = frame::content(frame)?;
        self.unacknowledged += frame.payload.len() as u32;
        if self.unacknowledged >= ANNOUNCED.connection_window / 2 {
            frame::put_window_update(&mut self.control, 0, self.unacknowledged);
            self.unacknowledged = 0;
        }
        if let Some(at) = self.find(frame.stream) {
            if !self.calls[at].reply.data(payload) {
                frame::put_reset(&mut self.control, frame.stream, frame::CANCEL);
            }
            if frame.has(END_STREAM) {
                let outcome = self.calls[at].reply.outcome();
                self.end(at, outcome, cx);
            }
        }
        Ok(())
    }

    /// A call is over. What it has not yet sent is not sent.
    fn end(&mut self, at: usize, outcome: Outcome, cx: &mut Context) {
        let call = self.calls.swap_remove(at);
        if call.queued {
            self.sending.retain(|&id| id != call.id);
        }
        if let Some(buffer) = call.body {
            self.pieces.push_back(Piece::Release(buffer));
            if !matches!(outcome, Outcome::Unprocessed) {
                frame::put_reset(&mut self.control, call.id, frame::NO_ERROR);
            }
        }
        cx.ended.push((call.request, outcome));
    }

    /// Gives up the calls whose time is over.
    pub(super) fn expire(&mut self, now: u64, cx: &mut Context) {
        for at in (0..self.calls.len()).rev() {
            if self.calls[at].deadline <= now {
                let Call { id, begun, .. } = self.calls[at];
                if begun {
                    frame::put_reset(&mut self.control, id, frame::CANCEL);
                }
                self.end(at, Reply::expired(), cx);
            }
        }
    }

    /// The connection is over: every call ends, every buffer goes back.
    pub(super) fn abandon(&mut self, cx: &mut Context) {
        for piece in self.pieces.drain(..) {
            if let Piece::Release(buffer) = piece {
                cx.bodies.release(buffer);
            }
        }
        for call in self.calls.drain(..) {
            if let Some(buffer) = call.body {
                cx.bodies.release(buffer);
            }
            // Of a call that has not begun, not a byte was sent.
            let outcome = if call.begun { Outcome::Lost } else { Outcome::Unprocessed };
            cx.ended.push((call.request, outcome));
        }
        self.sending.clear();
    }

    /// Writes until there is nothing to write or the socket takes no more.
    pub(super) fn flush(&mut self, cx: &mut Context) -> After {
        while self.writable && self.is_connected() {
            if self.pieces.is_empty() {
                self.batch(cx);
                if self.pieces.is_empty() {
                    break;
                }
            }
            let (mut slices, mut filled, mut total) = ([IoSlice::new(&[]); PIECES_MAX], 0, 0);
            for piece in self.pieces.iter().take(PIECES_MAX) {
                let bytes = match *piece {
                    Piece::Small { start, end } => &self.small[start..end],
                    Piece::Body { buffer, start, end } => &cx.bodies.bytes(buffer)[start..end],
                    Piece::Release(_) => continue,
                };
                slices[filled] = IoSlice::new(bytes);
                filled += 1;
                total += bytes.len();
            }
            let written = match filled {
                0 => 0,
                _ => match self.socket.write_vectored(&slices[..filled]) {
                    Ok(n) => n,
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(e) => return After::Close(e.to_string()),
                },
            };
            // A short write means that the socket is full.
            self.writable = written == total;
            self.advance(written, cx);
        }
        After::Wait
    }

    /// Takes written bytes off the pieces.
    fn advance(&mut self, mut written: usize, cx: &mut Context) {
        while let Some(piece) = self.pieces.front_mut() {
            match piece {
                Piece::Release(buffer) => cx.bodies.release(*buffer),
                Piece::Small { start, end } | Piece::Body { start, end, .. } => {
                    let n = written.min(*end - *start);
                    *start += n;
                    written -= n;
                    if start != end {
                        break;
                    }
                }
            }
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() {
            self.small.clear();
        }
    }

    fn put_small(&mut self, from: usize) {
        let to = self.small.len();
        if let Some(Piece::Small { end, .. }) = self.pieces.back_mut()
            && *end == from
        {
            *end = to;
        } else if from < to {
            self.pieces.push_back(Piece::Small { start: from, end: to });
        }
    }

    /// Makes the next frames: control first, then one of each call in turn.
    fn batch(&mut self, cx: &mut Context) {
        debug_assert!(self.pieces.is_empty());
        self.small.clear();
        self.small.append(&mut self.control);
        self.put_small(0);
        let mut bytes = 0;
        while self.pieces.len() + 4 <= PIECES_MAX && bytes < BATCH_BYTES {
            let Some(id) = self.sending.pop_front() else { break };
            let Some(at) = self.find(id) else { continue };
            if self.window <= 0 {
                self.sending.push_front(id);
                break;
            }
            bytes += self.send_frame(at, cx);
        }
    }

    /// One DATA frame of a call, before it the HEADERS if it is the first. Returns its length.
    fn send_frame(&mut self, at: usize, cx: &mut Context) -> usize {
        let from = self.small.len();
        let call = &mut self.calls[at];
        let buffer = *call.body.get_or_insert_with(|| {
            let block = self.table.len(&cx.headers);
            put_header(&mut self.small, block, frame::HEADERS, END_HEADERS, call.id);
            self.table.put(&mut self.small, &cx.headers);
            self.table = self.table.used();
            call.begun = true;
            cx.bodies.take(&call.request)
        });
        let len = cx.bodies.bytes(buffer).len();
        let room = self.window.min(call.window).max(0) as usize;
        let max = cx.frame_bytes_max.min(self.peer.frame_bytes_max);
        let n = (len - call.sent).min(room).min(max);
        if n == 0 {
            call.queued = false; // Until its window opens.
            self.put_small(from);
            return 0;
        }
        let last = call.sent + n == len;
        let flags = if last { END_STREAM } else { 0 };
        put_header(&mut self.small, n, frame::DATA, flags, call.id);
        let (start, end) = (call.sent, call.sent + n);
        call.sent = end;
        call.window -= n as i64;
        self.window -= n as i64;
        if last {
            call.body = None;
        }
        call.queued = !last && call.window > 0;
        if call.queued {
            self.sending.push_back(call.id);
        }
        self.put_small(from);
        self.pieces.push_back(Piece::Body { buffer, start, end });
        if last {
            self.pieces.push_back(Piece::Release(buffer));
        }
        n + HEADER_BYTES
    }
}
