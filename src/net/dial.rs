//! Connecting to `host:port` or `unix:///path`, with TLS or without. Literal addresses are used as
//! they are; names are looked up by the OS on a helper thread, so that a core never waits for a
//! name server.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

use super::Stream;
use super::tls::{self, ClientTls};
use crate::runtime::aside::aside;

/// Connects; of a name with several addresses the `turn`-th is tried first, then the others. With
/// `tls` the stream comes after the handshake; whoever dials limits the time of all of it.
///
/// # Errors
/// As the resolver says, or the last address, or the handshake.
pub async fn dial(
    endpoint: &str,
    turn: usize,
    timeout: Duration,
    tls: Option<&ClientTls>,
) -> io::Result<Stream> {
    let stream = match endpoint.strip_prefix("unix://") {
        Some(path) => Stream::connect_unix(Path::new(path)).await?,
        None => connect(endpoint, turn, timeout).await?,
    };
    match tls {
        Some(tls) => tls::connect(stream, host(endpoint), tls).await,
        None => Ok(stream),
    }
}

/// The part of `endpoint` that is a host; as in grpc-go, that of a unix socket is `localhost`.
#[must_use]
pub fn host(endpoint: &str) -> &str {
    if endpoint.starts_with("unix://") {
        return "localhost";
    }
    match endpoint.rsplit_once(':') {
        // The colon of `[::1]` is none before a port.
        Some((host, port)) if !port.contains(']') => host,
        _ => endpoint,
    }
}

async fn connect(endpoint: &str, turn: usize, timeout: Duration) -> io::Result<Stream> {
    let addresses = resolve(endpoint).await?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for at in 0..addresses.len() {
        match Stream::connect(addresses[(turn + at) % addresses.len()], timeout).await {
            Ok(stream) => return Ok(stream),
            Err(e) => last = e,
        }
    }
    Err(last)
}

async fn resolve(endpoint: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = endpoint.parse() {
        return Ok(vec![address]);
    }
    let endpoint = endpoint.to_owned();
    aside(move || Ok(endpoint.to_socket_addrs()?.collect())).await
}
