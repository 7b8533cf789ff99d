//! The records of one connection. Ciphertext is read into a page-aligned buffer of the core and
//! opened there; what was gathered is sealed into another one, many records at a time, and leaves
//! in one system call. An idle connection holds no buffer.

use std::fmt;
use std::io;
use std::task::{Context, Poll, ready};

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};
use rustls::{CommonState, HandshakeKind};
use tokio::io::ReadBuf;

use super::Protocol;
use crate::net::buffer::{BUFFER_BYTES, Buffer};
use crate::net::socket::Socket;

/// Room before what is read, for the record that came in part before; whole pages, so that reads
/// stay aligned, and more than the longest record.
const HEADROOM: usize = 20 << 10;
/// Plaintext that is sealed at once: with its records' frames it fits a buffer.
const PIECE: usize = 15 * (16 << 10);

/// How those begin who speak HTTP/1 where TLS is spoken, and what they are told, as Go tells it.
const PLAIN_HTTP: [&[u8]; 5] = [b"GET /", b"HEAD ", b"POST ", b"PUT /", b"OPTIO"];
const NO_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// One side of a TLS connection.
pub(in crate::net) struct Session {
    side: Side,
    /// Ciphertext that was read and not looked at.
    input: Option<Input>,
    /// A record of which a part has come.
    rest: Vec<u8>,
    /// Opened, and not handed on yet.
    plain: Vec<u8>,
    plain_at: usize,
    sealed: Sealed,
    started: bool,
    open: bool,
    peer_closed: bool,
    said_goodbye: bool,
    failed: Option<rustls::Error>,
}

pub(super) enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

struct Input {
    buffer: Buffer,
    start: usize,
    end: usize,
}

/// What is wanted beside looking at the input.
#[derive(Clone, Copy)]
enum Outgoing<'a> {
    Nothing,
    Data(&'a [u8]),
    Goodbye,
}

/// How far one state of rustls led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// There may be more in the input.
    Again,
    /// The reader has enough.
    Enough,
    /// The peer says no more; what it said has been handed on.
    PeerClosed,
    /// Nothing more to do in the handshake without more input.
    Blocked,
    /// Nothing more to do without more input; the handshake is over.
    Open,
    /// Both sides are done.
    Closed,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            input: None,
            rest: Vec::new(),
            plain: Vec::new(),
            plain_at: 0,
            sealed: Sealed::default(),
            started: false,
            open: false,
            peer_closed: false,
            said_goodbye: false,
            failed: None,
        }
    }

    fn state(&self) -> &CommonState {
        match &self.side {
            Side::Client(client) => client,
            Side::Server(server) => server,
        }
    }

    /// What both sides agreed to speak.
    pub(in crate::net) fn protocol(&self) -> Option<Protocol> {
        let name = self.state().alpn_protocol()?;
        [Protocol::Http2, Protocol::Http1].into_iter().find(|p| p.name() == name)
    }

    /// Whether an earlier session was taken up, so that no certificate was shown.
    pub(in crate::net) fn is_resumed(&self) -> bool {
        self.state().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// Moves the handshake on; `may_work` is asked before each step that costs CPU.
    pub(in crate::net) fn shake(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        bytes: &mut (u64, u64),
        mut may_work: impl FnMut(&mut Context<'_>) -> bool,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.sealed.flush(socket, cx, &mut bytes.1))?;
            if self.open {
                return Poll::Ready(Ok(()));
            }
            if self.input.is_some() || !self.started {
                if !may_work(cx) {
                    return Poll::Pending;
                }
                self.started = true;
                if let Err(e) = self.run_ahead(Outgoing::Nothing) {
                    // The alert says why; whether it arrives is the network's business.
                    let _ = self.sealed.flush(socket, cx, &mut bytes.1);
                    return Poll::Ready(Err(e));
                }
            } else {
                let n = ready!(self.fill(socket, cx, &mut bytes.0))?;
                if n == 0 {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                if bytes.0 == n as u64 && self.hears_plain_http() {
                    return self.tell_plain_http(socket, cx, bytes);
                }
            }
        }
    }

    fn hears_plain_http(&self) -> bool {
        let Some(Input { buffer, start, end }) = &self.input else { return false };
        let first = &buffer.bytes()[*start..*end];
        matches!(self.side, Side::Server(_)) && PLAIN_HTTP.iter().any(|p| first.starts_with(p))
    }

    /// The one thing that is said in plaintext, to a client that would not understand an alert.
    fn tell_plain_http(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        bytes: &mut (u64, u64),
    ) -> Poll<io::Result<()>> {
        let told = self.sealed.append(|room| {
            room[..NO_TLS.len()].copy_from_slice(NO_TLS);
            Some(NO_TLS.len())
        });
        if told.is_ok() {
            let _ = self.sealed.flush(socket, cx, &mut bytes.1);
        }
        let what = "tls: the client speaks HTTP without TLS";
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)))
    }

    /// Opens records into `to` until it is full or nothing more has come.
    pub(in crate::net) fn read(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
        bytes_in: &mut u64,
    ) -> Poll<io::Result<()>> {
        let before = to.filled().len();
        loop {
            let n = to.remaining().min(self.plain.len() - self.plain_at);
            to.put_slice(&self.plain[self.plain_at..self.plain_at + n]);
            self.plain_at += n;
            if self.plain_at == self.plain.len() {
                (self.plain, self.plain_at) = (Vec::new(), 0);
            }
            if to.remaining() > 0 && self.input.is_some() {
                let mut over = Vec::new();
                self.run(Outgoing::Nothing, |chunk| {
                    let n = to.remaining().min(chunk.len());
                    to.put_slice(&chunk[..n]);
                    over.extend_from_slice(&chunk[n..]);
                    to.remaining() > 0
                })?;
                self.plain.append(&mut over);
            }
            if to.filled().len() > before || to.remaining() == 0 || self.peer_closed {
                return Poll::Ready(Ok(()));
            }
            if ready!(self.fill(socket, cx, bytes_in))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Seals `out` from `at` on and gives it to the kernel. Pending if that did not take all.
    pub(in crate::net) fn drain(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        out: &[u8],
        at: &mut usize,
        bytes_out: &mut u64,
    ) -> Poll<io::Result<()>> {
        loop {
            ready!(self.sealed.flush(socket, cx, bytes_out))?;
            if *at == out.len() {
                return Poll::Ready(Ok(()));
            }
            let end = out.len().min(*at + PIECE);
            self.seal(Outgoing::Data(&out[*at..end]))?;
            *at = end;
        }
    }

    /// Says that nothing more comes (close_notify); it leaves with the next drain.
    pub(in crate::net) fn say_goodbye(&mut self) {
        if self.open && self.failed.is_none() && !self.said_goodbye {
            self.said_goodbye = true;
            // A peer that is gone needs none.
            let _ = self.seal(Outgoing::Goodbye);
        }
    }

    fn seal(&mut self, outgoing: Outgoing<'_>) -> io::Result<()> {
        if !self.open {
            return Err(io::Error::new(
                io::ErrorKind::NotConnected,
                "the TLS handshake is not over",
            ));
        }
        match self.run_ahead(outgoing)? {
            Step::Open => Ok(()),
            _ => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Runs while nobody reads: what is opened on the way is kept for the next read.
    fn run_ahead(&mut self, outgoing: Outgoing<'_>) -> io::Result<Step> {
        let mut early = Vec::new();
        let step = self.run(outgoing, |chunk| {
            early.extend_from_slice(chunk);
            true
        });
        self.plain.append(&mut early);
        step
    }

    /// Looks at the input until `take` has enough or there is nothing more to do.
    fn run(
        &mut self,
        outgoing: Outgoing<'_>,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<Step> {
        if let Some(e) = &self.failed {
            return Err(refused(e));
        }
        loop {
            match self.step(outgoing, &mut take) {
                Ok(Step::Again) => {}
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(Step::Enough) => return Ok(Step::Enough),
                Ok(step) => {
                    self.open |= step == Step::Open;
                    self.put_aside();
                    return Ok(step);
                }
                Err(e) => {
                    // Lets rustls write the alert that tells the peer. It is asked once: it gives
                    // what it has to write before it looks at the input, and must not fail twice.
                    let _ = self.step(Outgoing::Nothing, &mut |_| false);
                    self.put_aside();
                    let told = refused(&e);
                    self.failed = Some(e);
                    return Err(told);
                }
            }
        }
    }

    /// Looks at the input once.
    fn step(
        &mut self,
        outgoing: Outgoing<'_>,
        take: &mut impl FnMut(&[u8]) -> bool,
    ) -> Result<Step, rustls::Error> {
        let input = match &mut self.input {
            Some(i) => &mut i.buffer.bytes_mut()[i.start..i.end],
            None => &mut self.rest[..],
        };
        let sealed = &mut self.sealed;
        let (used, step) = match &mut self.side {
            Side::Client(c) => step(c.process_tls_records(input), outgoing, sealed, take),
            Side::Server(s) => step(s.process_tls_records(input), outgoing, sealed, take),
        };
        match &mut self.input {
            Some(input) => input.start += used,
            None => drop(self.rest.drain(..used)),
        }
        step
    }

    /// Gives the buffer back; what is left in it is part of a record.
    fn put_aside(&mut self) {
        if let Some(Input { buffer, start, end }) = self.input.take() {
            self.rest = buffer.bytes()[start..end].to_vec();
            buffer.put();
        }
    }

    /// Reads behind what was put aside; 0 at the end.
    fn fill(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        bytes_in: &mut u64,
    ) -> Poll<io::Result<usize>> {
        let at = self.rest.len().max(HEADROOM);
        if at >= BUFFER_BYTES {
            let what = "a TLS message is longer than any that is needed";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, what)));
        }
        let mut buffer = Buffer::take();
        match socket.poll_read(cx, &mut buffer.bytes_mut()[at..]) {
            Poll::Ready(Ok(n)) if n > 0 => {
                let rest = std::mem::take(&mut self.rest);
                let start = at - rest.len();
                buffer.bytes_mut()[start..at].copy_from_slice(&rest);
                *bytes_in += n as u64;
                self.input = Some(Input { buffer, start, end: at + n });
                Poll::Ready(Ok(n))
            }
            other => {
                buffer.put();
                other
            }
        }
    }
}

/// Handles one state of rustls; also says how much of the input is used up.
fn step<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    outgoing: Outgoing<'_>,
    sealed: &mut Sealed,
    take: &mut impl FnMut(&[u8]) -> bool,
) -> (usize, Result<Step, rustls::Error>) {
    let discard = status.discard;
    let step = match status.state {
        Err(e) => Err(e),
        Ok(ConnectionState::ReadTraffic(mut traffic)) => {
            let mut step = Ok(Step::Again);
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) if take(record.payload) => {}
                    Ok(_) => step = Ok(Step::Enough),
                    Err(e) => return (discard, Err(e)),
                }
            }
            step
        }
        Ok(ConnectionState::EncodeTlsData(mut data)) => sealed
            .append(|room| match data.encode(room) {
                Ok(n) => Some(n),
                Err(EncodeError::AlreadyEncoded) => Some(0),
                Err(EncodeError::InsufficientSize(_)) => None,
            })
            .map(|()| Step::Again),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            // It is sealed in order, and leaves before anything that comes later.
            data.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::WriteTraffic(mut traffic)) => {
            let fit = Result::<usize, EncryptError>::ok;
            match outgoing {
                Outgoing::Nothing => Ok(()),
                Outgoing::Data(data) => sealed.append(|room| fit(traffic.encrypt(data, room))),
                Outgoing::Goodbye => sealed.append(|room| fit(traffic.queue_close_notify(room))),
            }
            .map(|()| Step::Open)
        }
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        Ok(ConnectionState::Closed) => Ok(Step::Closed),
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Blocked),
        Ok(_) => Err(rustls::Error::General("early data is not taken".into())),
    };
    (discard, step)
}

/// As log lines tell it.
fn refused(e: &rustls::Error) -> io::Error {
    use rustls::{CertificateError as Bad, Error as E};
    let what = match e {
        E::InvalidCertificate(Bad::UnknownIssuer) => {
            "the peer's certificate is signed by an unknown authority".into()
        }
        E::InvalidCertificate(Bad::Other(cause)) => format!("the peer's certificate: {cause}"),
        E::InvalidCertificate(cause) => format!("the peer's certificate: {cause}"),
        E::NoCertificatesPresented => "the peer showed no certificate".into(),
        E::AlertReceived(alert) => format!("the peer refuses: {alert:?}"),
        E::InvalidMessage(_) => "what the peer says is not TLS (is it plaintext?)".into(),
        e => e.to_string(),
    };
    io::Error::new(io::ErrorKind::InvalidData, format!("tls: {what}"))
}

/// Records that wait for the kernel.
#[derive(Default)]
struct Sealed {
    buffer: Option<Buffer>,
    start: usize,
    end: usize,
}

impl Sealed {
    /// Adds what `write` writes; it says `None` if the room is too small.
    fn append(
        &mut self,
        mut write: impl FnMut(&mut [u8]) -> Option<usize>,
    ) -> Result<(), rustls::Error> {
        let buffer = self.buffer.get_or_insert_with(Buffer::take);
        match write(&mut buffer.bytes_mut()[self.end..]) {
            Some(n) => {
                self.end += n;
                Ok(())
            }
            None => Err(rustls::Error::General("too much to write at once".into())),
        }
    }

    fn flush(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        bytes_out: &mut u64,
    ) -> Poll<io::Result<()>> {
        let Some(buffer) = &self.buffer else { return Poll::Ready(Ok(())) };
        while self.start < self.end {
            let n = ready!(socket.poll_write(cx, &buffer.bytes()[self.start..self.end]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.start += n;
            *bytes_out += n as u64;
        }
        (self.start, self.end) = (0, 0);
        if let Some(buffer) = self.buffer.take() {
            buffer.put();
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let buffers = [self.input.take().map(|i| i.buffer), self.sealed.buffer.take()];
        buffers.into_iter().flatten().for_each(Buffer::put);
    }
}
