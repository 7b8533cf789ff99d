//! A TCP stream as h2 and hyper want it, with the two properties that they lack (feasibility B, F):
//!
//! - **Reads** go to a page-aligned buffer of the core, 256 KiB at a time, and are handed on from
//!   there: one system call for many frames.
//! - **Writes** gather. A flush of the layer above does nothing; the owner calls [`Stream::drain`]
//!   once per wake-up, and everything leaves in one system call.
//!
//! A clone is the same stream: the layer above owns one, the connection's loop another.

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream as StdStream};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use glommio::net::TcpStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::buffer::Buffer;

/// Bytes gathered before the layer above is held back.
const GATHER_BYTES_MAX: usize = 1 << 20;
/// A drained gather buffer larger than this is freed, so that idle connections stay small.
const GATHER_BYTES_KEPT: usize = 4 << 10;

/// One TCP connection of this core.
#[derive(Clone, Debug)]
pub struct Stream(Rc<RefCell<Inner>>);

#[derive(Debug)]
struct Inner {
    tcp: TcpStream,
    unread: Option<Unread>,
    out: Vec<u8>,
    /// How much of `out` the kernel has.
    sent: usize,
    bytes_in: u64,
    bytes_out: u64,
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
    #[expect(unsafe_code, reason = "glommio adopts foreign sockets only by descriptor")]
    pub fn adopt(socket: StdStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        // SAFETY: `into_raw_fd` gives up ownership, so the descriptor is open and has no other
        // owner; it is a TCP socket.
        let tcp = unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) };
        Ok(Self::new(tcp))
    }

    /// Connects.
    ///
    /// # Errors
    /// As the OS says; `TimedOut` after `timeout`.
    pub async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let tcp = TcpStream::connect_timeout(address, timeout).await.map_err(io::Error::from)?;
        tcp.set_nodelay(true).map_err(io::Error::from)?;
        Ok(Self::new(tcp))
    }

    fn new(tcp: TcpStream) -> Self {
        let inner =
            Inner { tcp, unread: None, out: Vec::new(), sent: 0, bytes_in: 0, bytes_out: 0 };
        Self(Rc::new(RefCell::new(inner)))
    }

    /// Gives the kernel what was gathered. Pending means that it did not take all; the task is
    /// woken when there is room again.
    ///
    /// # Errors
    /// As the OS says; the connection is then lost.
    pub fn drain(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().drain(cx)
    }

    /// Bytes received and sent so far.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        let inner = self.0.borrow();
        (inner.bytes_in, inner.bytes_out)
    }
}

impl Inner {
    fn drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            match Pin::new(&mut self.tcp).poll_write(cx, &self.out[self.sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    self.sent += n;
                    self.bytes_out += n as u64;
                }
                Poll::Ready(Err(e)) => return Poll::Ready(Err(e)),
                Poll::Pending => return Poll::Pending,
            }
        }
        self.out.clear();
        self.sent = 0;
        if self.out.capacity() > GATHER_BYTES_KEPT {
            self.out = Vec::new();
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
        for slice in bytes {
            self.out.extend_from_slice(slice);
        }
        Poll::Ready(Ok(bytes.iter().map(|b| b.len()).sum()))
    }

    fn read(&mut self, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_none() {
            let mut buffer = Buffer::take();
            match Pin::new(&mut self.tcp).poll_read(cx, buffer.bytes_mut()) {
                Poll::Ready(Ok(end)) if end > 0 => {
                    self.bytes_in += end as u64;
                    self.unread = Some(Unread { buffer, start: 0, end });
                }
                other => {
                    buffer.put();
                    return other.map_ok(|_| ());
                }
            }
        }
        if let Some(mut unread) = self.unread.take() {
            let n = to.remaining().min(unread.end - unread.start);
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
        match inner.drain(cx) {
            Poll::Ready(Ok(())) => {
                // The peer may have gone first; there is nothing left to do about it.
                let _ = inner.tcp.poll_shutdown(cx, Shutdown::Write);
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}
