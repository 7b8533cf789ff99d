//! `otlp` receiver (otlp 4.2).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::address::host_port;
use super::{auth, tls};
use crate::config::plan::Receiver;
use crate::config::print::Out;
use crate::config::read::{Absent, Block, Kind};
use crate::net::options::Transport;
use crate::net::tls::{Protocol, ServerOptions};
use crate::rpc::codec::HTTP_ENCODINGS;
use crate::rpc::http_server::{self, IDLE_TIMEOUT};
use crate::rpc::options::ServerKeepalive;
use crate::rpc::{Codec, Cors, GrpcServerOptions, HttpServerOptions, grpc_server};

const OWN_BUFFERS: &str = "buffers are tracemill's own";

/// Reads the receiver.
pub fn read(b: &mut Block<'_>, id: &str) -> Receiver {
    let (grpc, http) = b.block("protocols", |b| {
        let grpc = b.optional("grpc", Absent::Off, grpc);
        (grpc, b.optional("http", Absent::Off, http))
    });
    if grpc.is_none() && http.is_none() {
        b.error("at least one protocol is wanted", "protocols:\n  grpc:\n  http:");
    }
    Receiver { id: id.to_owned(), grpc, http }
}

fn grpc(b: &mut Block<'_>) -> GrpcServerOptions {
    let default = GrpcServerOptions::default();
    let endpoint = b.text("endpoint", &default.endpoint);
    let mib = b.signed("max_recv_msg_size_mib", 4);
    let recv_bytes_max = match usize::try_from(mib) {
        Ok(0) => default.recv_bytes_max,
        Ok(mib) => mib.saturating_mul(1 << 20),
        Err(_) => {
            b.error_at("max_recv_msg_size_mib", "must not be negative", "max_recv_msg_size_mib: 4");
            default.recv_bytes_max
        }
    };
    let streams = match b.unrecorded(|b| b.unsigned32("max_concurrent_streams", 0)) {
        0 => grpc_server::STREAMS_MAX,
        streams => streams,
    };
    b.record("max_concurrent_streams", Out::plain(streams));
    let keepalive = b.optional("keepalive", Absent::Off, keepalive).unwrap_or_default();
    for key in ["read_buffer_size", "write_buffer_size"] {
        if b.has(key) && b.unrecorded(|b| b.signed(key, 0)) < 0 {
            b.error_at(key, "must not be negative", "");
        }
        b.ignore(key, Kind::Int, OWN_BUFFERS);
    }
    let (transport, tls) = server(b, &[Protocol::Http2]);
    let endpoint = listen_address(b, transport, endpoint, &default.endpoint);
    auth::key(b);
    let include_metadata = b.flag("include_metadata", false);
    GrpcServerOptions {
        endpoint,
        transport,
        tls: tls.map(Box::new),
        recv_bytes_max,
        streams_max: Some(streams),
        keepalive,
        auth: None,
        include_metadata,
        metadata: Vec::new(),
    }
}

fn keepalive(b: &mut Block<'_>) -> ServerKeepalive {
    let keepalive = b.optional("server_parameters", Absent::Off, |b| {
        let mut time = |key| {
            let duration = b.duration(key, Duration::ZERO);
            (!duration.is_zero()).then_some(duration)
        };
        ServerKeepalive {
            connection_idle_max: time("max_connection_idle"),
            connection_age_max: time("max_connection_age"),
            connection_age_grace: time("max_connection_age_grace"),
            time: time("time"),
            timeout: time("timeout"),
        }
    });
    if b.has("enforcement_policy") {
        b.unrecorded(|b| {
            b.optional("enforcement_policy", Absent::Off, |b| {
                b.duration("min_time", Duration::ZERO);
                b.flag("permit_without_stream", false);
            });
        });
        let why = "floods of pings are bounded by tracemill's own limits";
        b.ignore("enforcement_policy", Kind::Any, why);
    }
    keepalive.unwrap_or_default()
}

fn http(b: &mut Block<'_>) -> HttpServerOptions {
    b.overlook_unknown();
    let default = HttpServerOptions::default();
    let endpoint = b.text("endpoint", &default.endpoint);
    let bytes = b.unrecorded(|b| b.signed("max_request_body_size", 0));
    let body_bytes_max = match usize::try_from(bytes) {
        Ok(bytes) if bytes > 0 => bytes,
        _ => default.body_bytes_max,
    };
    b.record("max_request_body_size", Out::plain(body_bytes_max));
    let keys = ["traces_url_path", "metrics_url_path", "logs_url_path"];
    let mut paths = default.paths;
    for (path, key) in paths.iter_mut().zip(keys) {
        *path = url_path(b, key, path);
    }
    let read_header_timeout = b.duration_or("read_header_timeout", http_server::HEAD_TIMEOUT);
    let (keep_alive, idle_timeout) = keep_alive(b);
    let whole = "the time for a whole request is bounded by tracemill itself";
    b.ignore("read_timeout", Kind::Duration, whole);
    b.ignore("write_timeout", Kind::Duration, whole);
    let encodings = encodings(b);
    let cors = cors(b);
    let response_headers = response_headers(b);
    let (transport, tls) = server(b, http_server::PROTOCOLS);
    let endpoint = listen_address(b, transport, endpoint, &default.endpoint);
    auth::key(b);
    let include_metadata = b.flag("include_metadata", false);
    HttpServerOptions {
        endpoint,
        transport,
        tls: tls.map(Box::new),
        body_bytes_max,
        paths,
        read_header_timeout,
        idle_timeout,
        keep_alive,
        encodings,
        cors,
        response_headers,
        auth: None,
        include_metadata,
        metadata: Vec::new(),
    }
}

/// An empty list means that bodies are taken as they are (otlp 4.2).
fn encodings(b: &mut Block<'_>) -> Vec<(&'static str, Codec)> {
    let all = HTTP_ENCODINGS.map(|(name, _)| name);
    if !b.has("compression_algorithms") {
        return HTTP_ENCODINGS.to_vec();
    }
    let names = b.texts("compression_algorithms", &all);
    let known = |name: &&str| names.iter().any(|n| n == *name);
    for name in names.iter().filter(|name| !all.contains(&name.as_str())) {
        let right = format!("known are: {}", all[1..].join(", "));
        b.warn_at("compression_algorithms", format!("\"{name}\" is no encoding"), &right);
    }
    if !names.is_empty() && !names.iter().any(String::is_empty) {
        let what = "without \"\" a body that is not compressed is refused, as in the collector";
        b.warn_at("compression_algorithms", what, "compression_algorithms: [\"\", gzip]");
    }
    HTTP_ENCODINGS.into_iter().filter(|(name, _)| known(name)).collect()
}

fn cors(b: &mut Block<'_>) -> Option<Cors> {
    b.optional("cors", Absent::Off, |b| {
        let origins = b.texts("allowed_origins", &[]);
        let headers = b.texts("allowed_headers", &[]);
        let exposed = b.texts("exposed_headers", &[]);
        let max_age = b.signed("max_age", 0);
        if origins.is_empty() && !headers.is_empty() {
            let what = "has no effect without allowed_origins, as in the collector";
            b.warn_at("allowed_headers", what, "allowed_origins: [\"https://*.example.com\"]");
        }
        Cors::new(&origins, &headers, &exposed, max_age)
    })
    .flatten()
}

fn response_headers(b: &mut Block<'_>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in b.secret_pairs("response_headers") {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
            (Ok(name), Ok(value)) => _ = map.insert(name, value),
            (Err(_), _) => {
                let what = format!("\"{name}\" is no name of a header");
                b.error_at("response_headers", what, "");
            }
            (_, Err(_)) => {
                let what = format!("the value of \"{name}\" cannot be sent");
                b.error_at("response_headers", what, "");
            }
        }
    }
    map
}

/// Whether connections take further requests, and how long they wait for them. Both keys moved
/// under `keepalive` in v0.160; only one form may be used.
fn keep_alive(b: &mut Block<'_>) -> (bool, Duration) {
    let beside =
        b.has("idle_timeout").then(|| b.unrecorded(|b| b.duration("idle_timeout", Duration::ZERO)));
    let off =
        b.has("keep_alives_enabled") && !b.unrecorded(|b| b.flag("keep_alives_enabled", true));
    if b.has("keepalive") {
        if off || beside.is_some_and(|d| !d.is_zero()) {
            let what = "cannot stand beside idle_timeout or keep_alives_enabled";
            b.error_at("keepalive", what, "keepalive: {idle_timeout: 1m}");
        }
        let inside =
            b.optional("keepalive", Absent::Off, |b| b.duration_or("idle_timeout", IDLE_TIMEOUT));
        return (inside.is_some(), inside.unwrap_or_default());
    }
    let idle = beside.unwrap_or_default();
    for (key, old, right) in [
        ("idle_timeout", !idle.is_zero(), "keepalive:\n  idle_timeout: ..."),
        ("keep_alives_enabled", off, "keepalive:\n  enabled: false"),
    ] {
        if old {
            b.warn_at(key, "old form since v0.160", right);
        }
    }
    if off {
        b.record("keepalive", Out::Map(vec![("enabled".into(), Out::plain(false))]));
        return (false, idle);
    }
    let idle = if idle.is_zero() { IDLE_TIMEOUT } else { idle };
    b.block("keepalive", |b| b.duration("idle_timeout", idle));
    (true, idle)
}

fn url_path(b: &mut Block<'_>, key: &'static str, default: &str) -> String {
    let written = b.text(key, default);
    let path = if written.starts_with('/') { written } else { format!("/{written}") };
    if path.parse::<http::uri::PathAndQuery>().is_err() {
        b.error_at(key, "is not a path of a URL", &format!("{key}: {default}"));
    }
    path
}

/// Address of a listener; what the collector finds only at start is found here.
pub fn listen_address(b: &Block<'_>, kind: Transport, endpoint: String, default: &str) -> String {
    if kind == Transport::Unix {
        if endpoint.is_empty() {
            b.start_error_at("endpoint", "a unix socket needs a path", "endpoint: /run/otlp.sock");
        }
    } else if let Err(what) = host_port(&endpoint) {
        let what = format!("\"{endpoint}\" {what}");
        b.error_at("endpoint", what, &format!("endpoint: {default}"));
    }
    endpoint
}

/// Keys that all servers have.
pub fn server(b: &mut Block<'_>, protocols: &[Protocol]) -> (Transport, Option<ServerOptions>) {
    let choices = [
        ("tcp", Some(Transport::Tcp)),
        ("tcp4", Some(Transport::Tcp4)),
        ("tcp6", Some(Transport::Tcp6)),
        ("unix", Some(Transport::Unix)),
        ("udp", None),
        ("udp4", None),
        ("udp6", None),
        ("ip", None),
        ("ip4", None),
        ("ip6", None),
        ("unixgram", None),
        ("unixpacket", None),
    ];
    let mut transport = Some(Transport::Tcp);
    if b.has("transport") {
        transport = b.choice("transport", "tcp", &choices, transport);
        if transport.is_none() {
            b.start_error_at("transport", "OTLP wants a stream", "transport: tcp, or unix");
        }
    }
    if b.has("dialer") {
        b.unrecorded(|b| b.block("dialer", |b| b.duration("timeout", Duration::ZERO)));
        b.ignore("dialer", Kind::Any, "a listener does not dial");
    }
    let tls = tls::server(b, protocols);
    b.refuse("middlewares", "server middlewares are not in this release", "");
    (transport.unwrap_or_default(), tls)
}
