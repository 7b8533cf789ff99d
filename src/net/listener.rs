//! Listening. One socket per address and **no** SO_REUSEPORT: a second process must be told "port
//! in use" and not get half of the traffic.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel completes before we accept them.
const BACKLOG: i32 = 4096;

/// An address that cannot be listened on.
#[derive(Debug)]
pub struct Error {
    /// As configured.
    pub endpoint: String,
    /// What the OS says.
    pub cause: io::Error,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listen tcp {}: {}", self.endpoint, self.cause)?;
        if self.cause.kind() == io::ErrorKind::AddrInUse {
            write!(f, " (another process listens there; `ss -ltnp` names it)")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Listens on `host:port`; an empty host means all addresses, as in the collector.
///
/// # Errors
/// If the name does not resolve or the address cannot be had.
pub fn listen(endpoint: &str) -> Result<TcpListener, Error> {
    let fail = |cause| Error { endpoint: endpoint.to_owned(), cause };
    let target = match endpoint.strip_prefix(':') {
        Some(port) => format!("[::]:{port}"),
        None => endpoint.to_owned(),
    };
    let addresses: Vec<SocketAddr> = target.to_socket_addrs().map_err(fail)?.collect();
    // As Go does for a name with several addresses: IPv4 first.
    let first = addresses.iter().find(|a| a.is_ipv4()).or_else(|| addresses.first());
    let address = first.ok_or_else(|| fail(io::ErrorKind::NotFound.into()))?;
    bind(*address).map_err(fail)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `[::]` also takes IPv4, as Go's listener does.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_an_error_that_says_how_to_see_it() {
        let first = listen("127.0.0.1:0").expect("a free port");
        let taken = first.local_addr().expect("bound").to_string();
        let err = listen(&taken).expect_err("in use");
        assert!(err.to_string().contains(&taken) && err.to_string().contains("ss -ltnp"), "{err}");
    }
}
