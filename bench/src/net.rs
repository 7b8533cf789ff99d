//! Sockets: listening, accepting, and reading whole frames into one buffer of the thread.

use std::io::{self, Read};
use std::net::{SocketAddr, ToSocketAddrs};

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

/// A listener on `address`.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    open(bind(address)?)
}

/// Makes a bound socket listen.
pub(crate) fn open(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(4096)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// A bound socket that does not listen: connecting to it is refused.
pub(crate) fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket
        .bind(&address.into())
        .map_err(|e| io::Error::new(e.kind(), format!("cannot listen on {address}: {e}")))?;
    Ok(socket)
}

/// The first address of `host:port`.
pub(crate) fn resolve(endpoint: &str) -> io::Result<SocketAddr> {
    let bare = endpoint.strip_prefix("http://").unwrap_or(endpoint);
    let wrong = |reason: String| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("endpoint `{endpoint}`: {reason}"))
    };
    bare.to_socket_addrs()
        .map_err(|e| wrong(e.to_string()))?
        .next()
        .ok_or_else(|| wrong("no address".to_owned()))
}

/// The reading side of a connection: what is left of an incomplete frame between two reads.
#[derive(Debug, Default)]
pub(crate) struct Carry(Vec<u8>);

/// What one read brought.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Received {
    /// Bytes `0..filled` of the buffer; `more` if the socket may hold more.
    Some { filled: usize, more: bool },
    /// Nothing now.
    WouldBlock,
    /// The peer has closed its side.
    End,
}

impl Carry {
    /// Puts the carried bytes at the start of `buffer` and reads behind them.
    pub(crate) fn read(
        &mut self,
        socket: &mut TcpStream,
        buffer: &mut [u8],
    ) -> io::Result<Received> {
        let carried = self.0.len();
        assert!(carried < buffer.len(), "a frame must fit the buffer");
        loop {
            match socket.read(&mut buffer[carried..]) {
                Ok(0) => return Ok(Received::End),
                Ok(n) => {
                    buffer[..carried].copy_from_slice(&self.0);
                    self.0.clear();
                    let filled = carried + n;
                    return Ok(Received::Some { filled, more: filled == buffer.len() });
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Received::WouldBlock);
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Keeps the incomplete rest for the next read.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        debug_assert!(self.0.is_empty());
        self.0.extend_from_slice(rest);
    }
}
