//! The client keys that `otlp_grpc` and `load_balancing` (under `protocol.otlp`) have in common
//! (otlp 4.4, loadbalancing 1.4).

use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::address::host_port;
use super::queue::{self, Sending};
use super::{auth, retry, tls};
use crate::config::read::{Absent, Block, Kind};
use crate::net::tls::Protocol as Alpn;
use crate::rpc::Codec;
use crate::upstream::Options;
use crate::upstream::options::{Keepalive, MergeOptions, Protocol};

/// Reads all keys but `endpoint`, whose scheme may be `https`.
pub fn read(b: &mut Block<'_>, https: bool, merge: &MergeOptions) -> Options {
    let insecure_beside = insecure_beside_endpoint(b);
    let tls = tls::client(b, insecure_beside, https, &[Alpn::Http2]);
    let timeout = b.duration("timeout", Duration::from_secs(5));
    let compression = compression(b);
    let headers = headers(b);
    let user_agent = header_text(b, "user_agent");
    let authority = header_text(b, "authority");
    if let (Some(authority), Some(name)) =
        (&authority, tls.as_ref().and_then(|tls| tls.server_name.as_ref()))
        && authority != name
    {
        let what = "differs from tls.server_name_override, which is the authority with TLS";
        b.start_error_at("authority", what, "leave one of them out");
    }
    let keepalive = b.optional("keepalive", Absent::OffAlsoIfNull, |b| Keepalive {
        time: b.duration("time", Duration::from_secs(10)),
        timeout: b.duration("timeout", Duration::from_secs(10)),
        permit_without_stream: b.flag("permit_without_stream", false),
    });
    let Sending { queue, merge, partition } = queue::read(b, Absent::On, merge);
    let retry = retry::read(b, true, false);
    without_effect(b);
    auth::key(b);
    b.refuse("middlewares", "client middlewares are not in this release", "");
    Options {
        tls: tls.map(Box::new),
        timeout,
        compression,
        compression_level: None,
        headers,
        user_agent,
        authority,
        keepalive,
        queue,
        retry,
        merge,
        protocol: Protocol::Grpc,
        auth: None,
        partition,
    }
}

/// Checks `endpoint` and gives it as `host:port` or `unix:///path`; also whether it is `https`.
pub fn endpoint(b: &mut Block<'_>) -> (String, bool) {
    let written = b.text("endpoint", "");
    if written.is_empty() {
        b.error("endpoint is missing", "endpoint: backend:4317");
        return (written, false);
    }
    let address = plain_address(b, &written);
    if let Some(path) = address.strip_prefix("unix://") {
        if path.is_empty() {
            b.error_at("endpoint", "the path of the unix socket is empty", UNIX_RIGHT);
        } else if !path.starts_with('/') {
            let what = format!("\"{path}\" is no absolute path, which three slashes begin");
            b.start_error_at("endpoint", what, UNIX_RIGHT);
        }
    } else if let Err(what) = host_port(&address) {
        b.error_at("endpoint", format!("\"{written}\" {what}"), "endpoint: backend:4317");
    }
    (address, written.starts_with("https://"))
}

const UNIX_RIGHT: &str = "endpoint: unix:///run/otlp.sock";

/// `written` without a scheme; schemes that mean something else than TCP or unix are refused.
fn plain_address(b: &Block<'_>, written: &str) -> String {
    let Some((scheme, rest)) = written.split_once("://") else {
        return written.to_owned();
    };
    // What is proposed must work: gRPC takes no path.
    let plain = rest.split('/').next().unwrap_or(rest);
    match scheme {
        "http" => {
            b.warn_at(
                "endpoint",
                "http:// has no meaning before a gRPC endpoint",
                &format!("endpoint: {plain}"),
            );
            rest.to_owned()
        }
        "https" => {
            let what = "https:// asks for TLS";
            b.note_at("endpoint", what, &format!("endpoint: {plain}   # TLS unless tls.insecure"));
            rest.to_owned()
        }
        "unix" => written.to_owned(),
        "dns" | "passthrough" => {
            // dns://authority/host:port: what counts is after the last slash.
            let rest = rest.rsplit('/').next().unwrap_or(rest);
            b.warn_at(
                "endpoint",
                format!("{scheme}:// has no effect here"),
                &format!("endpoint: {rest}"),
            );
            rest.to_owned()
        }
        _ => {
            let what = format!("{scheme}:// endpoints are not in this release");
            b.refuse_at("endpoint", what, "endpoint: backend:4317");
            "localhost:0".into()
        }
    }
}

/// Old form: `insecure` beside `endpoint` moved under `tls` (configs 5).
fn insecure_beside_endpoint(b: &mut Block<'_>) -> bool {
    if !b.has("insecure") {
        return false;
    }
    b.warn_at("insecure", "old form, refused by today's collector", "tls:\n  insecure: true");
    b.unrecorded(|b| b.flag("insecure", false))
}

fn compression(b: &mut Block<'_>) -> Codec {
    let given = b.node("compression").is_some();
    let choices = [
        ("gzip", Some(Codec::Gzip)),
        ("snappy", Some(Codec::Snappy)),
        ("zstd", Some(Codec::Zstd)),
        ("none", Some(Codec::None)),
        ("", Some(Codec::None)),
        ("zlib", None),
        ("deflate", None),
        ("lz4", None),
        ("x-snappy-framed", None),
    ];
    let codec = b.choice("compression", "gzip", &choices, Some(Codec::Gzip));
    if codec.is_none() {
        let what = "gRPC has no such compression, so the collector could not start";
        b.start_error_at("compression", what, "compression: gzip, zstd, snappy or none");
    }
    if !given {
        note_gzip(b);
    }
    codec.unwrap_or(Codec::Gzip)
}

/// Says what happens where `compression` is not given.
pub fn note_gzip(b: &Block<'_>) {
    let what = "compression is not set, which means gzip, as in the collector";
    b.note_here(what, "compression: none   # or zstd: far cheaper inside a rack");
}

/// `headers`, names in lower case.
pub fn headers(b: &mut Block<'_>) -> Vec<(String, String)> {
    let mut headers = b.secret_pairs("headers");
    for (name, value) in &mut headers {
        name.make_ascii_lowercase();
        let name_ok = HeaderName::from_bytes(name.as_bytes()).is_ok() && !name.starts_with("grpc-");
        if !name_ok {
            b.error_at("headers", format!("\"{name}\" is no name of a header"), "");
        }
        if HeaderValue::from_str(value).is_err() {
            b.error_at("headers", format!("the value of \"{name}\" cannot be sent"), "");
        }
    }
    headers
}

fn header_text(b: &mut Block<'_>, key: &'static str) -> Option<String> {
    let text = b.text_if_given(key);
    if HeaderValue::from_str(&text).is_err() {
        b.error_at(key, "cannot be sent as a header", "");
    }
    (!text.is_empty()).then_some(text)
}

fn without_effect(b: &mut Block<'_>) {
    let own = "buffers are tracemill's own";
    b.ignore("read_buffer_size", Kind::Int, own);
    b.ignore("write_buffer_size", Kind::Int, own);
    b.ignore("wait_for_ready", Kind::Flag, "parts wait in the queue");
    let known = [("round_robin", ()), ("pick_first", ()), ("", ())];
    if b.has("balancer_name") {
        b.unrecorded(|b| b.choice("balancer_name", "round_robin", &known, ()));
        b.ignore("balancer_name", Kind::Text, "each core keeps its own connections");
    }
}
