//! `otlp_http` exporter, formerly `otlphttp` (otlp 4.5).

use std::time::Duration;

use http::Uri;

use super::queue::{self, Sending};
use super::{auth, grpc_client, retry, tls};
use crate::config::plan::ExporterKind;
use crate::config::print::Out;
use crate::config::read::{Absent, Block, Kind};
use crate::net::tls::Protocol;
use crate::otlp::Signal;
use crate::rpc::Codec;
use crate::rpc::options::Keep;
use crate::rpc::proxy::{self, Proxy};
use crate::upstream::Options;
use crate::upstream::options::{Encoding, HttpOptions, MergeOptions, Protocol as Spoken};

/// The URLs of the signals, in the order of [`Signal::ALL`].
const ENDPOINTS: [&str; 3] = ["traces_endpoint", "metrics_endpoint", "logs_endpoint"];
const RIGHT: &str = "endpoint: http://backend:4318";

/// Reads the exporter; `signals` are those of the pipelines that use it.
pub fn read(b: &mut Block<'_>, signals: &[Signal], merge: &MergeOptions) -> ExporterKind {
    b.overlook_unknown();
    let endpoints = endpoints(b, signals);
    let https = endpoints.iter().any(|url| url.starts_with("https://"));
    if b.has("tls") && !https {
        b.note_at("tls", "has no effect: a URL of http:// is plaintext", "");
    }
    // As in the collector, `insecure` does not turn TLS off where the URL asks for it.
    let tls = tls::client(b, false, https, &[Protocol::Http1]).filter(|_| https);
    let encodings = [("proto", Encoding::Protobuf), ("json", Encoding::Json)];
    let encoding = b.choice("encoding", "proto", &encodings, Encoding::Protobuf);
    let timeout = b.duration_or_negative("timeout", Duration::from_secs(30));
    let (compression, compression_level) = compression(b);
    let headers = grpc_client::headers(b);
    let keep = keep(b);
    let proxy = proxy(b);
    let Sending { queue, merge, partition } = queue::read(b, Absent::On, merge);
    let retry = retry::read(b, true, false);
    without_effect(b);
    auth::key(b);
    b.refuse("middlewares", "client middlewares are not in this release", "");
    let proxies = [const { None }; 3].map(|_: Option<Proxy>| proxy.clone());
    let options = Options {
        tls: tls.map(Box::new),
        timeout,
        compression,
        compression_level,
        headers,
        user_agent: None,
        authority: None,
        keepalive: None,
        queue,
        retry,
        merge,
        protocol: Spoken::Http(Box::new(HttpOptions { encoding, keep, proxies })),
        auth: None,
        partition,
    };
    ExporterKind::OtlpHttp { endpoints, options: Box::new(options) }
}

/// The URL of each signal; empty where none is given, which is an error for signals in use.
fn endpoints(b: &mut Block<'_>, signals: &[Signal]) -> [String; 3] {
    let base = b.text("endpoint", "");
    check_url(b, "endpoint", &base);
    let own = ENDPOINTS.map(|key| {
        let url = b.text_if_given(key);
        check_url(b, key, &url);
        url
    });
    let profiles = b.has("profiles_endpoint");
    if profiles {
        b.ignore("profiles_endpoint", Kind::Text, "profiles are not in this release");
    }
    if base.is_empty() && !profiles && own.iter().all(String::is_empty) {
        b.error("at least one endpoint must be given", RIGHT);
        return own;
    }
    let slash = if base.ends_with('/') { "" } else { "/" };
    let mut urls = own;
    for (signal, url) in Signal::ALL.into_iter().zip(&mut urls) {
        if url.is_empty() && !base.is_empty() {
            *url = format!("{base}{slash}{}", &signal.http_path()[1..]);
        }
        if url.is_empty() && signals.contains(&signal) {
            let what = format!("{} wants endpoint or {0}_endpoint", signal.name());
            b.error(what, RIGHT);
        }
    }
    urls
}

/// What the collector finds when it builds, or only when it sends.
fn check_url(b: &Block<'_>, key: &str, url: &str) {
    if url.is_empty() {
        return;
    }
    match url.parse::<Uri>() {
        Err(e) => b.error_at(key, format!("\"{url}\" is no URL: {e}"), RIGHT),
        Ok(uri) => match (uri.scheme_str(), uri.host()) {
            (Some("http" | "https"), Some(host)) if !host.is_empty() => {
                if uri.authority().is_some_and(|a| a.as_str().contains('@')) {
                    let what = "name and password do not stand in a URL in this release";
                    b.refuse_at(key, what, "headers: {authorization: \"Basic ...\"}");
                }
            }
            (Some("http" | "https"), _) => b.error_at(key, "has no host", RIGHT),
            _ => {
                let what = format!("\"{url}\" has no scheme, so the collector could not send");
                b.start_error_at(key, what, &format!("{key}: http://{url}"));
            }
        },
    }
}

fn compression(b: &mut Block<'_>) -> (Codec, Option<i32>) {
    let given = b.node("compression").is_some();
    let choices = [
        ("gzip", Codec::Gzip),
        ("zlib", Codec::Zlib),
        ("deflate", Codec::Deflate),
        ("snappy", Codec::SnappyBlock),
        ("x-snappy-framed", Codec::Snappy),
        ("zstd", Codec::Zstd),
        ("lz4", Codec::Lz4),
        ("none", Codec::None),
        ("", Codec::None),
    ];
    let codec = b.choice("compression", "gzip", &choices, Codec::Gzip);
    if !given {
        grpc_client::note_gzip(b);
    }
    let mut level = 0;
    if b.has("compression_params") {
        level = b.block("compression_params", |b| {
            b.overlook_unknown();
            b.signed32("level", 0)
        });
    }
    let known = match codec {
        Codec::None | Codec::Zstd => true,
        Codec::Gzip | Codec::Zlib | Codec::Deflate => (-2..=9).contains(&level),
        _ => level == 0,
    };
    if !known {
        let what = format!("level {level} is none of this compression");
        b.error_at("compression_params", what, "compression_params: {level: 1}");
    }
    // Not given is the collector's middle level; here it is the fastest, which the README says.
    (codec, (level != 0).then_some(level))
}

/// Four keys moved under `keepalive` in v0.160; only one form may be used.
fn keep(b: &mut Block<'_>) -> Keep {
    let connections_max = b.signed("max_conns_per_host", 0);
    let idle_default = Duration::from_secs(90);
    let timeout = b
        .has("idle_conn_timeout")
        .then(|| b.unrecorded(|b| b.duration_or_negative("idle_conn_timeout", idle_default)));
    let most = b.has("max_idle_conns").then(|| b.unrecorded(|b| b.signed("max_idle_conns", 100)));
    let per_host = b
        .has("max_idle_conns_per_host")
        .then(|| b.unrecorded(|b| b.signed("max_idle_conns_per_host", 0)));
    let off =
        b.has("disable_keep_alives") && b.unrecorded(|b| b.flag("disable_keep_alives", false));
    let old = [
        ("idle_conn_timeout", timeout.is_some_and(|t| !t.is_zero())),
        ("max_idle_conns", most.is_some_and(|n| n != 0)),
        ("max_idle_conns_per_host", per_host.is_some_and(|n| n != 0)),
        ("disable_keep_alives", off),
    ];
    let is_old = old.iter().any(|(_, given)| *given);
    for (key, _) in old.iter().filter(|(_, given)| *given) {
        b.warn_at(key, "old form since v0.160", "keepalive: {idle_conn_timeout: 90s, ...}");
    }
    if b.has("keepalive") && is_old {
        let what = "cannot stand beside its old forms";
        b.error_at("keepalive", what, "keepalive: {idle_conn_timeout: 90s}");
    }
    let read = |b: &mut Block<'_>| {
        let idle_timeout =
            b.duration_or_negative("idle_conn_timeout", timeout.unwrap_or(idle_default));
        let most = b.signed("max_idle_conns", most.unwrap_or(100));
        let per_host = b.signed("max_idle_conns_per_host", per_host.unwrap_or(0));
        let limits = [most, per_host].into_iter().filter_map(|n| usize::try_from(n).ok());
        (idle_timeout, limits.filter(|n| *n > 0).min().unwrap_or(0))
    };
    let kept = match b.has("keepalive") {
        true => b.optional("keepalive", Absent::On, read),
        false => {
            let kept = if off {
                b.unrecorded(|b| b.block("keepalive", read))
            } else {
                b.block("keepalive", read)
            };
            Some(kept)
        }
    };
    let (idle_timeout, idle_max) = kept.unwrap_or((idle_default, 0));
    Keep {
        connections_max: usize::try_from(connections_max).unwrap_or(0),
        idle_max,
        idle_timeout,
        keep_alive: !off && kept.is_some(),
    }
}

fn proxy(b: &mut Block<'_>) -> Option<Proxy> {
    let url = b.unrecorded(|b| b.text_if_given("proxy_url"));
    if url.is_empty() {
        return None;
    }
    b.record("proxy_url", Out::text(&proxy::redacted(&url)));
    match Proxy::parse(&url) {
        Ok(proxy) => Some(proxy),
        Err(what) => {
            b.start_error_at("proxy_url", what, "proxy_url: http://proxy:3128");
            None
        }
    }
}

fn without_effect(b: &mut Block<'_>) {
    let own = "buffers are tracemill's own";
    b.ignore("read_buffer_size", Kind::Int, own);
    b.ignore("write_buffer_size", Kind::Int, own);
    let plain = "plaintext HTTP is HTTP/1.1, here and in the collector";
    b.ignore("http2_read_idle_timeout", Kind::Duration, plain);
    b.ignore("http2_ping_timeout", Kind::Duration, plain);
    b.ignore("force_attempt_http2", Kind::Flag, plain);
    if b.has("cookies") {
        b.refuse_at("cookies", "cookies are not kept in this release", "leave cookies out");
    }
}
