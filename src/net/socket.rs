//! A connected socket of this core: TCP or unix.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream as StdTcp};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream as StdUnix;
use std::path::Path;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Type};

use crate::runtime::aside::aside;
use crate::runtime::ring::{Side, Watch};
use crate::runtime::timer::Timeout;

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

    pub(super) async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address.into()) {
            Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e),
            _ => {}
        }
        let socket = Self::adopt(StdTcp::from(socket).into())?;
        let connected = poll_fn(|cx| socket.poll_connected(cx));
        Timeout::new(timeout, connected)
            .await
            .unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))?;
        Ok(socket)
    }

    /// Ready when it is writable or has failed.
    fn poll_connected(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Accepted::Tcp(tcp) = &self.socket else { return Poll::Ready(Ok(())) };
        attempt(&self.watch, Side::Write, 0, cx, || {
            tcp.take_error()?.map_or(Ok(()), Err)?;
            // Whoever has no peer yet is not connected; whoever has lost it hears so later.
            tcp.peer_addr().map(|_| 0).map_err(|e| match e.kind() {
                io::ErrorKind::NotConnected => io::ErrorKind::WouldBlock.into(),
                _ => e,
            })
        })
        .map_ok(|_| ())
    }

    pub(super) async fn connect_unix(path: &Path) -> io::Result<Self> {
        // It waits when the other side does not accept.
        let path = path.to_owned();
        Self::adopt(aside(move || StdUnix::connect(path)).await?.into())
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use futures_util::future::join;

    use super::*;
    use crate::runtime::executor;
    use crate::testing::cores::on_a_core;

    /// Runs `main` on a core with a socket and its peer.
    fn beside<F, Fut>(main: F)
    where
        F: FnOnce(Socket, UnixStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        on_a_core(Duration::ZERO, move || async move {
            let (ours, theirs) = UnixStream::pair().expect("two sockets");
            theirs.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
            main(Socket::adopt(ours.into()).expect("a ring"), theirs).await;
        });
    }

    async fn read(socket: &mut Socket) -> Vec<u8> {
        let mut bytes = [0; 64];
        let n = poll_fn(|cx| socket.poll_read(cx, &mut bytes)).await.expect("it is open");
        bytes[..n].to_vec()
    }

    #[test]
    fn who_waits_is_woken_by_what_comes() {
        beside(|mut socket, mut theirs| async move {
            for n in 0..100_u8 {
                let write = async { theirs.write_all(&[n]).expect("it is open") };
                assert_eq!(join(read(&mut socket), write).await.0, [n]);
            }
        });
    }

    #[test]
    fn who_finds_a_socket_full_is_woken_when_there_is_room() {
        beside(|mut socket, mut theirs| async move {
            let (much, mut filled) = (vec![7; 1 << 20], 0);
            // So much that it does not fit, and then room for it.
            poll_fn(|cx| match socket.poll_write(cx, &much) {
                Poll::Ready(n) => {
                    filled += n.expect("it is open");
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Pending => Poll::Ready(()),
            })
            .await;
            let drain = async { theirs.read_exact(&mut vec![0; filled]).expect("it came") };
            let write = poll_fn(|cx| socket.poll_write(cx, b"more"));
            assert_eq!(join(write, drain).await.0.expect("it is open"), 4);
        });
    }

    #[test]
    fn an_end_that_comes_with_the_last_bytes_is_heard() {
        beside(|mut socket, mut theirs| async move {
            // So that both are one event.
            executor::rest().await;
            theirs.write_all(b"bye").expect("it is open");
            drop(theirs);
            assert_eq!(read(&mut socket).await, b"bye");
            assert_eq!(read(&mut socket).await, b"");
        });
    }

    #[test]
    fn a_socket_that_is_dropped_with_something_to_read_is_closed_too() {
        beside(|socket, mut theirs| async move {
            // So that the core is told of it and has not heard.
            executor::rest().await;
            theirs.write_all(b"unheard").expect("it is open");
            drop(socket);
            let end = theirs.read(&mut [0; 8]);
            let reset = |e: &io::Error| e.kind() == io::ErrorKind::ConnectionReset;
            assert!(end.as_ref().map_or_else(reset, |n| *n == 0), "{end:?}");
        });
    }

    #[test]
    fn a_socket_that_is_dropped_is_closed_at_once() {
        beside(|socket, mut theirs| async move {
            for _ in 0..3 {
                let (ours, mut others) = UnixStream::pair().expect("two sockets");
                let mut socket = Socket::adopt(ours.into()).expect("a ring");
                let write = async { others.write_all(b"hello").expect("it is open") };
                assert_eq!(join(read(&mut socket), write).await.0, b"hello");
                drop(socket);
                assert_eq!(others.read(&mut [0; 8]).expect("the end"), 0);
            }
            drop(socket);
            assert_eq!(theirs.read(&mut [0; 8]).expect("the end"), 0);
        });
    }
}
