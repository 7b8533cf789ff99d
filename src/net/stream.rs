//! A stream as h2 and hyper want it, with the two properties that they lack (feasibility B, F):
//!
//! - **Reads** go to a page-aligned buffer of the core, 256 KiB at a time, and are handed on from
//!   there: one system call for many frames.
//! - **Writes** gather. A flush of the layer above does nothing; the owner calls [`Stream::drain`]
//!   once per wake-up, and everything leaves in one system call.
//! - **Turns** end. From a peer that always has more to say nothing is read once the turn of its
//!   task is over (`runtime::turn`).
//!
//! Under it is TCP or a unix socket. With TLS ([`super::tls`]) reads are opened in that buffer, and
//! what was gathered is sealed when it is drained; the layer above sees no difference.
//!
//! A clone is the same stream: the layer above owns one, the connection's loop another.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::{BUFFER_BYTES, Buffer};
use super::socket::{Accepted, Socket};
use super::tls::Protocol;
use super::tls::session::Session;
use crate::runtime::turn;

/// Bytes gathered before the layer above is held back.
const GATHER_BYTES_MAX: usize = 1 << 20;
/// A drained gather buffer larger than this goes back to the core, so that idle connections stay
/// small, and the next one to write finds it grown and in the cache.
const GATHER_BYTES_KEPT: usize = 4 << 10;
/// Gather buffers that a core keeps for later.
const GATHER_SPARE_MAX: usize = 4;
/// Bytes handed on between two looks at the turn: they may be two thousand frames.
const PIECE_BYTES_MAX: usize = 16 << 10;
/// How often a peer is read from that nobody listens to any more.
const HANG_UP_READS_MAX: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// One connection of this core.
#[derive(Clone, Debug)]
pub struct Stream(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    socket: Socket,
    tls: Option<Box<Session>>,
    unread: Option<Unread>,
    /// What was shown and is of use only with more behind it, while nothing more is there.
    stub: Vec<u8>,
    out: Vec<u8>,
    /// How much of `out` the kernel has.
    sent: usize,
    /// Read and written so far.
    bytes: (u64, u64),
}

#[derive(Debug)]
struct Unread {
    buffer: Buffer,
    start: usize,
    end: usize,
}

impl Stream {
    /// Adopts a connected socket that another thread accepted.
    ///
    /// # Errors
    /// If the socket refuses an option.
    pub fn adopt(socket: impl Into<Accepted>) -> io::Result<Self> {
        Ok(Self::new(Socket::adopt(socket.into())?))
    }

    /// Connects.
    ///
    /// # Errors
    /// As the OS says; `TimedOut` after `timeout`.
    pub async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        Ok(Self::new(Socket::connect(address, timeout).await?))
    }

    /// Connects to a unix socket.
    ///
    /// # Errors
    /// As the OS says.
    pub async fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self::new(Socket::connect_unix(path).await?))
    }

    fn new(socket: Socket) -> Self {
        let (unread, stub, out, tls) = (None, Vec::new(), Vec::new(), None);
        let inner = Inner { socket, tls, unread, stub, out, sent: 0, bytes: (0, 0) };
        Self(Rc::new(RefCell::new(inner)))
    }

    /// From now on nothing is read or written but in this session.
    pub(super) fn seal_with(&self, session: Session) {
        self.0.borrow_mut().tls = Some(Box::new(session));
    }

    /// Moves the handshake on.
    pub(super) fn shake(
        &self,
        cx: &mut Context<'_>,
        may_work: impl FnMut(&mut Context<'_>) -> bool,
    ) -> Poll<io::Result<()>> {
        let Inner { socket, tls, bytes, .. } = &mut *self.0.borrow_mut();
        let tls = tls.as_mut().expect("a handshake has its session");
        tls.shake(socket, cx, bytes, may_work)
    }

    /// What both sides of a TLS connection agreed to speak (ALPN); `None` without TLS, or if the
    /// peer named nothing.
    #[must_use]
    pub fn protocol(&self) -> Option<Protocol> {
        self.0.borrow().tls.as_ref()?.protocol()
    }

    /// Whether this is TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.0.borrow().tls.is_some()
    }

    /// Whether this is TLS, and took up an earlier session.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.0.borrow().tls.as_ref().is_some_and(|tls| tls.is_resumed())
    }

    /// Gives the kernel what was gathered. Pending means that it did not take all; the task is
    /// woken when there is room again.
    ///
    /// # Errors
    /// As the OS says; the connection is then lost.
    pub fn drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().drain(cx)
    }

    /// Reads what the peer has sent and shows it to `take`, which says how much of it is done with,
    /// and whether the rest, which is shown again, is of use only with more behind it. False when
    /// the peer has ended.
    ///
    /// # Errors
    /// As the OS says; the connection is then lost.
    pub fn feed(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> (usize, bool),
    ) -> Poll<io::Result<bool>> {
        if turn::poll_over(cx) {
            return Poll::Pending;
        }
        self.0.borrow_mut().feed(cx, take)
    }

    /// Writes as much of `bytes` as is taken at once, and keeps the rest for [`Self::drain`].
    pub fn gather(&self, bytes: &[u8]) {
        self.0.borrow_mut().gather(&[bytes]);
    }

    /// Lets `put` append to what is gathered, about as much as it is told that there is room for.
    /// Nothing happens if there is none.
    pub fn gather_with<T>(&self, put: impl FnOnce(&mut Vec<u8>, usize) -> T) -> Option<T> {
        let mut inner = self.0.borrow_mut();
        let room = GATHER_BYTES_MAX.checked_sub(inner.out.len() - inner.sent).filter(|n| *n > 0)?;
        inner.make_room();
        Some(put(&mut inner.out, room))
    }

    /// Bytes that were gathered and that the kernel has not taken.
    #[must_use]
    pub fn gathered(&self) -> usize {
        let inner = self.0.borrow();
        inner.out.len() - inner.sent
    }

    /// Puts bytes back that the layer above has read and that are for another: they are read again.
    ///
    /// # Errors
    /// If there are so many that a part of them was not even read.
    pub fn put_back(&self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.0.borrow_mut();
        if inner.unread.is_some() || bytes.len() > BUFFER_BYTES {
            let what = "the peer says more than it was asked";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        if !bytes.is_empty() {
            let mut buffer = Buffer::take();
            buffer.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
            inner.unread = Some(Unread { buffer, start: 0, end: bytes.len() });
        }
        Ok(())
    }

    /// Ends a connection: nothing more is written, and what still comes is thrown away until the
    /// peer closes its end too. So no reset overtakes what was written last.
    pub(super) async fn hang_up(&self) {
        let closed = poll_fn(|cx| self.0.borrow_mut().socket.poll_shutdown(cx)).await;
        if closed.is_err() {
            return;
        }
        for _ in 0..HANG_UP_READS_MAX {
            let read = poll_fn(|cx| {
                let mut buffer = Buffer::take();
                let read = self.0.borrow_mut().socket.poll_read(cx, buffer.bytes_mut());
                buffer.put();
                read
            });
            if !matches!(read.await, Ok(1..)) {
                return;
            }
        }
    }

    /// Bytes received and sent so far, as they are on the wire.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        self.0.borrow().bytes
    }
}

impl Inner {
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            let Self { socket, out, sent, bytes, .. } = self;
            ready!(tls.drain(socket, cx, out, sent, &mut bytes.1))?;
        }
        while self.sent < self.out.len() {
            match self.socket.poll_write(cx, &self.out[self.sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    self.sent += n;
                    self.bytes.1 += n as u64;
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.out.clear();
        self.sent = 0;
        if self.out.capacity() > GATHER_BYTES_KEPT {
            let out = std::mem::take(&mut self.out);
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < GATHER_SPARE_MAX {
                    spare.push(out);
                }
            });
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<io::Result<usize>> {
        if self.out.len() - self.sent >= GATHER_BYTES_MAX {
            match self.drain(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(self.gather(bytes)))
    }

    /// Forgets what the kernel has, once that is the larger half, so that a peer that is always
    /// behind costs no more memory than one that is not; and takes a grown buffer of the core.
    fn make_room(&mut self) {
        if self.sent > self.out.len() / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        if self.out.capacity() <= GATHER_BYTES_KEPT
            && let Some(mut grown) = SPARE.with_borrow_mut(Vec::pop)
        {
            grown.extend_from_slice(&self.out);
            self.out = grown;
        }
    }

    fn gather(&mut self, bytes: &[&[u8]]) -> usize {
        let n: usize = bytes.iter().map(|b| b.len()).sum();
        if self.out.len() + n > GATHER_BYTES_KEPT {
            self.make_room();
        }
        for slice in bytes {
            self.out.extend_from_slice(slice);
        }
        n
    }

    fn feed(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&[u8]) -> (usize, bool),
    ) -> Poll<io::Result<bool>> {
        if self.unread.is_none() && !ready!(self.fill(cx))? {
            return Poll::Ready(Ok(false));
        }
        let Some(mut unread) = self.unread.take() else { return Poll::Ready(Ok(true)) };
        let (n, hungry) = take(&unread.buffer.bytes()[unread.start..unread.end]);
        unread.start += n;
        if hungry {
            self.stub.extend_from_slice(&unread.buffer.bytes()[unread.start..unread.end]);
            unread.buffer.put();
        } else {
            self.unread = Some(unread);
        }
        Poll::Ready(Ok(true))
    }

    /// Reads into a buffer, behind the stub of what was read before. False at the end.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut buffer = Buffer::take();
        let start = self.stub.len();
        let room = &mut buffer.bytes_mut()[start..];
        let read = match &mut self.tls {
            None => self.socket.poll_read(cx, room).map_ok(|n| {
                self.bytes.0 += n as u64;
                n
            }),
            Some(tls) => {
                let mut room = ReadBuf::new(room);
                let read = tls.read(&mut self.socket, cx, &mut room, &mut self.bytes.0);
                read.map_ok(|()| room.filled().len())
            }
        };
        if let Poll::Ready(Ok(n @ 1..)) = read {
            buffer.bytes_mut()[..start].copy_from_slice(&self.stub);
            self.stub = Vec::new();
            self.unread = Some(Unread { buffer, start: 0, end: start + n });
            return Poll::Ready(Ok(true));
        }
        buffer.put();
        read.map_ok(|_| false)
    }

    fn read(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            return tls.read(&mut self.socket, cx, to, &mut self.bytes.0);
        }
        if self.unread.is_none() {
            let mut buffer = Buffer::take();
            match self.socket.poll_read(cx, buffer.bytes_mut()) {
                Poll::Ready(Ok(end)) if end > 0 => {
                    self.bytes.0 += end as u64;
                    self.unread = Some(Unread { buffer, start: 0, end });
                }
                other => {
                    buffer.put();
                    return other.map_ok(|_| ());
                }
            }
        }
        if let Some(mut unread) = self.unread.take() {
            let n = to.remaining().min(unread.end - unread.start).min(PIECE_BYTES_MAX);
            to.put_slice(&unread.buffer.bytes()[unread.start..unread.start + n]);
            unread.start += n;
            if unread.start < unread.end {
                self.unread = Some(unread);
            } else {
                unread.buffer.put();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if turn::poll_over(cx) {
            return Poll::Pending;
        }
        self.0.borrow_mut().read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().write(cx, &[buf])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut slices: [&[u8]; 16] = [&[]; 16];
        let count = bufs.len().min(slices.len());
        for (slice, buf) in slices.iter_mut().zip(bufs) {
            *slice = buf;
        }
        self.0.borrow_mut().write(cx, &slices[..count])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: the owner of the connection drains once per wake-up.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.drain(cx))?;
        // The peer may have gone first; there is nothing left to do about it.
        if let Some(tls) = &mut inner.tls {
            tls.say_goodbye();
        }
        let _ = inner.drain(cx);
        let _ = inner.socket.poll_shutdown(cx);
        Poll::Ready(Ok(()))
    }
}
