//! One connection of a server: bytes in, calls out; answers in, bytes out.
//!
//! [`Server::feed`] reads frames and tells [`Calls`] what they say; [`Server::respond`] writes an
//! answer. What is to be sent gathers in [`Server::out`]. A frame of DATA is handed on as its bytes
//! come, any other when it is whole.
//!
//! A fault of the connection is a [`Violation`], after which [`Server::refuse`] says why and
//! nothing more is read; a fault of a stream is a reset. Limits: streams, sizes of headers and
//! frames, windows, streams that are reset as soon as they were opened, faults of streams.

mod answer;
mod streams;

use super::Fed;
use super::flow::Window;
use super::frame::{self, ACK, CONTINUATION, DATA, END_STREAM, GOAWAY, HEADERS, PADDED, PING};
use super::frame::{ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, HEADER_BYTES};
use super::frame::{Frame, NO_ERROR, PREFACE, PRIORITY, PRIORITY_FRAME, PROTOCOL_ERROR};
use super::frame::{PUSH_PROMISE, REFUSED_STREAM, RST_STREAM, SETTINGS, STREAM_CLOSED};
use super::frame::{Violation, WINDOW_UPDATE, violation};
use super::gather::Gather;
use super::head::Head;
use super::settings::{self, Announced, Peer, WINDOW_DEFAULT};
use super::unpack::Decoder;
pub(crate) use answer::Answer;
use streams::{End, Stream, Streams};

/// Frames read between two looks at the time. The smallest take some ten nanoseconds.
const FRAMES_MAX: usize = 64;
/// What a peer may send of a request that is answered already, before it is told to stop.
const UNWANTED_BYTES_MAX: u64 = 64 << 10;
/// A header list of more than what was announced is refused, of so many times that it is not read.
const LISTS: usize = 4;
/// Bytes of frames without DATA that are read between two looks at the time: header blocks, mostly.
const CONTROL_BYTES_MAX: usize = 8 << 10;
/// Our header table; that of the specification.
const TABLE_BYTES: usize = 4096;

/// What can be set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Receive window of the connection and of each stream.
    pub(crate) window: u32,
    /// Streams that are open at a time; more are refused.
    pub(crate) streams_max: u32,
    /// Payload of a frame.
    pub(crate) frame_bytes_max: usize,
    /// Header list of a request.
    pub(crate) header_list_bytes_max: u32,
    /// Streams of one turn that the peer may reset in it (rapid reset).
    pub(crate) resets_young_max: u32,
    /// Faults of streams.
    pub(crate) faults_max: u32,
}

/// Who hears of calls. An `Err` is the header block of an answer without body, given at once.
pub(crate) trait Calls {
    /// What is kept of a call until it is answered.
    type Call;

    /// A request's head has come.
    fn open(&mut self, head: &Head) -> Result<Self::Call, Vec<u8>>;

    /// A piece of its body has come.
    fn data(&mut self, call: &mut Self::Call, bytes: &[u8]) -> Result<(), Vec<u8>>;

    /// The request is whole. Its answer is for [`Server::respond`].
    fn end(&mut self, stream: u32, call: &mut Self::Call) -> Result<(), Vec<u8>>;
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Server<C> {
    options: Options,
    /// How much of the preface has come.
    greeted: usize,
    /// The peer's first SETTINGS have come.
    settled: bool,
    peer: Peer,
    decoder: Decoder,
    gather: Gather,
    head: Head,
    streams: Streams<C>,
    /// The DATA frame that is being read.
    data: Option<Payload>,
    receive: Window,
    /// What the peer lets us send on all streams together.
    send: i64,
    leaving: Leaving,
    peer_leaves: bool,
    /// Streams opened before the turn, and resets in it.
    turn_first: u32,
    resets_young: u32,
    /// Calls that run were given up.
    lost: bool,
    faults: u32,
    /// What is to be sent.
    pub(crate) out: Vec<u8>,
}

/// What is left of a DATA frame.
#[derive(Debug, Clone, Copy)]
struct Payload {
    stream: u32,
    content: usize,
    padding: usize,
    /// Ends its stream.
    end: bool,
}

/// How far we are in leaving (RFC 9113 §6.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaving {
    No,
    /// The peer was asked to open no more; what it had sent before it heard that is served.
    Asked,
    /// It has heard, and opens no more.
    Heard,
}

/// Our PINGs: that of [`Server::leave`], and others.
const PING_LEAVE: [u8; 8] = *b"leaving.";
const PING_ALIVE: [u8; 8] = *b"alive?..";

impl<C> Server<C> {
    /// One whose greeting is to be sent.
    pub(crate) fn new(options: Options) -> Self {
        let mut out = Vec::new();
        let announced = Announced {
            header_table_bytes: None,
            streams_max: Some(options.streams_max),
            stream_window: options.window,
            connection_window: options.window,
            frame_bytes_max: options.frame_bytes_max,
            header_list_bytes_max: Some(options.header_list_bytes_max),
            client: false,
        };
        announced.put(&mut out);
        Self {
            options,
            greeted: 0,
            settled: false,
            peer: Peer::default(),
            decoder: Decoder::new(TABLE_BYTES, LISTS * options.header_list_bytes_max as usize),
            gather: Gather::default(),
            head: Head::default(),
            streams: Streams::default(),
            data: None,
            receive: Window::new(options.window.max(WINDOW_DEFAULT)),
            send: i64::from(WINDOW_DEFAULT),
            leaving: Leaving::No,
            peer_leaves: false,
            turn_first: 0,
            resets_young: 0,
            lost: false,
            faults: 0,
            out,
        }
    }

    /// Whether the peer has greeted.
    pub(crate) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Streams whose answer is still to come, or to be sent, or whose call still runs.
    pub(crate) fn open(&self) -> usize {
        self.streams.len()
    }

    /// Whether one of us leaves and no stream is left.
    pub(crate) fn is_over(&self) -> bool {
        let leaves = self.peer_leaves || self.leaving == Leaving::Heard;
        leaves && self.streams.len() == 0
    }

    /// Whether the peer has given up calls that run since this was last asked.
    pub(crate) fn take_lost(&mut self) -> bool {
        std::mem::take(&mut self.lost)
    }

    /// Whether the call of this stream runs and was given up.
    pub(crate) fn is_lost(&mut self, stream: u32) -> bool {
        self.streams.get(stream).is_some_and(|s| s.gone)
    }

    /// Begins a turn, for the count of rapid resets.
    pub(crate) fn begin_turn(&mut self) {
        self.turn_first = self.streams.last();
        self.resets_young = 0;
    }

    /// From now on the connection's window is to be of this size.
    pub(crate) fn resize(&mut self, window: u32) {
        self.receive.resize(window);
        self.credit_connection(Window::credit);
    }

    /// From now on the peer is to have at most so many streams, not more than the options say. It
    /// is not held to it: what it opened before it heard of it is served.
    pub(crate) fn invite(&mut self, streams: u32) {
        settings::put_streams_max(&mut self.out, streams);
    }

    /// Asks the peer for a sign of life; any byte of its is one.
    pub(crate) fn ping(&mut self) {
        frame::put_header(&mut self.out, 8, PING, 0, 0);
        self.out.extend_from_slice(&PING_ALIVE);
    }

    /// Asks the peer to open no more streams.
    pub(crate) fn leave(&mut self) {
        if self.leaving == Leaving::No {
            self.leaving = Leaving::Asked;
            frame::put_goaway(&mut self.out, 0x7fff_ffff, NO_ERROR, "");
            frame::put_header(&mut self.out, 8, PING, 0, 0);
            self.out.extend_from_slice(&PING_LEAVE);
        }
    }

    /// Tells the peer why the connection ends.
    pub(crate) fn refuse(&mut self, broken: Violation) {
        frame::put_goaway(&mut self.out, self.streams.last(), broken.code, broken.what);
    }

    /// Reads what has come. What is left over must be given again, with more behind it if it was
    /// `hungry`.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        calls: &mut impl Calls<Call = C>,
    ) -> Result<Fed, Violation> {
        let mut rest = bytes;
        let fed = |rest: &[u8], hungry| Ok(Fed { bytes: bytes.len() - rest.len(), hungry });
        if self.greeted < PREFACE.len() {
            let n = rest.len().min(PREFACE.len() - self.greeted);
            if rest[..n] != PREFACE[self.greeted..self.greeted + n] {
                return violation(PROTOCOL_ERROR, "the peer does not speak HTTP/2");
            }
            self.greeted += n;
            rest = &rest[n..];
        }
        let mut control = 0;
        for _ in 0..FRAMES_MAX {
            if let Some(data) = self.data {
                if rest.is_empty() && data.content + data.padding > 0 {
                    return fed(rest, true);
                }
                rest = self.payload(data, rest, calls)?;
                continue;
            }
            let Some(header) = frame::header(rest, self.options.frame_bytes_max)? else {
                return fed(rest, true);
            };
            if !self.settled && (header.kind, header.stream) != (SETTINGS, 0) {
                return violation(PROTOCOL_ERROR, "the first frame is not SETTINGS");
            }
            if header.kind == DATA && !self.gather.is_open() {
                let Some(after) = self.begin_data(header, &rest[HEADER_BYTES..])? else {
                    return fed(rest, true);
                };
                rest = after;
            } else {
                let Some(frame) = frame::next(&mut rest, self.options.frame_bytes_max)? else {
                    return fed(rest, true);
                };
                self.frame(&frame, calls)?;
                control += frame.payload.len();
                if control > CONTROL_BYTES_MAX {
                    break;
                }
            }
        }
        fed(rest, rest.is_empty())
    }

    /// Begins to read a DATA frame; `None` if its pad length is still to come.
    fn begin_data<'a>(
        &mut self,
        header: frame::Header,
        mut rest: &'a [u8],
    ) -> Result<Option<&'a [u8]>, Violation> {
        let frame::Header { len, flags, stream, .. } = header;
        let (mut content, mut padding) = (len, 0);
        if flags & PADDED != 0 {
            let Some(below) = len.checked_sub(1) else {
                return violation(FRAME_SIZE_ERROR, "padded frame without pad length");
            };
            let Some((&pad, after)) = rest.split_first() else { return Ok(None) };
            padding = usize::from(pad);
            let Some(left) = below.checked_sub(padding) else {
                return violation(PROTOCOL_ERROR, "padding longer than the frame");
            };
            (content, rest) = (left, after);
        }
        if stream == 0 || stream > self.streams.last() {
            return violation(PROTOCOL_ERROR, "DATA on a stream that was not opened");
        }
        if !self.receive.take(len) {
            return violation(FLOW_CONTROL_ERROR, "more than the connection's window");
        }
        self.count_data(stream, len, content)?;
        self.data = Some(Payload { stream, content, padding, end: flags & END_STREAM != 0 });
        Ok(Some(rest))
    }

    /// Whether a stream may get a DATA frame of this length and content.
    fn count_data(&mut self, id: u32, len: usize, content: usize) -> Result<(), Violation> {
        let fault = match self.streams.get(id) {
            Some(stream) if stream.ended => Some(STREAM_CLOSED),
            Some(stream) => {
                stream.received += content as u64;
                let beyond = stream.expected.is_some_and(|expected| stream.received > expected);
                match stream.receive.take(len) {
                    false => Some(FLOW_CONTROL_ERROR),
                    true if beyond => Some(PROTOCOL_ERROR),
                    true if stream.call.is_none() && stream.received > UNWANTED_BYTES_MAX => {
                        self.give_up(id);
                        None
                    }
                    true => None,
                }
            }
            // What was under way when we reset it is nobody's fault.
            None => (self.streams.end_of(id) == Some(End::Answered)).then_some(STREAM_CLOSED),
        };
        fault.map_or(Ok(()), |code| self.fault(id, code))
    }

    /// Reads on in a DATA frame.
    fn payload<'a>(
        &mut self,
        data: Payload,
        rest: &'a [u8],
        calls: &mut impl Calls<Call = C>,
    ) -> Result<&'a [u8], Violation> {
        let (content, rest) = rest.split_at(data.content.min(rest.len()));
        let (padding, rest) = rest.split_at(data.padding.min(rest.len()));
        let left = Payload {
            content: data.content - content.len(),
            padding: data.padding - padding.len(),
            ..data
        };
        let mut refusal = None;
        if let Some(stream) = self.streams.get(data.stream).filter(|s| !s.ended)
            && let Some(call) = &mut stream.call
            && !content.is_empty()
        {
            refusal = calls.data(call, content).err();
        }
        if let Some(block) = refusal {
            self.respond(data.stream, Answer::refusal(&block));
        }
        if left.content + left.padding > 0 {
            self.data = Some(left);
            return Ok(rest);
        }
        self.data = None;
        if data.end {
            self.end(data.stream, calls)?;
        }
        self.give_credit(data.stream);
        Ok(rest)
    }

    /// What came was read: tells the peer that it may send more.
    fn give_credit(&mut self, id: u32) {
        self.credit_connection(Window::credit_alone);
        if let Some(stream) = self.streams.get(id)
            && !stream.ended
            && stream.call.is_some()
            && let Some(credit) = stream.receive.credit()
        {
            frame::put_window_update(&mut self.out, id, credit);
        }
    }

    fn credit_connection(&mut self, credit: impl FnOnce(&mut Window) -> Option<u32>) {
        if let Some(credit) = credit(&mut self.receive) {
            frame::put_window_update(&mut self.out, 0, credit);
        }
    }

    /// The request of a stream is whole.
    fn end(&mut self, id: u32, calls: &mut impl Calls<Call = C>) -> Result<(), Violation> {
        let Some(stream) = self.streams.get(id).filter(|s| !s.ended) else { return Ok(()) };
        if stream.expected.is_some_and(|expected| expected != stream.received) {
            return self.fault(id, PROTOCOL_ERROR);
        }
        stream.ended = true;
        let Some(call) = &mut stream.call else {
            self.streams.remove(id, End::Answered);
            return Ok(());
        };
        if let Err(block) = calls.end(id, call) {
            self.respond(id, Answer::refusal(&block));
        }
        Ok(())
    }

    /// Reads a frame that is not DATA.
    fn frame(
        &mut self,
        frame: &Frame<'_>,
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Violation> {
        if self.gather.is_open() && frame.kind != CONTINUATION {
            return violation(PROTOCOL_ERROR, "a header block is not complete");
        }
        match frame.kind {
            HEADERS | CONTINUATION => self.headers(frame, calls),
            RST_STREAM => self.reset(frame),
            SETTINGS => self.settings(frame),
            PING => self.pong(frame),
            WINDOW_UPDATE => self.window(frame),
            PRIORITY_FRAME => self.priority(frame),
            GOAWAY if frame.stream != 0 => violation(PROTOCOL_ERROR, "GOAWAY on a stream"),
            GOAWAY => {
                self.peer_leaves = true;
                frame.word(4).map(drop)
            }
            PUSH_PROMISE => violation(PROTOCOL_ERROR, "PUSH_PROMISE from a client"),
            // RFC 9113 §5.5: unknown ones are ignored.
            _ => Ok(()),
        }
    }

    /// Takes a header block: of a request, or of its trailers.
    fn headers(
        &mut self,
        frame: &Frame<'_>,
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Violation> {
        let own = frame.kind == HEADERS && frame.has(PRIORITY) && depends_on_itself(frame);
        let Some(whole) = self.gather.push(frame)? else { return Ok(()) };
        let (id, ends) = (whole.stream, whole.end_stream);
        let head = &mut self.head;
        head.clear(self.options.header_list_bytes_max as usize);
        self.decoder.decode(whole.block, |name, value| head.add(name, value))?;
        if id % 2 == 0 {
            return violation(PROTOCOL_ERROR, "a client's streams are odd");
        }
        if id <= self.streams.last() {
            return self.trailers(id, ends, calls);
        }
        if self.leaving == Leaving::Heard {
            return Ok(());
        }
        self.streams.advance(id);
        if self.streams.len() >= self.options.streams_max as usize {
            frame::put_reset(&mut self.out, id, REFUSED_STREAM);
            self.streams.note(id, End::Reset);
            return Ok(());
        }
        if own || (self.head.fault().is_some() && !self.head.is_too_large()) {
            return self.fault(id, PROTOCOL_ERROR);
        }
        let window = self.options.window.max(WINDOW_DEFAULT);
        let (call, refusal) = match calls.open(&self.head) {
            Ok(call) => (Some(call), None),
            Err(block) => (None, Some(block)),
        };
        let mut stream = Stream::new(id, call, window, self.peer.stream_window);
        stream.expected = self.head.content_length();
        self.streams.push(stream);
        if let Some(block) = refusal {
            self.put_refusal(id, &block);
        }
        if ends { self.end(id, calls) } else { Ok(()) }
    }

    /// A header block on a stream that was opened before.
    fn trailers(
        &mut self,
        id: u32,
        ends: bool,
        calls: &mut impl Calls<Call = C>,
    ) -> Result<(), Violation> {
        match self.streams.get(id) {
            Some(stream) if stream.ended => self.fault(id, STREAM_CLOSED),
            Some(_) if !ends || self.head.fault_in_trailers().is_some() => {
                self.fault(id, PROTOCOL_ERROR)
            }
            Some(_) => self.end(id, calls),
            None => match self.streams.end_of(id) {
                Some(End::Reset) => Ok(()),
                Some(End::Answered) => violation(STREAM_CLOSED, "HEADERS on a closed stream"),
                None => violation(PROTOCOL_ERROR, "a stream's number is not above the last"),
            },
        }
    }

    /// The peer gives a stream up.
    fn reset(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        let id = frame.stream;
        if frame.payload.len() != 4 {
            return violation(FRAME_SIZE_ERROR, "RST_STREAM is not 4 bytes");
        }
        if id == 0 || id > self.streams.last() {
            return violation(PROTOCOL_ERROR, "RST_STREAM on a stream that was not opened");
        }
        if self.streams.get(id).is_some_and(|s| !s.gone) && id > self.turn_first {
            self.resets_young += 1;
            if self.resets_young > self.options.resets_young_max {
                return violation(ENHANCE_YOUR_CALM, "too_many_resets");
            }
        }
        self.streams.lose(id, End::Answered);
        self.lost |= self.is_lost(id);
        Ok(())
    }

    fn settings(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        if frame.stream != 0 {
            return violation(PROTOCOL_ERROR, "SETTINGS on a stream");
        }
        self.settled = true;
        if frame.has(ACK) {
            return match frame.payload {
                [] => Ok(()),
                _ => violation(FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS with payload"),
            };
        }
        let before = self.peer.stream_window;
        self.peer.apply(frame)?;
        settings::put_ack(&mut self.out);
        let more = i64::from(self.peer.stream_window) - i64::from(before);
        if more != 0 {
            for stream in self.streams.iter_mut() {
                stream.send += more;
                if stream.send > 0x7fff_ffff {
                    return violation(FLOW_CONTROL_ERROR, "window above 2^31-1");
                }
            }
            self.send_on();
        }
        Ok(())
    }

    fn pong(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        if frame.stream != 0 {
            return violation(PROTOCOL_ERROR, "PING on a stream");
        }
        frame::answer_ping(&mut self.out, frame)?;
        if frame.has(ACK) && frame.payload == PING_LEAVE && self.leaving == Leaving::Asked {
            self.leaving = Leaving::Heard;
            frame::put_goaway(&mut self.out, self.streams.last(), NO_ERROR, "");
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
            self.send_on();
            return Ok(());
        }
        if frame.stream > self.streams.last() {
            return violation(PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that was not opened");
        }
        let Some(stream) = self.streams.get(frame.stream) else { return Ok(()) };
        match frame::widen(stream.send, credit) {
            Ok(window) => {
                stream.send = window;
                self.send_on_stream(frame.stream);
                Ok(())
            }
            Err(broken) => self.fault(frame.stream, broken.code),
        }
    }

    fn priority(&mut self, frame: &Frame<'_>) -> Result<(), Violation> {
        let code = match frame.payload.len() {
            _ if frame.stream == 0 => return violation(PROTOCOL_ERROR, "PRIORITY on stream 0"),
            5 if depends_on_itself(frame) => PROTOCOL_ERROR,
            5 => return Ok(()),
            _ => FRAME_SIZE_ERROR,
        };
        if frame.stream > self.streams.last() {
            return violation(code, "PRIORITY of a stream that was not opened");
        }
        self.fault(frame.stream, code)
    }

    /// A stream broke a rule: it is reset. Too many of them, and the connection ends.
    fn fault(&mut self, id: u32, code: u32) -> Result<(), Violation> {
        self.faults += 1;
        if self.faults > self.options.faults_max {
            return violation(ENHANCE_YOUR_CALM, "too_many_internal_resets");
        }
        frame::put_reset(&mut self.out, id, code);
        match self.streams.get(id) {
            Some(_) => self.streams.lose(id, End::Reset),
            None => self.streams.note(id, End::Reset),
        }
        Ok(())
    }
}

/// RFC 7540 §5.3.1, which clients of that time are held to.
fn depends_on_itself(frame: &Frame<'_>) -> bool {
    let at = usize::from(frame.kind == HEADERS && frame.has(PADDED));
    frame.word(at).is_ok_and(|on| on & 0x7fff_ffff == frame.stream)
}

#[cfg(test)]
mod tests;
