//! How a peer is reached: dialled, or through the tunnel of a proxy that stands before it, with TLS
//! or without.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::lost::Lost;
use super::proxy::{self, Proxy};
use crate::net::tls::{self, ClientTls};
use crate::net::{Stream, dial};

/// Largest head of a proxy's answer.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// What a proxy is told of us.
const AGENT: &str = concat!("tracemill/", env!("CARGO_PKG_VERSION"));

/// The way to one peer.
#[derive(Clone, Debug)]
pub struct Way {
    /// `host:port` or `unix:///path`.
    pub endpoint: String,
    /// The proxy that is asked for a tunnel (HTTP's CONNECT).
    pub proxy: Option<Proxy>,
    /// Spoken with the peer, not with the proxy.
    pub tls: Option<ClientTls>,
}

impl Way {
    /// Connects; of a name with several addresses the `turn`-th is tried first. `timeout` is that
    /// of one address; whoever opens limits the time of all of it.
    ///
    /// # Errors
    /// As the network, the proxy or the handshake says.
    pub async fn open(&self, turn: usize, timeout: Duration) -> Result<Stream, Lost> {
        let Some(proxy) = &self.proxy else {
            return Ok(dial::dial(&self.endpoint, turn, timeout, self.tls.as_ref()).await?);
        };
        let stream = dial::dial(&proxy.address, turn, timeout, None).await?;
        let stream = tunnel(stream, &self.endpoint, proxy).await?;
        match &self.tls {
            Some(tls) => Ok(tls::connect(stream, dial::host(&self.endpoint), tls).await?),
            None => Ok(stream),
        }
    }
}

/// The proxy that this process was started with for `url`; one that cannot be used is told to the
/// log and left out.
#[must_use]
pub fn proxy_of_process(url: &Uri) -> Option<Proxy> {
    let named = proxy::of_environment(url, &|name| std::env::var(name).ok())?;
    let proxy = Proxy::parse(&named);
    let tell =
        |what| tracing::error!("The proxy of the environment is not used for {url}: it {what}.");
    proxy.map_err(tell).ok()
}

/// Asks `proxy`, at the other end of `stream`, for a tunnel to `endpoint`.
async fn tunnel(stream: Stream, endpoint: &str, proxy: &Proxy) -> Result<Stream, Lost> {
    let request = asking(endpoint, proxy)?;
    let io = TokioIo::new(stream.clone());
    let (mut send, mut http) =
        http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(io).await?;
    let mut answer = pin!(send.send_request(request));
    let answer = poll_fn(|cx| {
        // What ends the connection is told by the answer.
        let _ = http.poll_without_shutdown(cx);
        if let Poll::Ready(Err(e)) = stream.drain(cx) {
            return Poll::Ready(Err(Lost::from(e)));
        }
        answer.as_mut().poll(cx).map_err(Lost::from)
    });
    let status = answer.await?.status();
    if !status.is_success() {
        let what = format!("the proxy {} refuses a tunnel to {endpoint}: {status}", proxy.address);
        return Err(io::Error::new(io::ErrorKind::ConnectionRefused, what).into());
    }
    // The peer may speak first.
    stream.put_back(&http.into_parts().read_buf)?;
    Ok(stream)
}

fn asking(endpoint: &str, proxy: &Proxy) -> io::Result<Request<Empty<Bytes>>> {
    let bad = |_| io::Error::new(io::ErrorKind::InvalidInput, "no endpoint that a proxy can reach");
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = endpoint.parse().map_err(bad)?;
    let host = HeaderValue::from_str(endpoint).map_err(|_| io::ErrorKind::InvalidInput)?;
    request.headers_mut().insert(HOST, host);
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(AGENT));
    if let Some(login) = &proxy.login {
        request.headers_mut().insert(PROXY_AUTHORIZATION, login.clone());
    }
    Ok(request)
}
