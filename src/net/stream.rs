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
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::{BUFFER_BYTES, Buffer};
use super::outbox::Outbox;
use super::socket::{Accepted, Socket};
use super::tls::Protocol;
use super::tls::session::Session;
use crate::runtime::executor::{self, Later};
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
    unread: Bytes,
    /// What was shown and is of use only with more behind it, while nothing more is there.
    stub: Vec<u8>,
    out: Outbox,
    /// Read and written so far.
    bytes: (u64, u64),
    /// Whose task is woken if it cannot be drained at the end of the round.
    later: Option<Waker>,
}

impl Later for RefCell<Inner> {
    fn run(&self) {
        let mut inner = self.borrow_mut();
        let Some(waker) = inner.later.take() else { return };
        if let Poll::Ready(Err(_)) = inner.drain(&mut Context::from_waker(&waker)) {
            waker.wake();
        }
    }
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
        let (unread, stub, out, tls) = (Bytes::new(), Vec::new(), Outbox::default(), None);
        let inner = Inner { socket, tls, unread, stub, out, bytes: (0, 0), later: None };
        Self(Rc::new(RefCell::new(inner)))
    }

    /// From now on nothing is read or written but in this session.
    pub(super) fn seal_with(&self, session: Session) {
        let mut inner = self.0.borrow_mut();
        inner.out.be_whole();
        inner.tls = Some(Box::new(session));
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

    /// [`Self::drain`] when all that is ready on this core has run. A write wakes a peer that
    /// sleeps, which took 5 % of a busy sampler's time; of several writes in a row to one process
    /// only the first has to. `waker` is of the task that is woken when the kernel does not take
    /// all, or the connection is lost.
    pub fn drain_later(&self, waker: &Waker) {
        let before = self.0.borrow_mut().later.replace(waker.clone());
        if before.is_none() {
            executor::later(Rc::<RefCell<Inner>>::clone(&self.0));
        }
    }

    /// Reads what the peer has sent and shows it to `take`, which says how much of it is done with,
    /// and whether the rest, which is shown again, is of use only with more behind it. Pieces of it
    /// may be kept if [`Buffer::may_be_kept`]. False when the peer has ended.
    ///
    /// # Errors
    /// As the OS says; the connection is then lost.
    pub fn feed(
        &self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&Bytes) -> (usize, bool),
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
    pub fn gather_with<T>(&self, put: impl FnOnce(&mut Outbox, usize) -> T) -> Option<T> {
        let mut inner = self.0.borrow_mut();
        let room = GATHER_BYTES_MAX.checked_sub(inner.out.len()).filter(|n| *n > 0)?;
        inner.make_room();
        Some(put(&mut inner.out, room))
    }

    /// Bytes that were gathered and that the kernel has not taken.
    #[must_use]
    pub fn gathered(&self) -> usize {
        self.0.borrow().out.len()
    }

    /// Puts bytes back that the layer above has read and that are for another: they are read again.
    ///
    /// # Errors
    /// If there are so many that a part of them was not even read.
    pub fn put_back(&self, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.0.borrow_mut();
        if !inner.unread.is_empty() || bytes.len() > BUFFER_BYTES {
            let what = "the peer says more than it was asked";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        inner.unread = Bytes::copy_from_slice(bytes);
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

    /// Whether the peer has said that nothing more comes, or is gone: known before it is read.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.borrow().socket.has_ended()
    }
}

impl Inner {
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { socket, tls, out, bytes, .. } = self;
        if !out.is_empty() {
            // It may say that something was done which the core has put off until now.
            executor::run_first();
        }
        if let Some(tls) = tls {
            let (all, sent) = out.as_whole();
            ready!(tls.drain(socket, cx, all, sent, &mut bytes.1))?;
        }
        while !out.is_empty() {
            match ready!(out.write(|pieces| socket.poll_write_vectored(cx, pieces)))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => bytes.1 += n as u64,
            }
        }
        out.clear();
        if out.own().capacity() > GATHER_BYTES_KEPT {
            let grown = std::mem::take(out.own());
            SPARE.with_borrow_mut(|spare| {
                if spare.len() < GATHER_SPARE_MAX {
                    spare.push(grown);
                }
            });
        }
        Poll::Ready(Ok(()))
    }

    fn write(&mut self, cx: &mut Context<'_>, bytes: &[&[u8]]) -> Poll<io::Result<usize>> {
        if self.out.len() >= GATHER_BYTES_MAX {
            match self.drain(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(self.gather(bytes)))
    }

    /// Forgets what the kernel has, and takes a grown buffer of the core.
    fn make_room(&mut self) {
        self.out.forget();
        let own = self.out.own();
        if own.capacity() <= GATHER_BYTES_KEPT
            && let Some(mut grown) = SPARE.with_borrow_mut(Vec::pop)
        {
            grown.extend_from_slice(own);
            *own = grown;
        }
    }

    fn gather(&mut self, bytes: &[&[u8]]) -> usize {
        let n: usize = bytes.iter().map(|b| b.len()).sum();
        if self.out.own().len() + n > GATHER_BYTES_KEPT {
            self.make_room();
        }
        for slice in bytes {
            self.out.own().extend_from_slice(slice);
        }
        n
    }

    fn feed(
        &mut self,
        cx: &mut Context<'_>,
        take: impl FnOnce(&Bytes) -> (usize, bool),
    ) -> Poll<io::Result<bool>> {
        if self.unread.is_empty() && !ready!(self.fill(cx))? {
            return Poll::Ready(Ok(false));
        }
        let (n, hungry) = take(&self.unread);
        self.unread.advance(n);
        if hungry {
            self.stub.extend_from_slice(&self.unread);
            self.unread.clear();
        }
        self.let_go();
        Poll::Ready(Ok(true))
    }

    /// An idle connection holds no buffer.
    fn let_go(&mut self) {
        if self.unread.is_empty() {
            self.unread = Bytes::new();
        }
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
            self.unread = buffer.freeze(start + n);
            return Poll::Ready(Ok(true));
        }
        buffer.put();
        read.map_ok(|_| false)
    }

    fn read(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(tls) = &mut self.tls {
            return tls.read(&mut self.socket, cx, to, &mut self.bytes.0);
        }
        if self.unread.is_empty() {
            let mut buffer = Buffer::take();
            match self.socket.poll_read(cx, buffer.bytes_mut()) {
                Poll::Ready(Ok(end)) if end > 0 => {
                    self.bytes.0 += end as u64;
                    self.unread = buffer.freeze(end);
                }
                other => {
                    buffer.put();
                    return other.map_ok(|_| ());
                }
            }
        }
        let n = to.remaining().min(self.unread.len()).min(PIECE_BYTES_MAX);
        to.put_slice(&self.unread[..n]);
        self.unread.advance(n);
        self.let_go();
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

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::testing::cores::on_a_core;

    /// Sees what the peer has got when it is its turn.
    struct Witness(RefCell<UnixStream>, Rc<RefCell<Vec<Vec<u8>>>>);

    impl Later for Witness {
        fn run(&self) {
            let mut got = Vec::new();
            let _ = self.0.borrow_mut().read_to_end(&mut got);
            self.1.borrow_mut().push(got);
        }
    }

    #[test]
    fn what_is_to_be_first_is_done_before_anything_is_written() {
        on_a_core(Duration::ZERO, || async {
            let (ours, theirs) = UnixStream::pair().expect("two sockets");
            theirs.set_nonblocking(true).expect("an option");
            let (stream, seen) = (Stream::adopt(ours).expect("a ring"), Rc::default());
            let witness = Rc::new(Witness(RefCell::new(theirs), Rc::clone(&seen)));
            stream.gather(b"done");
            executor::first(Rc::clone(&witness) as Rc<dyn Later>);
            poll_fn(|cx| stream.drain(cx)).await.expect("it is open");
            witness.run();
            assert_eq!(*seen.borrow(), [&b""[..], b"done"]);
        });
    }
}
