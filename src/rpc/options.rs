//! What can be set on a server.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::auth::ServerAuth;
use super::codec::{Codec, HTTP_ENCODINGS};
use super::cors::Cors;
use crate::net::options::Transport;
use crate::net::tls::ServerOptions as Tls;
use crate::otlp::Signal;

/// One gRPC listening address (collector: `otlp` receiver, `protocols.grpc`).
#[derive(Clone, Debug, PartialEq)]
pub struct GrpcServerOptions {
    /// `host:port` as written, or a path; port 0 asks for a free one.
    pub endpoint: String,
    /// Kind of socket.
    pub transport: Transport,
    /// `tls`; `None` for plaintext.
    pub tls: Option<Box<Tls>>,
    /// Largest message, before and after inflating.
    pub recv_bytes_max: usize,
    /// Concurrent streams of one connection; `None` takes tracemill's own limit.
    pub streams_max: Option<u32>,
    /// Keepalive of accepted connections.
    pub keepalive: ServerKeepalive,
    /// Who may call.
    pub auth: Option<ServerAuth>,
    /// `include_metadata`.
    pub include_metadata: bool,
    /// Headers that are kept, because an exporter asks for them.
    pub metadata: Vec<HeaderName>,
}

/// `keepalive.server_parameters`; `None` means never.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerKeepalive {
    /// Close a connection that had no stream for this long.
    pub connection_idle_max: Option<Duration>,
    /// Close a connection of this age.
    pub connection_age_max: Option<Duration>,
    /// Then wait this long for its streams.
    pub connection_age_grace: Option<Duration>,
    /// Ping a silent peer after this time.
    pub time: Option<Duration>,
    /// Close if the ping is not answered within this time.
    pub timeout: Option<Duration>,
}

/// How connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Connections at once; 0 for as many as there are calls.
    pub connections_max: usize,
    /// Idle connections; 0 for as many as there are.
    pub idle_max: usize,
    /// Idle connections are closed after this time; zero for never.
    pub idle_timeout: Duration,
    /// Whether a connection carries more than one call.
    pub keep_alive: bool,
}

/// One HTTP listening address (collector: `otlp` receiver, `protocols.http`).
#[derive(Clone, Debug, PartialEq)]
pub struct HttpServerOptions {
    /// `host:port` as written, or a path; port 0 asks for a free one.
    pub endpoint: String,
    /// Kind of socket.
    pub transport: Transport,
    /// `tls`; `None` for plaintext.
    pub tls: Option<Box<Tls>>,
    /// Largest body, before and after inflating.
    pub body_bytes_max: usize,
    /// Path of each signal, in the order of [`Signal::ALL`].
    pub paths: [String; 3],
    /// Largest time for request headers to arrive; zero takes tracemill's own limit.
    pub read_header_timeout: Duration,
    /// Idle time between requests of one connection; zero takes tracemill's own limit.
    pub idle_timeout: Duration,
    /// Whether a connection takes a further request.
    pub keep_alive: bool,
    /// Encodings of bodies, by name. If there are none, bodies are taken as they are, whatever
    /// they say.
    pub encodings: Vec<(&'static str, Codec)>,
    /// Which other sites' pages may send.
    pub cors: Option<Cors>,
    /// Sent with every answer.
    pub response_headers: HeaderMap,
    /// Who may call.
    pub auth: Option<ServerAuth>,
    /// `include_metadata`.
    pub include_metadata: bool,
    /// Headers that are kept, because an exporter asks for them.
    pub metadata: Vec<HeaderName>,
}

impl Default for GrpcServerOptions {
    /// The collector's defaults (otlp 4.2).
    fn default() -> Self {
        Self {
            endpoint: "localhost:4317".into(),
            transport: Transport::Tcp,
            tls: None,
            recv_bytes_max: 4 << 20,
            streams_max: None,
            keepalive: ServerKeepalive::default(),
            auth: None,
            include_metadata: false,
            metadata: Vec::new(),
        }
    }
}

impl HttpServerOptions {
    /// The gRPC path of the method that a POST to `path` means.
    pub(super) fn grpc_path(&self, path: &str) -> Option<&'static str> {
        let place = self.paths.iter().position(|p| p == path)?;
        Some(Signal::ALL[place].grpc_path())
    }
}

impl Default for HttpServerOptions {
    /// The collector's defaults (otlp 4.2).
    fn default() -> Self {
        Self {
            endpoint: "localhost:4318".into(),
            transport: Transport::Tcp,
            tls: None,
            body_bytes_max: 20 << 20,
            paths: Signal::ALL.map(|s| s.http_path().to_owned()),
            read_header_timeout: Duration::ZERO,
            idle_timeout: Duration::ZERO,
            keep_alive: true,
            encodings: HTTP_ENCODINGS.to_vec(),
            cors: None,
            response_headers: HeaderMap::new(),
            auth: None,
            include_metadata: false,
            metadata: Vec::new(),
        }
    }
}
