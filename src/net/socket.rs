//! A connected socket of this core: TCP or unix.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream as StdTcp};
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _};
use std::os::unix::net::UnixStream as StdUnix;
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use glommio::net::TcpStream;

use super::ring::{Side, Watch};
use crate::runtime::executor;

/// A socket that another thread accepted.
#[derive(Debug)]
pub enum Accepted {
    /// Over the network.
    Tcp(StdTcp),
    /// On this machine.
    Unix(StdUnix),
}

impl From<StdTcp> for Accepted {
    fn from(socket: StdTcp) -> Self {
        Self::Tcp(socket)
    }
}

impl From<StdUnix> for Accepted {
    fn from(socket: StdUnix) -> Self {
        Self::Unix(socket)
    }
}

#[derive(Debug)]
pub(super) struct Socket {
    // Before the socket: it is watched no longer than it is open.
    watch: Watch,
    socket: Accepted,
}

impl Socket {
    pub(super) fn adopt(socket: Accepted) -> io::Result<Self> {
        let fd = match &socket {
            Accepted::Tcp(tcp) => {
                tcp.set_nodelay(true)?;
                tcp.set_nonblocking(true)?;
                tcp.as_raw_fd()
            }
            Accepted::Unix(unix) => {
                unix.set_nonblocking(true)?;
                unix.as_raw_fd()
            }
        };
        Ok(Self { watch: Watch::new(fd)?, socket })
    }

    /// Whether the peer has said that nothing more comes, or is gone.
    pub(super) fn has_ended(&self) -> bool {
        self.watch.has_ended()
    }

    #[expect(unsafe_code, reason = "glommio gives its sockets away only by descriptor")]
    pub(super) async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let tcp = TcpStream::connect_timeout(address, timeout).await.map_err(io::Error::from)?;
        // SAFETY: the descriptor was given up by its owner, and it is a TCP socket.
        let tcp = unsafe { StdTcp::from_raw_fd(tcp.into_raw_fd()) };
        Self::adopt(tcp.into())
    }

    pub(super) async fn connect_unix(path: &Path) -> io::Result<Self> {
        // It waits when the other side does not accept.
        let path = path.to_owned();
        Self::adopt(executor::aside(move || StdUnix::connect(path)).await?.into())
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let (socket, len) = (&self.socket, to.len());
        attempt(&self.watch, Side::Read, len, cx, || match socket {
            Accepted::Tcp(tcp) => (&*tcp).read(to),
            Accepted::Unix(unix) => (&*unix).read(to),
        })
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let socket = &self.socket;
        attempt(&self.watch, Side::Write, from.len(), cx, || match socket {
            Accepted::Tcp(tcp) => (&*tcp).write(from),
            Accepted::Unix(unix) => (&*unix).write(from),
        })
    }

    /// Writes several pieces as if they were one.
    pub(super) fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let (socket, len) = (&self.socket, from.iter().map(|piece| piece.len()).sum());
        attempt(&self.watch, Side::Write, len, cx, || match socket {
            Accepted::Tcp(tcp) => (&*tcp).write_vectored(from),
            Accepted::Unix(unix) => (&*unix).write_vectored(from),
        })
    }

    pub(super) fn poll_shutdown(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match &self.socket {
            Accepted::Tcp(tcp) => tcp.shutdown(Shutdown::Write),
            Accepted::Unix(unix) => unix.shutdown(Shutdown::Write),
        })
    }
}

/// Tries while it is worth it. What moves fewer bytes than asked for has emptied or filled the
/// socket, and need not be tried again to find out.
fn attempt(
    watch: &Watch,
    side: Side,
    bytes: usize,
    cx: &mut Context<'_>,
    mut io: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    while watch.poll(side, cx) {
        match io() {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => watch.clear(side),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Ok(n @ 1..) if n < bytes => {
                watch.emptied(side);
                return Poll::Ready(Ok(n));
            }
            done => return Poll::Ready(done),
        }
    }
    Poll::Pending
}
