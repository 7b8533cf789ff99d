//! One connection of a client: frames in, messages to the judge, answers out.

use std::io::{self, Write};

use mio::net::TcpStream;

use super::faults::{Answer, Faults, Replies};
use super::judge::Judge;
use crate::net::{Carry, Received};
use crate::wire::frame::{self, Frame, Violation, violation};
use crate::wire::gather::Gather;
use crate::wire::grpc;
use crate::wire::settings::{self, Announced, Peer};
use crate::wire::table::Table;

/// Streams of one connection that are open at a time; more are refused.
const STREAMS_MAX: usize = 10_000;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) announced: Announced,
    pub(super) judge: Judge,
    pub(super) faults: Faults,
    pub(super) replies: Replies,
    /// Buffers of messages that span frames, empty.
    pub(super) pool: Vec<Vec<u8>>,
    /// Answers of this connection's last input that are due later.
    pub(super) later: Vec<(u64, u32, Answer)>,
}

/// Buffers that are kept for reuse.
const POOL_MAX: usize = 256;

impl Context {
    fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && self.pool.len() < POOL_MAX {
            buffer.clear();
            self.pool.push(buffer);
        }
    }
}

#[derive(Debug)]
struct Stream {
    id: u32,
    body: Vec<u8>,
    /// Bytes received since the last window update of the stream.
    unacknowledged: u32,
    /// What the client lets us send on it.
    window: i64,
    /// The request is complete, the answer is not yet sent.
    complete: bool,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    pub(super) address: usize,
    carry: Carry,
    out: Vec<u8>,
    written: usize,
    preface: bool,
    peer: Peer,
    table: Table,
    gather: Gather,
    streams: Vec<Stream>,
    last_stream: u32,
    window: i64,
    unacknowledged: u32,
    /// Answers that wait for the client's windows.
    blocked: Vec<(u32, Answer)>,
    violated: bool,
}

/// What is left to do after input.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    /// There may be more to read.
    More,
    Wait,
    Close,
}

impl Connection {
    pub(super) fn new(socket: TcpStream, address: usize, announced: &Announced) -> Self {
        let mut out = Vec::with_capacity(4096);
        announced.put(&mut out);
        Self {
            socket,
            address,
            carry: Carry::default(),
            out,
            written: 0,
            preface: false,
            peer: Peer::default(),
            table: Table::Fresh,
            gather: Gather::default(),
            streams: Vec::new(),
            last_stream: 0,
            window: i64::from(settings::WINDOW_DEFAULT),
            unacknowledged: 0,
            blocked: Vec::new(),
            violated: false,
        }
    }

    /// One read, and everything that it brought.
    pub(super) fn read(&mut self, buffer: &mut [u8], cx: &mut Context, now: u64) -> After {
        let (filled, more) = match self.carry.read(&mut self.socket, buffer) {
            Ok(Received::Some { filled, more }) => (filled, more),
            Ok(Received::WouldBlock) => return After::Wait,
            Ok(Received::End) | Err(_) => return After::Close,
        };
        if self.violated {
            return if more { After::More } else { After::Wait };
        }
        if let Err(broken) = self.input(&buffer[..filled], cx, now) {
            frame::put_goaway(&mut self.out, self.last_stream, broken.code, broken.what);
            self.violated = true;
        }
        if more { After::More } else { After::Wait }
    }

    fn input(&mut self, mut bytes: &[u8], cx: &mut Context, now: u64) -> Result<(), Violation> {
        if !self.preface {
            let n = bytes.len().min(frame::PREFACE.len());
            if bytes[..n] != frame::PREFACE[..n] {
                return violation(frame::PROTOCOL_ERROR, "not HTTP/2 with prior knowledge");
            }
            if n < frame::PREFACE.len() {
                self.carry.keep(bytes);
                return Ok(());
            }
            bytes = &bytes[n..];
            self.preface = true;
        }
        while let Some(frame) = frame::next(&mut bytes, cx.announced.frame_bytes_max)? {
            self.frame(&frame, cx, now)?;
        }
        self.carry.keep(bytes);
        Ok(())
    }

    fn frame(&mut self, frame: &Frame<'_>, cx: &mut Context, now: u64) -> Result<(), Violation> {
        if self.gather.is_open() && frame.kind != frame::CONTINUATION {
            return violation(frame::PROTOCOL_ERROR, "a header block was interrupted");
        }
        match frame.kind {
            frame::DATA => self.data(frame, cx, now)?,
            frame::HEADERS | frame::CONTINUATION => {
                // The block itself does not matter: every path is answered alike.
                if let Some(whole) = self.gather.push(frame)? {
                    let (stream, end) = (whole.stream, whole.end_stream);
                    self.headers(stream, end, cx, now)?;
                }
            }
            frame::SETTINGS if !frame.has(frame::ACK) => {
                let before = i64::from(self.peer.stream_window);
                self.peer.apply(frame)?;
                let wider = i64::from(self.peer.stream_window) - before;
                self.streams.iter_mut().for_each(|s| s.window += wider);
                self.table = self.table.after(&self.peer);
                settings::put_ack(&mut self.out);
                self.unblock(cx);
            }
            frame::PING => frame::answer_ping(&mut self.out, frame)?,
            frame::WINDOW_UPDATE => {
                let credit = frame.word(0)?;
                if frame.stream == 0 {
                    self.window = frame::widen(self.window, credit)?;
                } else if let Some(at) = self.find(frame.stream) {
                    self.streams[at].window = frame::widen(self.streams[at].window, credit)?;
                }
                self.unblock(cx);
            }
            frame::RST_STREAM => {
                frame.word(0)?;
                if let Some(at) = self.find(frame.stream) {
                    let stream = self.streams.swap_remove(at);
                    cx.recycle(stream.body);
                }
            }
            frame::PUSH_PROMISE => {
                return violation(frame::PROTOCOL_ERROR, "a client may not push");
            }
            _ => {}
        }
        Ok(())
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.streams.iter().rposition(|s| s.id == id)
    }

    fn headers(&mut self, id: u32, end: bool, cx: &mut Context, now: u64) -> Result<(), Violation> {
        if let Some(at) = self.find(id) {
            if !end {
                return violation(frame::PROTOCOL_ERROR, "trailers without END_STREAM");
            }
            self.complete(at, &[], cx, now);
            return Ok(());
        }
        if id.is_multiple_of(2) || id <= self.last_stream {
            return violation(frame::PROTOCOL_ERROR, "stream id not new and odd");
        }
        self.last_stream = id;
        if self.streams.len() >= STREAMS_MAX {
            frame::put_reset(&mut self.out, id, frame::REFUSED_STREAM);
            return Ok(());
        }
        self.streams.push(Stream {
            id,
            body: Vec::new(),
            unacknowledged: 0,
            window: i64::from(self.peer.stream_window),
            complete: false,
        });
        if end {
            self.complete(self.streams.len() - 1, &[], cx, now);
        }
        Ok(())
    }

    fn data(&mut self, frame: &Frame<'_>, cx: &mut Context, now: u64) -> Result<(), Violation> {
        let payload = frame::content(frame)?;
        let flow = frame.payload.len() as u32;
        self.unacknowledged += flow;
        if self.unacknowledged > cx.announced.connection_window {
            return violation(frame::FLOW_CONTROL_ERROR, "connection window overrun");
        }
        if self.unacknowledged >= cx.announced.connection_window / 2 {
            frame::put_window_update(&mut self.out, 0, self.unacknowledged);
            self.unacknowledged = 0;
        }
        let Some(at) = self.find(frame.stream) else {
            if frame.stream == 0 || frame.stream > self.last_stream {
                return violation(frame::PROTOCOL_ERROR, "DATA on an idle stream");
            }
            return Ok(()); // Reset or refused meanwhile.
        };
        let end = frame.has(frame::END_STREAM);
        let stream = &mut self.streams[at];
        if end && stream.body.is_empty() {
            self.complete(at, payload, cx, now);
            return Ok(());
        }
        if stream.body.capacity() == 0 {
            stream.body = cx.pool.pop().unwrap_or_default();
        }
        stream.body.extend_from_slice(payload);
        if end {
            self.complete(at, &[], cx, now);
            return Ok(());
        }
        if stream.body.len() > grpc::MESSAGE_BYTES_MAX {
            frame::put_reset(&mut self.out, frame.stream, frame::ENHANCE_YOUR_CALM);
            self.streams.swap_remove(at);
            return Ok(());
        }
        stream.unacknowledged += flow;
        if stream.unacknowledged > cx.announced.stream_window {
            return violation(frame::FLOW_CONTROL_ERROR, "stream window overrun");
        }
        if stream.unacknowledged >= cx.announced.stream_window / 2 {
            frame::put_window_update(&mut self.out, frame.stream, stream.unacknowledged);
            stream.unacknowledged = 0;
        }
        Ok(())
    }

    /// The request at `at` is whole: its body is `whole`, or what was gathered.
    fn complete(&mut self, at: usize, whole: &[u8], cx: &mut Context, now: u64) {
        let stream = &mut self.streams[at];
        stream.complete = true;
        let id = stream.id;
        let gathered = std::mem::take(&mut stream.body);
        let body = if gathered.is_empty() { whole } else { &gathered };
        let valid = cx.judge.request(self.address, body, now);
        cx.recycle(gathered);
        let (answer, due) = match cx.faults.answer(self.address, now) {
            (Answer::Ok, due) if !valid => (Answer::Invalid, due),
            other => other,
        };
        cx.judge.tallies[self.address].faulted += u64::from(answer != Answer::Ok);
        if due > now {
            cx.later.push((due, id, answer));
        } else {
            self.answer(id, answer, cx);
        }
    }

    /// Answers a request now, or once the client's windows allow it.
    pub(super) fn answer(&mut self, id: u32, answer: Answer, cx: &Context) {
        let Some(at) = self.find(id).filter(|&at| self.streams[at].complete) else { return };
        let needed = match answer {
            Answer::Never => return,
            Answer::Ok => grpc::PREFIX_BYTES as i64,
            _ => 0,
        };
        if needed > self.window || needed > self.streams[at].window {
            self.blocked.push((id, answer));
            return;
        }
        self.window -= needed;
        cx.replies.put(&mut self.out, &mut self.table, id, answer);
        self.streams.swap_remove(at);
    }

    fn unblock(&mut self, cx: &Context) {
        if !self.blocked.is_empty() {
            for (id, answer) in std::mem::take(&mut self.blocked) {
                self.answer(id, answer, cx);
            }
        }
    }

    /// Writes what is to be written. False if the connection is over.
    pub(super) fn flush(&mut self) -> bool {
        while self.written < self.out.len() {
            match self.socket.write(&self.out[self.written..]) {
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return true,
                Err(_) => return false,
            }
        }
        self.out.clear();
        self.written = 0;
        !self.violated
    }
}
