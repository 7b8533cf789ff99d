//! One connection of a client: calls in, bytes out; bytes in, replies out.
//!
//! [`Client::start`] begins a call and [`Client::write`] writes what the peer's windows allow;
//! [`Client::feed`] reads frames and tells each [`Call`] what its reply says. Calls that are over
//! come out of [`Client::next_over`], each once. Frames are read when they are whole; those of a
//! stream that has ended are read and forgotten.
//!
//! A fault of the connection is a [`Violation`], after which [`Client::refuse`] says why and
//! nothing more is read; a fault of a stream is a reset. Limits: sizes of headers and frames,
//! windows, and what waits to be written ([`Client::is_clogged`]).

mod send;
mod streams;

use std::collections::VecDeque;

use bytes::Bytes;

use super::Fed;
use super::flow::Window;
use super::frame::{self, ACK, CANCEL, CONTINUATION, DATA, END_STREAM, ENHANCE_YOUR_CALM};
use super::frame::{FLOW_CONTROL_ERROR, FRAME_BYTES_DEFAULT, FRAME_SIZE_ERROR, Frame, GOAWAY};
use super::frame::{HEADERS, NO_ERROR, PING, PREFACE, PRIORITY_FRAME, PROTOCOL_ERROR};
use super::frame::{PUSH_PROMISE, REFUSED_STREAM, RST_STREAM, SETTINGS, Violation};
use super::frame::{WINDOW_UPDATE, violation};
use super::gather::Gather;
use super::head::Head;
use super::settings::{self, Announced, Peer, WINDOW_DEFAULT};
use super::table::Table;
use super::unpack::Decoder;
pub(crate) use send::Room;
use streams::Streams;

/// Frames read between two looks at the time.
const FRAMES_MAX: usize = 64;
/// Our header table; that of the specification.
const TABLE_BYTES: usize = 4096;
/// What is kept of the peer's words when it leaves.
const FAREWELL_BYTES_MAX: usize = 256;
/// Our PINGs.
const PING_ALIVE: [u8; 8] = *b"alive?..";

/// What can be set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Receive window of the connection and of each stream; at least 65535.
    pub(crate) window: u32,
    /// Header list of a reply.
    pub(crate) header_list_bytes_max: u32,
}

/// A call, as its owner keeps it while it is under way.
pub(crate) trait Call {
    /// The body of the request. It stays the same.
    fn body(&self) -> &Bytes;

    /// The head of the reply has come; `ended` if it is all. Interim replies are not told.
    fn head(&mut self, head: &Head, ended: bool) -> Want;

    /// A piece of the reply's body has come.
    fn data(&mut self, bytes: &[u8]) -> Want;

    /// The reply is whole.
    fn end(&mut self, trailers: Option<&Head>);
}

/// Whether a call waits for the rest of its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    More,
    Nothing,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// The reply is whole, or the call wanted no more of it.
    Heard,
    /// The peer left and says that it has not processed the call, so that sending it again on
    /// another connection makes no duplicate.
    LeftBehind,
    /// The peer reset it and says the same (`REFUSED_STREAM`).
    Refused,
    /// The peer reset it.
    Reset(u32),
    /// The reply broke a rule, so we reset it.
    Broken(u32),
}

/// What the peer said when it asked for no more calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Farewell {
    pub(crate) code: u32,
    pub(crate) words: String,
}

impl Farewell {
    /// Whether our PINGs came too often. Servers of gRPC say it in these words (gRFC A8).
    pub(crate) fn is_of_too_many_pings(&self) -> bool {
        self.code == ENHANCE_YOUR_CALM && self.words == "too_many_pings"
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client<C> {
    options: Options,
    /// The peer's first SETTINGS have come.
    settled: bool,
    peer: Peer,
    /// What the peer's decoder knows of our headers.
    table: Table,
    decoder: Decoder,
    gather: Gather,
    head: Head,
    streams: Streams<C>,
    /// Streams whose body is not sent, in their order.
    sending: Vec<u32>,
    over: VecDeque<(C, Over)>,
    receive: Window,
    /// What the peer lets us send on all streams together.
    send: i64,
    left: Option<Farewell>,
    /// The answer of our last PING is still to come.
    pinged: bool,
    /// Frames without DATA, to be written before any other.
    out: Vec<u8>,
}

impl<C: Call> Client<C> {
    /// One whose greeting is to be written.
    pub(crate) fn new(options: Options) -> Self {
        let window = options.window.max(WINDOW_DEFAULT);
        let mut out = PREFACE.to_vec();
        let announced = Announced {
            header_table_bytes: None,
            streams_max: None,
            stream_window: window,
            connection_window: window,
            frame_bytes_max: FRAME_BYTES_DEFAULT,
            header_list_bytes_max: Some(options.header_list_bytes_max),
            client: true,
        };
        announced.put(&mut out);
        Self {
            options: Options { window, ..options },
            settled: false,
            peer: Peer::default(),
            table: Table::Fresh,
            decoder: Decoder::new(TABLE_BYTES, 4 * options.header_list_bytes_max as usize),
            gather: Gather::default(),
            head: Head::default(),
            streams: Streams::from(1),
            sending: Vec::new(),
            over: VecDeque::new(),
            receive: Window::new(window),
            send: i64::from(WINDOW_DEFAULT),
            left: None,
            pinged: false,
            out,
        }
    }

    /// Calls that are not over.
    pub(crate) fn open(&self) -> usize {
        self.streams.len()
    }

    /// Whether no more calls may be started here, ever: the peer has asked for none, or there are
    /// no numbers left. Those under way go on.
    pub(crate) fn is_leaving(&self) -> bool {
        self.left.is_some() || !self.streams.has_next()
    }

    /// What the peer said, if it has asked for no more calls.
    pub(crate) fn farewell(&self) -> Option<&Farewell> {
        self.left.as_ref()
    }

    /// Whether the answer of a PING is still to come.
    pub(crate) fn is_pinged(&self) -> bool {
        self.pinged
    }

    /// Asks the peer for a sign of life.
    pub(crate) fn ping(&mut self) {
        self.pinged = true;
        frame::put_header(&mut self.out, 8, PING, 0, 0);
        self.out.extend_from_slice(&PING_ALIVE);
    }

    /// Tells the peer why the connection ends.
    pub(crate) fn refuse(&mut self, broken: Violation) {
        frame::put_goaway(&mut self.out, 0, broken.code, broken.what);
    }

    /// Tells the peer that nothing more comes.
    pub(crate) fn leave(&mut self) {
        frame::put_goaway(&mut self.out, 0, NO_ERROR, "");
    }

    /// The next call that is over.
    pub(crate) fn next_over(&mut self) -> Option<(C, Over)> {
        self.over.pop_front()
    }

    /// The connection is lost: takes the calls that are under way.
    pub(crate) fn take_calls(&mut self) -> impl Iterator<Item = C> {
        self.sending.clear();
        self.streams.drain().map(|s| s.call)
    }

    /// Reads what has come. What is left over must be given again, with more behind it if it was
    /// `hungry`.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<Fed, Violation> {
        let mut rest = bytes;
        let fed = |rest: &[u8], hungry| Ok(Fed { bytes: bytes.len() - rest.len(), hungry });
        for _ in 0..FRAMES_MAX {
            let Some(frame) = frame::next(&mut rest, FRAME_BYTES_DEFAULT)? else {
                return fed(rest, true);
            };
            self.frame(&frame)?;
        }
        fed(rest, rest.is_empty())
    }

    fn frame(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        if self.gather.is_open() && frame.kind != CONTINUATION {
            return violation(PROTOCOL_ERROR, "a header block is not complete");
        }
        if !self.settled && (frame.kind, frame.stream) != (SETTINGS, 0) {
            return violation(PROTOCOL_ERROR, "the first frame is not SETTINGS");
        }
        match frame.kind {
            DATA => self.data(frame),
            HEADERS | CONTINUATION => self.headers(frame),
            RST_STREAM => self.reset(frame),
            SETTINGS => self.settings(frame),
            PING => self.pong(frame),
            WINDOW_UPDATE => self.window(frame),
            GOAWAY => self.goaway(frame),
            PUSH_PROMISE => violation(PROTOCOL_ERROR, "PUSH_PROMISE although we want none"),
            PRIORITY_FRAME => self.priority(frame),
            // RFC 9113 §5.5: unknown ones are ignored.
            _ => Ok(()),
        }
    }

    /// Takes a piece of a reply's body.
    fn data(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        let (id, len, ends) = (frame.stream, frame.payload.len(), frame.has(END_STREAM));
        let content = frame::content(frame)?;
        if !self.streams.was_opened(id) {
            return violation(PROTOCOL_ERROR, "DATA on a stream that was not opened");
        }
        if !self.receive.take(len) {
            return violation(FLOW_CONTROL_ERROR, "more than the connection's window");
        }
        if let Some(credit) = self.receive.credit() {
            frame::put_window_update(&mut self.out, 0, credit);
        }
        let Some(stream) = self.streams.get(id) else { return Ok(()) };
        if !stream.headed {
            return self.fault(id, PROTOCOL_ERROR);
        }
        if !stream.receive.take(len) {
            return self.fault(id, FLOW_CONTROL_ERROR);
        }
        stream.received += content.len() as u64;
        if stream.expected.is_some_and(|expected| stream.received > expected) {
            return self.fault(id, PROTOCOL_ERROR);
        }
        if !content.is_empty() && stream.call.data(content) == Want::Nothing {
            return self.finish(id, ends);
        }
        if ends {
            return self.end(id, false);
        }
        if let Some(credit) = stream.receive.credit() {
            frame::put_window_update(&mut self.out, id, credit);
        }
        Ok(())
    }

    /// Takes a header block: the head of a reply, of an interim one, or trailers.
    fn headers(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        let Some(whole) = self.gather.push(frame)? else { return Ok(()) };
        let (id, ends) = (whole.stream, whole.end_stream);
        let head = &mut self.head;
        head.clear(self.options.header_list_bytes_max as usize);
        self.decoder.decode(whole.block, |name, value| head.add(name, value))?;
        if !self.streams.was_opened(id) {
            return violation(PROTOCOL_ERROR, "HEADERS on a stream that was not opened");
        }
        let Some(stream) = self.streams.get(id) else { return Ok(()) };
        if head.is_too_large() {
            return self.fault(id, FRAME_SIZE_ERROR);
        }
        if stream.headed {
            return match ends && head.fault_in_trailers().is_none() {
                true => self.end(id, true),
                false => self.fault(id, PROTOCOL_ERROR),
            };
        }
        let status = head.status().filter(|_| head.fault_in_reply().is_none());
        match status {
            None => return self.fault(id, PROTOCOL_ERROR),
            Some(100..200) if ends => return self.fault(id, PROTOCOL_ERROR),
            Some(100..200) => return Ok(()),
            // RFC 9110 §8.6: of these it says nothing about the body.
            Some(204 | 304) => {}
            Some(_) => stream.expected = head.content_length(),
        }
        stream.headed = true;
        match stream.call.head(head, ends) {
            Want::Nothing => self.finish(id, ends),
            Want::More if ends => self.end(id, false),
            Want::More => Ok(()),
        }
    }

    /// The reply of a stream is whole.
    fn end(&mut self, id: u32, has_trailers: bool) -> Result<(), Violation> {
        let Some(stream) = self.streams.get(id) else { return Ok(()) };
        if stream.expected.is_some_and(|expected| expected != stream.received) {
            return self.fault(id, PROTOCOL_ERROR);
        }
        stream.call.end(has_trailers.then_some(&self.head));
        self.finish(id, true)
    }

    /// A call wants no more. The peer is told, unless both have said all.
    fn finish(&mut self, id: u32, ended: bool) -> Result<(), Violation> {
        if let Some(stream) = self.streams.remove(id) {
            if !ended || stream.sent < stream.call.body().len() {
                frame::put_reset(&mut self.out, id, CANCEL);
            }
            self.over.push_back((stream.call, Over::Heard));
        }
        Ok(())
    }

    /// A reply broke a rule.
    fn fault(&mut self, id: u32, code: u32) -> Result<(), Violation> {
        frame::put_reset(&mut self.out, id, code);
        if let Some(stream) = self.streams.remove(id) {
            self.over.push_back((stream.call, Over::Broken(code)));
        }
        Ok(())
    }

    /// The peer gives a stream up.
    fn reset(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        if frame.payload.len() != 4 {
            return violation(FRAME_SIZE_ERROR, "RST_STREAM is not 4 bytes");
        }
        if !self.streams.was_opened(frame.stream) {
            return violation(PROTOCOL_ERROR, "RST_STREAM on a stream that was not opened");
        }
        let code = frame.word(0)?;
        if let Some(stream) = self.streams.remove(frame.stream) {
            // Who has begun to answer has processed the call, whatever it says.
            let refused = code == REFUSED_STREAM && !stream.headed;
            let how = if refused { Over::Refused } else { Over::Reset(code) };
            self.over.push_back((stream.call, how));
        }
        Ok(())
    }

    fn settings(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        if frame.stream != 0 {
            return violation(PROTOCOL_ERROR, "SETTINGS on a stream");
        }
        if frame.has(ACK) {
            return match frame.payload {
                _ if !self.settled => violation(PROTOCOL_ERROR, "the first SETTINGS are an answer"),
                [] => Ok(()),
                _ => violation(FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with payload"),
            };
        }
        self.settled = true;
        let before = self.peer.stream_window;
        self.peer.apply(frame)?;
        self.table = self.table.after(&self.peer);
        settings::put_ack(&mut self.out);
        let more = i64::from(self.peer.stream_window) - i64::from(before);
        for stream in self.streams.iter_mut().filter(|_| more != 0) {
            stream.send += more;
            if stream.send > 0x7fff_ffff {
                return violation(FLOW_CONTROL_ERROR, "window above 2^31-1");
            }
        }
        Ok(())
    }

    fn pong(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        if frame.stream != 0 {
            return violation(PROTOCOL_ERROR, "PING on a stream");
        }
        frame::answer_ping(&mut self.out, frame)?;
        if frame.has(ACK) && frame.payload == PING_ALIVE {
            self.pinged = false;
        }
        Ok(())
    }

    fn window(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        if frame.payload.len() != 4 {
            return violation(FRAME_SIZE_ERROR, "WINDOW_UPDATE is not 4 bytes");
        }
        let credit = frame.word(0)?;
        if frame.stream == 0 {
            self.send = frame::widen(self.send, credit)?;
            return Ok(());
        }
        if !self.streams.was_opened(frame.stream) {
            return violation(PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that was not opened");
        }
        let Some(stream) = self.streams.get(frame.stream) else { return Ok(()) };
        match frame::widen(stream.send, credit) {
            Ok(window) => stream.send = window,
            Err(broken) => return self.fault(frame.stream, broken.code),
        }
        Ok(())
    }

    /// The peer asks for no more calls; it has not processed those above the number that it names.
    /// A peer that leaves with grace names the highest number there is, and the real one later.
    fn goaway(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        if frame.stream != 0 {
            return violation(PROTOCOL_ERROR, "GOAWAY on a stream");
        }
        let (last, code) = (frame.word(0)? & 0x7fff_ffff, frame.word(4)?);
        let words = &frame.payload[8..];
        let words = &words[..words.len().min(FAREWELL_BYTES_MAX)];
        self.left = Some(Farewell { code, words: String::from_utf8_lossy(words).into_owned() });
        while let Some(stream) = self.streams.pop_above(last) {
            let how = if stream.headed { Over::Reset(REFUSED_STREAM) } else { Over::LeftBehind };
            self.over.push_back((stream.call, how));
        }
        Ok(())
    }

    fn priority(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        match frame.payload.len() {
            _ if frame.stream == 0 => violation(PROTOCOL_ERROR, "PRIORITY on stream 0"),
            5 => Ok(()),
            _ if self.streams.get(frame.stream).is_some() => {
                self.fault(frame.stream, FRAME_SIZE_ERROR)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
