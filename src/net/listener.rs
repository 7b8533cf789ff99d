//! Listening. One socket per address and **no** SO_REUSEPORT: a second process must be told "port
//! in use" and not get half of the traffic. The file of a unix socket is removed when its listener
//! ends; one that a killed process left is in the way, as it is in Go, and has to be removed by
//! hand: nobody can know that it is not another's.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::options::Transport;

/// Connections that the kernel completes before we accept them.
const BACKLOG: i32 = 4096;

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct Error {
    /// What kind of socket.
    pub transport: Transport,
    /// As configured.
    pub endpoint: String,
    /// What the OS says.
    pub cause: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listen {} {}: {}", self.transport.name(), self.endpoint, self.cause)?;
        if self.cause.kind() == io::ErrorKind::AddrInUse {
            f.write_str(match self.transport {
                Transport::Unix => " (remove the file, if no process listens on it)",
                _ => " (another process listens there; `ss -ltnp` names it)",
            })?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// A socket that takes connections.
#[derive(Debug)]
pub enum Listener {
    /// Over the network.
    Tcp(TcpListener),
    /// On this machine.
    Unix(UnixListener, SocketFile),
}

/// Where a listener is reached, with the port that was really bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Over the network.
    Tcp(SocketAddr),
    /// On this machine.
    Unix(PathBuf),
}

impl Address {
    /// The address over the network, if that is what it is.
    #[must_use]
    pub const fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The file of a unix socket, removed at the end.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed by hand.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Where it is reached.
    ///
    /// # Errors
    /// As the OS says.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(socket) => Ok(Address::Tcp(socket.local_addr()?)),
            Self::Unix(_, file) => Ok(Address::Unix(file.0.clone())),
        }
    }
}

/// Listens on `host:port` (an empty host means all addresses, as in the collector) or on a path.
///
/// # Errors
/// If the name does not resolve or the address cannot be had.
pub fn listen(endpoint: &str, transport: Transport) -> Result<Listener, Error> {
    let fail = |cause| Error { transport, endpoint: endpoint.to_owned(), cause };
    match transport {
        Transport::Unix => bind_unix(endpoint).map_err(fail),
        _ => listen_tcp(endpoint, transport).map(Listener::Tcp),
    }
}

/// The same, where it is TCP.
///
/// # Errors
/// As [`listen`].
pub fn listen_tcp(endpoint: &str, transport: Transport) -> Result<TcpListener, Error> {
    let fail = |cause| Error { transport, endpoint: endpoint.to_owned(), cause };
    let target = match (endpoint.strip_prefix(':'), transport) {
        (Some(port), Transport::Tcp4) => format!("0.0.0.0:{port}"),
        (Some(port), _) => format!("[::]:{port}"),
        (None, _) => endpoint.to_owned(),
    };
    let mut addresses: Vec<SocketAddr> = target.to_socket_addrs().map_err(fail)?.collect();
    addresses.retain(|a| match transport {
        Transport::Tcp4 => a.is_ipv4(),
        Transport::Tcp6 => a.is_ipv6(),
        _ => true,
    });
    let none = || fail(io::Error::new(io::ErrorKind::NotFound, "no suitable address found"));
    // As Go does for a name with several addresses: IPv4 first.
    let first = addresses.iter().find(|a| a.is_ipv4()).or_else(|| addresses.first());
    bind(*first.ok_or_else(none)?, transport).map_err(fail)
}

fn bind(address: SocketAddr, transport: Transport) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` also takes IPv4, as Go's listener does.
        socket.set_only_v6(transport == Transport::Tcp6)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &str) -> io::Result<Listener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    let file = SocketFile(path.into());
    socket.listen(BACKLOG)?;
    Ok(Listener::Unix(socket.into(), file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_an_error_that_says_how_to_see_it() {
        let first = listen("127.0.0.1:0", Transport::Tcp).expect("a free port");
        let taken = first.address().expect("bound").to_string();
        let err = listen(&taken, Transport::Tcp).expect_err("in use");
        assert!(err.to_string().contains(&taken) && err.to_string().contains("ss -ltnp"), "{err}");
    }

    #[test]
    fn the_family_that_is_asked_for_is_listened_on() {
        let rows = [
            ("127.0.0.1:0", Transport::Tcp4, true),
            ("[::1]:0", Transport::Tcp4, false),
            ("[::1]:0", Transport::Tcp6, true),
            ("127.0.0.1:0", Transport::Tcp6, false),
            (":0", Transport::Tcp4, true),
        ];
        for (endpoint, transport, good) in rows {
            let got = listen(endpoint, transport);
            // A machine may have no IPv6.
            if good && endpoint.starts_with('[') && got.is_err() {
                continue;
            }
            assert_eq!(got.is_ok(), good, "{endpoint} {transport:?}: {got:?}");
        }
    }

    #[test]
    fn the_file_of_a_unix_socket_goes_with_its_listener_and_is_no_one_elses() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.sock");
        let path = path.to_str().expect("UTF-8");
        let first = listen(path, Transport::Unix).expect("a new file");
        let err = listen(path, Transport::Unix).expect_err("in use").to_string();
        assert!(err.starts_with(&format!("listen unix {path}: ")), "{err}");
        drop(first);
        assert!(!std::fs::exists(path).expect("a readable directory"));
        drop(listen(path, Transport::Unix).expect("free again"));
    }
}
