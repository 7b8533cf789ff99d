//! The protocol of a lane: how it connects, what a call looks like, and which connection carries
//! it. One enum for both, so that the lane's task is the same.

use std::task::{Context, Poll};
use std::time::Duration;

use super::file;
use super::lane::Target;
use super::options::{Encoding, Options, Protocol};
use super::queue::Departure;
use crate::net::dial;
use crate::net::tls::ClientTls;
use crate::otlp::Signal;
use crate::rpc::frame::{PREFIX_BYTES, Prefix};
use crate::rpc::grpc_client::{self, BadHeader, Connection, Event, Outgoing};
use crate::rpc::http_client::{self, Pool};
use crate::rpc::lost::Lost;
use crate::rpc::options::Keep;
use crate::rpc::proxy::Proxy;
use crate::rpc::way::{self, Way};
use crate::rpc::{Code, Codec, Status};
use crate::time::Instant;

/// `user-agent` unless configured.
const USER_AGENT: &str = concat!("tracemill/", env!("CARGO_PKG_VERSION"), " (linux)");

/// Shortest time between two pings; shorter ones are taken for this, as in grpc-go.
const PING_INTERVAL_MIN: Duration = Duration::from_secs(10);

/// What is needed to connect.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    Grpc {
        way: Way,
        template: grpc_client::Template,
        keepalive: Option<(Duration, Duration, bool)>,
    },
    Http {
        template: http_client::Template,
        keep: Keep,
    },
}

impl Caller {
    /// Calls to `target`, with TLS or without.
    ///
    /// # Errors
    /// Names the header that cannot be sent, or the URL that is none.
    pub(super) fn new(
        target: &Target,
        options: &Options,
        tls: Option<ClientTls>,
    ) -> Result<Self, BadHeader> {
        let agent = options.user_agent.as_deref().unwrap_or(USER_AGENT);
        match &options.protocol {
            Protocol::Grpc => {
                let (scheme, authority) = address(&target.endpoint, options, tls.as_ref());
                let template = grpc_client::Template::new(
                    (scheme, &authority),
                    options.compression,
                    options.timeout,
                    agent,
                    &options.headers,
                )?
                .with_auth(options.auth.clone());
                let keepalive = options
                    .keepalive
                    .map(|k| (k.time.max(PING_INTERVAL_MIN), k.timeout, k.permit_without_stream));
                // As in grpc-go, the certificate must have the name that the authority has.
                let tls = tls.map(|tls| tls.named(dial::host(&authority)));
                let endpoint = target.endpoint.clone();
                let way = Way { proxy: proxy_before(&endpoint), endpoint, tls };
                Ok(Self::Grpc { way, template, keepalive })
            }
            Protocol::Http(http) => {
                let common = http_client::Common {
                    codec: options.compression,
                    content_type: match http.encoding {
                        Encoding::Protobuf => "application/x-protobuf",
                        Encoding::Json => "application/json",
                    },
                    user_agent: agent,
                    extra: &options.headers,
                    keep_alive: http.keep.keep_alive,
                };
                let proxy = http.proxies[target.signal as usize].as_ref();
                let template = http_client::Template::new(&target.endpoint, common, proxy)?;
                let template = template.with_auth(options.auth.clone()).with_tls(tls);
                Ok(Self::Http { template, keep: http.keep })
            }
        }
    }

    /// The server finds pings in this interval too many: those of connections to come are sent half
    /// as often, as grpc-go does. The interval from now on, if that is a change.
    pub(super) fn calm(&mut self, annoying: Duration) -> Option<Duration> {
        let Self::Grpc { keepalive: Some((time, ..)), .. } = self else { return None };
        let before = std::mem::replace(time, calmer(*time, annoying));
        Some(*time).filter(|time| *time > before)
    }

    /// Connects; of several addresses the `turn`-th is tried first.
    pub(super) async fn open(self, turn: usize, timeout: Duration) -> Result<Client, Lost> {
        match self {
            Self::Grpc { way, template, keepalive } => {
                let opening = Connection::open(&way, turn, timeout, template, keepalive);
                Ok(Client::Grpc(Box::new(opening.await?)))
            }
            Self::Http { template, keep } => {
                Ok(Client::Http(Box::new(Pool::open(template, keep, turn, timeout).await?)))
            }
        }
    }
}

/// Twice the interval between pings that a server has complained of, or what is in use if that is
/// longer: another connection may have been told the same.
fn calmer(time: Duration, annoying: Duration) -> Duration {
    time.max(annoying.saturating_mul(2))
}

/// The proxy that the environment has for `endpoint`. As in grpc-go, TLS or not, that of https.
fn proxy_before(endpoint: &str) -> Option<Proxy> {
    if endpoint.starts_with("unix:") {
        return None;
    }
    way::proxy_of_process(&format!("https://{endpoint}").parse().ok()?)
}

/// `:scheme` and `:authority`, as grpc-go chooses them.
fn address(endpoint: &str, options: &Options, tls: Option<&ClientTls>) -> (&'static str, String) {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let name = options.authority.as_deref().or_else(|| tls.and_then(ClientTls::name));
    let authority = match name {
        Some(name) => name.to_owned(),
        None if endpoint.starts_with("unix://") => "localhost".to_owned(),
        None if endpoint.starts_with(':') => format!("localhost{endpoint}"),
        None => endpoint.to_owned(),
    };
    (scheme, authority)
}

/// A connection, or several that act as one.
#[derive(Debug)]
pub(super) enum Client {
    Grpc(Box<Connection>),
    Http(Box<Pool>),
}

impl Client {
    pub(super) fn start(&mut self, call: Outgoing) {
        match self {
            Self::Grpc(connection) => connection.start(call),
            Self::Http(pool) => pool.start(call),
        }
    }

    /// Gives a call up; false if there is no such call here.
    pub(super) fn cancel(&mut self, key: u32) -> bool {
        match self {
            Self::Grpc(connection) => connection.cancel(key),
            Self::Http(pool) => pool.cancel(key),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        match self {
            Self::Grpc(connection) => connection.is_idle(),
            Self::Http(pool) => pool.is_idle(),
        }
    }

    /// Whether it takes no more calls. It finishes those under way, and then it ends.
    pub(super) fn is_leaving(&self) -> bool {
        match self {
            Self::Grpc(connection) => connection.is_leaving(),
            // Connections come and go within it.
            Self::Http(_) => false,
        }
    }

    /// The time between our pings, if the peer has left because it finds that too short.
    pub(super) fn annoying_interval(&self) -> Option<Duration> {
        match self {
            Self::Grpc(connection) => connection.annoying_interval(),
            Self::Http(_) => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Grpc(connection) => connection.deadline(),
            Self::Http(pool) => pool.deadline(),
        }
    }

    pub(super) fn poll(&mut self, now: Instant, cx: &mut Context<'_>) -> Poll<Event> {
        match self {
            Self::Grpc(connection) => connection.poll(now, cx),
            Self::Http(pool) => pool.poll(now, cx),
        }
    }
}

/// How a message is written on the wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packing {
    codec: Codec,
    level: Option<i32>,
    signal: Signal,
    /// `None` for gRPC.
    encoding: Option<Encoding>,
}

impl Packing {
    pub(super) fn new(signal: Signal, options: &Options) -> Self {
        let encoding = match &options.protocol {
            Protocol::Grpc => None,
            Protocol::Http(http) => Some(http.encoding),
        };
        Self { codec: options.compression, level: options.compression_level, signal, encoding }
    }

    /// The call in the exporter's encoding.
    ///
    /// # Errors
    /// If the message cannot be written in JSON.
    pub(super) fn pack(self, departure: Departure) -> Result<Outgoing, (u32, Status)> {
        let Departure { key, framed, metadata, .. } = departure;
        let path = self.signal.grpc_path();
        let framed = match self.encoding {
            None if self.codec == Codec::None => framed,
            None => {
                let mut packed = vec![0; PREFIX_BYTES];
                self.codec.deflate(&framed[PREFIX_BYTES..], self.level, &mut packed);
                let prefix = Prefix { compressed: true, len: packed.len() - PREFIX_BYTES };
                packed[..PREFIX_BYTES].copy_from_slice(&prefix.bytes());
                packed.into()
            }
            Some(Encoding::Protobuf) => self.body(framed.slice(PREFIX_BYTES..)),
            Some(Encoding::Json) => {
                let mut text = Vec::with_capacity(2 * framed.len());
                let written = file::line(self.signal, &framed[PREFIX_BYTES..], &mut text);
                if written.is_err() {
                    let text = "the request is nested too deeply for JSON";
                    return Err((key, Status::new(Code::InvalidArgument, text)));
                }
                self.body(text.into())
            }
        };
        Ok(Outgoing { key, path, framed, metadata })
    }

    fn body(self, message: bytes::Bytes) -> bytes::Bytes {
        if self.codec == Codec::None {
            return message;
        }
        let mut packed = Vec::new();
        self.codec.deflate(&message, self.level, &mut packed);
        packed.into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::Keepalive;
    use super::*;

    #[test]
    fn pings_come_half_as_often_after_each_complaint_of_their_number() {
        const SECOND: Duration = Duration::from_secs(1);
        let keepalive = Keepalive { time: SECOND, timeout: SECOND, permit_without_stream: true };
        let target = Target {
            exporter: "otlp_grpc".into(),
            endpoint: "127.0.0.1:1".into(),
            signal: Signal::Traces,
        };
        let options = Options { keepalive: Some(keepalive), ..Options::default() };
        let mut caller = Caller::new(&target, &options, None).unwrap();
        // The interval of the connection that hears the complaint, and the one from then on. The
        // first one is the shortest that there is.
        for (annoying, want) in [(10, Some(20)), (10, None), (20, Some(40)), (10, None)] {
            assert_eq!(caller.calm(SECOND * annoying), want.map(|n| SECOND * n));
        }
        let Caller::Grpc { keepalive, .. } = &caller else { panic!("it is gRPC") };
        assert_eq!(*keepalive, Some((SECOND * 40, SECOND, true)));
        let mut silent = Caller::new(&target, &Options::default(), None).unwrap();
        assert_eq!(silent.calm(SECOND), None);
    }
}
