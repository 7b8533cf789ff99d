//! Connecting to `host:port`. Literal addresses are used as they are; names are looked up by the
//! OS on a helper thread, so that a core never waits for a name server.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::Stream;

/// Connects; of a name with several addresses the `turn`-th is tried first, then the others.
///
/// # Errors
/// As the resolver says, or the last address.
pub async fn dial(endpoint: &str, turn: usize, timeout: Duration) -> io::Result<Stream> {
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
    glommio::executor().spawn_blocking(move || Ok(endpoint.to_socket_addrs()?.collect())).await
}
