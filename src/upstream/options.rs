//! What can be set on sending to one endpoint. Defaults are the collector's (otlp 4.4).

use std::time::Duration;

use http::HeaderName;

use crate::net::tls::ClientOptions as Tls;
use crate::rpc::Codec;
use crate::rpc::auth::ClientAuth;
use crate::rpc::options::Keep;
use crate::rpc::proxy::Proxy;

/// How one endpoint is called.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// `tls`; `None` for plaintext.
    pub tls: Option<Box<Tls>>,
    /// Deadline of one call on the wire; zero means none.
    pub timeout: Duration,
    /// Encoding of request messages. The collector's default is gzip.
    pub compression: Codec,
    /// Level of `compression`, as its format counts them; `None` is the fastest.
    pub compression_level: Option<i32>,
    /// Sent with every call, in order.
    pub headers: Vec<(String, String)>,
    /// Replaces tracemill's own `user-agent`.
    pub user_agent: Option<String>,
    /// Replaces `host:port` in `:authority`.
    pub authority: Option<String>,
    /// Ping idle connections. Off unless configured.
    pub keepalive: Option<Keepalive>,
    /// The bounded queue; `None` when `sending_queue.enabled` is false.
    pub queue: Option<QueueOptions>,
    /// Retry of calls that may succeed later; `None` when `retry_on_failure.enabled` is false.
    pub retry: Option<RetryOptions>,
    /// How parts are merged into calls.
    pub merge: MergeOptions,
    /// What is spoken.
    pub protocol: Protocol,
    /// What calls show, and which headers they get.
    pub auth: Option<ClientAuth>,
    /// Headers of requests by which calls are parted (`sending_queue.batch.partition`).
    pub partition: Vec<HeaderName>,
}

impl Options {
    /// Headers of requests that decide which parts may share a call.
    #[must_use]
    pub fn wanted(&self) -> Vec<HeaderName> {
        let shown = self.auth.as_ref().map(ClientAuth::wanted).unwrap_or_default();
        self.partition.iter().cloned().chain(shown).collect()
    }
}

/// What an endpoint is spoken to in.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Protocol {
    /// OTLP/gRPC.
    #[default]
    Grpc,
    /// OTLP/HTTP; the endpoint is a URL.
    Http(Box<HttpOptions>),
}

/// What only OTLP/HTTP has (otlp 4.5).
#[derive(Clone, Debug, PartialEq)]
pub struct HttpOptions {
    /// Form of requests.
    pub encoding: Encoding,
    /// How connections are kept.
    pub keep: Keep,
    /// The proxy before the URL of each signal.
    pub proxies: [Option<Proxy>; 3],
}

/// `encoding` of `otlp_http`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// `proto`.
    Protobuf,
    /// `json`.
    Json,
}

/// Client keepalive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Keepalive {
    /// Ping after this long without a frame from the peer.
    pub time: Duration,
    /// Close the connection when the ping is not answered within this time.
    pub timeout: Duration,
    /// Ping also when no call is in flight.
    pub permit_without_stream: bool,
}

/// What `queue_size` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sizer {
    /// Received requests (in the queue of an endpoint: parts of them, where a request is cut).
    #[default]
    Requests,
    /// Spans, log records or metric points.
    Items,
    /// Uncompressed bytes.
    Bytes,
}

/// `sending_queue`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueueOptions {
    /// What is counted.
    pub sizer: Sizer,
    /// How much of it fits, in flight included.
    pub size_max: u64,
    /// Calls in flight at once.
    pub num_consumers: usize,
    /// Wait for room instead of refusing.
    pub block_on_overflow: bool,
    /// The client's answer waits for the backend's, however long that takes.
    pub wait_for_result: bool,
}

/// `retry_on_failure`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryOptions {
    /// First wait.
    pub initial_interval: Duration,
    /// Each wait is drawn from `interval * (1 ± this)`.
    pub randomization_factor: f64,
    /// Growth of the interval.
    pub multiplier: f64,
    /// Largest interval.
    pub max_interval: Duration,
    /// Give up after this time; zero means never.
    pub max_elapsed_time: Duration,
}

/// How parts are merged into calls (tracemill's own; `batch` may lower the limits).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MergeOptions {
    /// A call leaves when this much has gathered.
    pub bytes: usize,
    /// No call is larger, unless one received part alone is.
    pub bytes_max: usize,
    /// No call has more items, unless one received part alone has; 0 means no limit.
    pub items_max: u64,
    /// A call leaves when its oldest part is this old.
    pub linger: Duration,
    /// A call waits for so many items, up to [`Self::bytes_max`] and [`Self::linger`]: `batch`
    /// behind a sampler, where nobody waits for an answer. 0: it leaves when none is in flight.
    pub gather_items: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tls: None,
            timeout: Duration::from_secs(5),
            compression: Codec::Gzip,
            compression_level: None,
            headers: Vec::new(),
            user_agent: None,
            authority: None,
            keepalive: None,
            queue: Some(QueueOptions::default()),
            retry: Some(RetryOptions::default()),
            merge: MergeOptions::default(),
            protocol: Protocol::Grpc,
            auth: None,
            partition: Vec::new(),
        }
    }
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            sizer: Sizer::Requests,
            size_max: 1000,
            num_consumers: 10,
            block_on_overflow: false,
            wait_for_result: false,
        }
    }
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: Duration::from_secs(300),
        }
    }
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self {
            bytes: 256 << 10,
            bytes_max: 1 << 20,
            items_max: 0,
            linger: Duration::from_millis(2),
            gather_items: 0,
        }
    }
}
