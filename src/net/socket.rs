//! A connected socket of this core: TCP or unix.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream as StdTcp};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::net::UnixStream as StdUnix;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::io::{AsyncRead as _, AsyncWrite as _};
use glommio::net::{TcpStream, UnixStream};

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
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    #[expect(unsafe_code, reason = "glommio adopts foreign sockets only by descriptor")]
    pub(super) fn adopt(socket: Accepted) -> io::Result<Self> {
        match socket {
            Accepted::Tcp(socket) => {
                socket.set_nodelay(true)?;
                // SAFETY: `into_raw_fd` gives up ownership, so the descriptor is open and has no
                // other owner; it is a TCP socket.
                Ok(Self::Tcp(unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) }))
            }
            Accepted::Unix(socket) => {
                // SAFETY: as above; it is a unix stream socket.
                Ok(Self::Unix(unsafe { UnixStream::from_raw_fd(socket.into_raw_fd()) }))
            }
        }
    }

    pub(super) async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let tcp = TcpStream::connect_timeout(address, timeout).await.map_err(io::Error::from)?;
        tcp.set_nodelay(true).map_err(io::Error::from)?;
        Ok(Self::Tcp(tcp))
    }

    pub(super) async fn connect_unix(path: &Path) -> io::Result<Self> {
        Ok(Self::Unix(UnixStream::connect(path).await.map_err(io::Error::from)?))
    }

    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, to),
            Self::Unix(unix) => Pin::new(unix).poll_read(cx, to),
        }
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, from),
            Self::Unix(unix) => Pin::new(unix).poll_write(cx, from),
        }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_shutdown(cx, Shutdown::Write).map_err(io::Error::from),
            Self::Unix(unix) => Pin::new(unix).poll_close(cx),
        }
    }
}
