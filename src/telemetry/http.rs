//! The admin pages over HTTP/1: metrics and health.
//!
//! Both run on the control thread as futures that never end; dropping one closes its listener and
//! connections. Connections are few, short and serve one request each, so a stalled or hostile
//! client costs a bounded number of sockets for a bounded time.
//!
//! Not here: TLS, authentication, compression.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use super::options::HealthCheck;
use super::{page, stamp};
use crate::time::Instant;

/// Connections served at once by one listener; more wait in the kernel's backlog.
const CONNECTIONS_MAX: usize = 64;
/// Time for a request's header to arrive.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a connection as a whole.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's header.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Wait after a failed accept, which is most often a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

type Page = Response<Full<Bytes>>;

/// A page cannot be served at the address that the configuration gives.
#[derive(Debug)]
pub struct ListenError {
    /// Key of the address, with `::` between its parts.
    pub key: String,
    /// Address as written.
    pub endpoint: String,
    /// What the system said.
    pub source: io::Error,
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, endpoint, source } = self;
        if source.kind() == io::ErrorKind::AddrInUse {
            return write!(f, "{key}: {endpoint} is in use: another process listens there");
        }
        write!(f, "{key}: cannot listen on {endpoint}: {source}")
    }
}

impl std::error::Error for ListenError {}

/// Listens on `endpoint` (`host:port`; no host is every interface). `key` names it in the error.
/// Blocks while a name is looked up, so it is called at start.
pub fn listen(key: &str, endpoint: &str) -> Result<TcpListener, ListenError> {
    let listener = addresses(endpoint).and_then(|addresses| TcpListener::bind(&addresses[..]));
    let listener = listener.and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    let failed =
        |source| ListenError { key: key.to_owned(), endpoint: endpoint.to_owned(), source };
    listener.map_err(failed)
}

/// IPv4 first, as Go listens on `localhost`: clients that try 127.0.0.1 alone are common.
fn addresses(endpoint: &str) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = match endpoint.strip_prefix(':') {
        Some(port) => {
            let every = |host| format!("{host}:{port}").to_socket_addrs();
            return Ok(every("[::]")?.chain(every("0.0.0.0")?).collect());
        }
        None => endpoint.to_socket_addrs()?.collect(),
    };
    addresses.sort_by_key(SocketAddr::is_ipv6);
    // One that is in use is an error, not a reason to listen elsewhere.
    addresses.truncate(1);
    Ok(addresses)
}

/// Serves what `render` makes of each request to `/metrics`; other paths are not found. Ends only
/// with an error of the listener.
pub async fn serve_metrics<F, Fut>(listener: TcpListener, render: F) -> io::Result<Infallible>
where
    F: Fn() -> Fut,
    Fut: Future<Output = String>,
{
    let render = &render;
    serve(listener, |request: Request<Incoming>| async move {
        if request.uri().path() != "/metrics" {
            return not_found();
        }
        answer(StatusCode::OK, page::CONTENT_TYPE, render().await)
    })
    .await
}

/// Whether the process takes data, as `health_check` tells it.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<Option<Up>>>);

#[derive(Clone, Copy, Debug)]
struct Up {
    since: Instant,
    wall: SystemTime,
}

impl Health {
    /// From now on available; both clocks read now. Not a new start if it was available already.
    pub fn ready(&self, now: Instant, wall: SystemTime) {
        self.lock().get_or_insert(Up { since: now, wall });
    }

    /// From now on not available.
    pub fn unavailable(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Up>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// otlp 4.8: code, type and body. With a `response_body` the body says no more than that.
    fn answer(&self, check: &HealthCheck, now: Instant) -> Page {
        let up = *self.lock();
        let code = if up.is_some() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        if let Some((healthy, unhealthy)) = &check.response_body {
            let body = if up.is_some() { healthy } else { unhealthy };
            return answer(code, TEXT, body.clone());
        }
        let (status, since, uptime) = match up {
            Some(up) => ("available", stamp::nanos(up.wall), stamp::duration(now.since(up.since))),
            None => ("not available", "0001-01-01T00:00:00Z".to_owned(), String::new()),
        };
        let body =
            format!(r#"{{"status":"Server {status}","upSince":"{since}","uptime":"{uptime}"}}"#);
        answer(code, "application/json", body)
    }
}

/// Serves `health` at the path of `check`; `now` reads the clock. Ends only with an error of the
/// listener.
pub async fn serve_health(
    listener: TcpListener,
    check: &HealthCheck,
    health: &Health,
    now: impl Fn() -> Instant,
) -> io::Result<Infallible> {
    let now = &now;
    serve(listener, |request: Request<Incoming>| async move {
        if !covers(&check.path, request.uri().path()) {
            return not_found();
        }
        health.answer(check, now())
    })
    .await
}

/// Go's mux: a pattern that ends in a slash takes the paths below it too.
fn covers(pattern: &str, path: &str) -> bool {
    path == pattern || (pattern.ends_with('/') && path.starts_with(pattern))
}

fn answer(code: StatusCode, content_type: &'static str, body: String) -> Page {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

fn not_found() -> Page {
    let mut response = answer(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned());
    let no_sniff = HeaderName::from_static("x-content-type-options");
    response.headers_mut().insert(no_sniff, HeaderValue::from_static("nosniff"));
    response
}

async fn serve<F, Fut>(listener: TcpListener, respond: F) -> io::Result<Infallible>
where
    F: Fn(Request<Incoming>) -> Fut,
    Fut: Future<Output = Page>,
{
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let mut open = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if open.len() < CONNECTIONS_MAX => match accepted {
                Ok((stream, _)) => open.push(connection(stream, &respond)),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(()) = open.next(), if !open.is_empty() => {}
        }
    }
}

/// Serves one request. What goes wrong is the client's loss alone.
async fn connection<F, Fut>(stream: TcpStream, respond: &F)
where
    F: Fn(Request<Incoming>) -> Fut,
    Fut: Future<Output = Page>,
{
    let service = hyper::service::service_fn(|request| {
        let response = respond(request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, served).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// What a server answers to `request`, read to its end.
    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply).await;
        String::from_utf8(reply).unwrap()
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        ask(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
    }

    /// Runs `client` beside `server` on one thread, as the control thread does.
    fn beside<T>(server: impl FnOnce(TcpListener) -> T, client: impl AsyncFnOnce(SocketAddr))
    where
        T: Future<Output = io::Result<Infallible>>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let listener = listen("test", "127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        runtime.block_on(async {
            tokio::select! {
                ended = server(listener) => panic!("{ended:?}"),
                () = client(address) => {}
            }
        });
    }

    fn check(path: &str, response_body: Option<(&str, &str)>) -> HealthCheck {
        HealthCheck {
            id: "health_check".to_owned(),
            endpoint: "localhost:13133".to_owned(),
            path: path.to_owned(),
            response_body: response_body.map(|(a, b)| (a.to_owned(), b.to_owned())),
        }
    }

    #[test]
    fn metrics_are_fresh_at_their_path_and_nowhere_else() {
        let scrapes = std::cell::Cell::new(0);
        let render = || {
            scrapes.set(scrapes.get() + 1);
            std::future::ready(format!("up {}\n", scrapes.get()))
        };
        beside(
            |listener| serve_metrics(listener, render),
            async |address| {
                let first = get(address, "/metrics?x=1").await;
                assert!(first.starts_with("HTTP/1.1 200 OK\r\n"), "{first}");
                assert!(first.contains(&format!("content-type: {}\r\n", page::CONTENT_TYPE)));
                assert!(first.ends_with("\r\n\r\nup 1\n"), "{first}");
                assert!(get(address, "/metrics").await.ends_with("\r\n\r\nup 2\n"));
                for path in ["/", "/metrics/", "/metricsx"] {
                    let missing = get(address, path).await;
                    assert!(missing.starts_with("HTTP/1.1 404 Not Found\r\n"), "{missing}");
                    assert!(missing.contains("x-content-type-options: nosniff\r\n"));
                    assert!(missing.ends_with("\r\n\r\n404 page not found\n"), "{missing}");
                }
            },
        );
    }

    #[test]
    fn garbage_and_an_endless_header_cost_their_own_connection() {
        let render = || std::future::ready("ok\n".to_owned());
        beside(
            |listener| serve_metrics(listener, render),
            async |address| {
                let garbage = ask(address, "\x16\x03\x01 hello\r\n\r\n").await;
                assert!(garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
                let endless = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(HEADER_BYTES_MAX));
                let endless = ask(address, &endless).await;
                assert!(endless.starts_with("HTTP/1.1 431 "), "{endless}");
                let mut stalled = Vec::new();
                for _ in 1..CONNECTIONS_MAX {
                    stalled.push(TcpStream::connect(address).await.unwrap());
                }
                assert!(get(address, "/metrics").await.ends_with("\r\n\r\nok\n"));
            },
        );
    }

    /// Bodies and codes are those of a real collector v0.161.
    #[test]
    fn health_reads_like_the_collectors() {
        let health = Health::default();
        let (check, now) = (check("/", None), Instant(8_568_568_311));
        let wall = SystemTime::UNIX_EPOCH + Duration::from_nanos(1_795_347_549_145_790_791);
        beside(
            |listener| serve_health(listener, &check, &health, || now),
            async |address| {
                let down = get(address, "/").await;
                assert!(down.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{down}");
                let body = "{\"status\":\"Server not available\",\
                    \"upSince\":\"0001-01-01T00:00:00Z\",\"uptime\":\"\"}";
                assert!(down.ends_with(&format!("\r\n\r\n{body}")), "{down}");

                health.ready(Instant(2_500_000_000), wall);
                health.ready(Instant(3_000_000_000), SystemTime::UNIX_EPOCH);
                for path in ["/", "/any/path"] {
                    let up = get(address, path).await;
                    assert!(up.starts_with("HTTP/1.1 200 OK\r\n"), "{up}");
                    assert!(up.contains("content-type: application/json\r\n"), "{up}");
                    let body = "{\"status\":\"Server available\",\
                        \"upSince\":\"2026-11-22T11:39:09.145790791Z\",\
                        \"uptime\":\"6.068568311s\"}";
                    assert!(up.ends_with(&format!("\r\n\r\n{body}")), "{up}");
                }

                health.unavailable();
                assert!(get(address, "/").await.starts_with("HTTP/1.1 503 "));
            },
        );
    }

    #[test]
    fn health_has_a_path_and_bodies_of_the_users_choice() {
        let health = Health::default();
        let check = check("/healthy", Some(("fine", "bad")));
        beside(
            |listener| serve_health(listener, &check, &health, Instant::default),
            async |address| {
                let down = get(address, "/healthy").await;
                assert!(down.starts_with("HTTP/1.1 503 ") && down.ends_with("\r\n\r\nbad"));
                health.ready(Instant(0), SystemTime::UNIX_EPOCH);
                let up = get(address, "/healthy").await;
                assert!(up.starts_with("HTTP/1.1 200 ") && up.ends_with("\r\n\r\nfine"));
                assert!(up.contains(&format!("content-type: {TEXT}\r\n")), "{up}");
                for path in ["/", "/healthy/", "/healthyx"] {
                    assert!(get(address, path).await.starts_with("HTTP/1.1 404 "), "{path}");
                }
            },
        );
    }

    #[test]
    fn a_pattern_with_a_final_slash_covers_what_is_below() {
        for (pattern, path, want) in
            [("/", "/x", true), ("/a/", "/a/b", true), ("/a", "/a/b", false), ("/a/", "/b", false)]
        {
            assert_eq!(covers(pattern, path), want, "{pattern} {path}");
        }
    }

    #[test]
    fn a_port_in_use_is_named_with_its_key() {
        let held = listen("a", "127.0.0.1:0").unwrap();
        let endpoint = held.local_addr().unwrap().to_string();
        let error = listen("service::telemetry::metrics::readers", &endpoint).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "service::telemetry::metrics::readers: {endpoint} is in use: \
                 another process listens there"
            )
        );
        let error = listen("extensions::health_check::endpoint", "nonsense").unwrap_err();
        let want = "extensions::health_check::endpoint: cannot listen on nonsense: ";
        assert!(error.to_string().starts_with(want), "{error}");
    }

    #[test]
    fn localhost_is_ipv4_and_no_host_is_every_interface() {
        assert!(addresses("localhost:0").unwrap()[0].is_ipv4());
        assert!(addresses(":0").unwrap().iter().all(|address| address.ip().is_unspecified()));
    }
}
