//! `health_check` extension (otlp 4.8), its first form; the form of the `useComponentStatus` gate
//! is refused by name.

use super::otlp_receiver::{listen_address, server};
use crate::config::plan::HealthCheck;
use crate::config::read::{Absent, Block, Kind};
use crate::net::options::Transport;
use crate::net::tls::Protocol;

const DEFAULT: &str = "localhost:13133";

/// Reads the extension.
pub fn read(b: &mut Block<'_>, id: &str) -> HealthCheck {
    let endpoint = b.text("endpoint", DEFAULT);
    let path = b.text("path", "/");
    if !path.starts_with('/') {
        b.error_at("path", format!("\"{path}\" must begin with /"), "path: /");
    }
    let response_body = b.optional("response_body", Absent::Off, |b| {
        (b.text("healthy", ""), b.text("unhealthy", ""))
    });
    let old = "it has had no effect in the collector either for a long time";
    b.ignore("check_collector_pipeline", Kind::Any, old);
    let second = "the second form of health_check is not in this release";
    for key in ["use_v2", "http", "grpc", "component_health"] {
        b.refuse(key, second, "endpoint, path and response_body");
    }
    b.refuse("cors", "CORS is not in this release", "");
    b.refuse("response_headers", "response headers are not in this release", "");
    let own = "this small server has limits of its own";
    for key in ["read_timeout", "read_header_timeout", "write_timeout", "idle_timeout"] {
        b.ignore(key, Kind::Duration, own);
    }
    b.ignore("max_request_body_size", Kind::Int, own);
    b.ignore("compression_algorithms", Kind::Texts, own);
    b.ignore("keep_alives_enabled", Kind::Flag, own);
    b.ignore("keepalive", Kind::Any, own);
    let (transport, _) = server(b, &[Protocol::Http1]);
    if transport == Transport::Unix {
        b.refuse_at("transport", "only TCP is in this release", "transport: tcp");
    }
    b.refuse("tls", "TLS of this page is not in this release", "leave tls out");
    let endpoint = listen_address(b, transport, endpoint, DEFAULT);
    b.refuse("auth", "authenticators of health_check are not in this release", "");
    b.ignore("include_metadata", Kind::Flag, "nothing is behind it");
    HealthCheck { id: id.to_owned(), endpoint, path, response_body }
}
