//! What leaves over OTLP/HTTP: every encoding to a tracemill that hands it to a backend, and
//! servers that answer badly, slowly, or not at all.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::backend::Backend;
use super::client::{Client, Export, TRACES, frame, request};
use super::process::Process;
use super::world::yaml;
use super::{run, until};

const ENGINE: &str = "{cores: 1, pin: false, spin: 0s, memory_limit_mib: 200, ack_wait: 60s}";
const RETRY: &str = "{initial_interval: 20ms, max_interval: 100ms, max_elapsed_time: 300s}";

fn exporter(url: &str, more: &str) -> String {
    format!("  otlp_http:\n    endpoint: {url}\n    retry_on_failure: {RETRY}\n    {more}")
}

async fn send(client: &Client, export: &Export) {
    let answer = client.call(request(TRACES, &[]), frame(0, &export.message)).await;
    assert!(answer.is_ok(), "{answer:?}");
}

#[test]
fn every_encoding_arrives_whole() {
    run(async {
        let backend = Backend::new(None).await;
        backend.start().await;
        let endpoint = backend.endpoint();
        let inner = format!(
            "  otlp_grpc: {{endpoint: \"{endpoint}\", compression: none, tls: {{insecure: true}}}}"
        );
        let inner = Process::start(&yaml(&inner, &[("traces", "otlp_grpc")], ENGINE)).await;
        let url = format!("http://{}", inner.address("Starting HTTP server"));
        let mut spans = 0;
        for more in [
            "compression: none",
            "encoding: json\n    compression: none",
            "encoding: json",
            "compression: gzip\n    compression_params: {level: 9}",
            "compression: zlib",
            "compression: deflate",
            "compression: snappy",
            "compression: x-snappy-framed",
            "compression: zstd",
            "compression: lz4",
            "compression: none\n    keepalive: {enabled: false}",
            "compression: none\n    max_conns_per_host: 1",
        ] {
            let outer = yaml(&exporter(&url, more), &[("traces", "otlp_http")], ENGINE);
            let outer = Process::start(&outer).await;
            let client = Client::connect(&outer.address("Starting GRPC server")).await;
            for _ in 0..3 {
                let export = Export::new(8);
                spans += export.spans.len();
                send(&client, &export).await;
                until("its spans have arrived", || backend.taken() >= spans).await;
            }
            let metrics = outer.scrape().await;
            assert_eq!(metrics.items("failed"), 0, "{more}: {}", outer.log());
        }
        assert_eq!(backend.taken(), spans);
    });
}

/// A server that answers each request with the next of its texts, the last one for ever.
struct Scripted {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    async fn start(answers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(Self::converse(stream, answers, Arc::clone(&seen)));
            }
        });
        Self { url, requests }
    }

    async fn converse(
        mut stream: TcpStream,
        answers: &'static [&'static str],
        seen: Arc<Mutex<Vec<String>>>,
    ) {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let head = String::from_utf8(head).unwrap();
            let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).await.unwrap();
            let answer = {
                let mut seen = seen.lock().unwrap();
                seen.push(head);
                answers[(seen.len() - 1).min(answers.len() - 1)]
            };
            if stream.write_all(answer.as_bytes()).await.is_err() || !answer.contains("length") {
                return;
            }
        }
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// One request through a router whose backend answers so; its metrics when nothing is held.
async fn through(answers: &'static [&'static str], more: &str) -> (Scripted, Process, u64) {
    let server = Scripted::start(answers).await;
    let yaml = yaml(&exporter(&server.url, more), &[("traces", "otlp_http")], ENGINE);
    let router = Process::start(&yaml).await;
    let client = Client::connect(&router.address("Starting GRPC server")).await;
    let answer = client.call(request(TRACES, &[]), frame(0, &Export::new(4).message)).await;
    assert!(answer.status.is_some());
    let mut failed = 0;
    super::settle("nothing is held", async || {
        let metrics = router.scrape().await;
        failed = metrics.items("failed");
        (metrics.items("in_flight") == 0 && metrics.items("offered") > 0).then_some(())
    })
    .await;
    (server, router, failed)
}

#[test]
fn what_may_succeed_later_is_sent_again_and_what_may_not_is_not() {
    run(async {
        let (server, _, failed) = through(
            &[
                "HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n",
                "HTTP/1.1 429 X\r\ncontent-length: 0\r\n\r\n",
                "HTTP/1.1 502 X\r\ncontent-length: 4\r\n\r\n<br>",
                "HTTP/1.1 504 X\r\ntransfer-encoding: chunked\r\nx-length: 0\r\n\r\n0\r\n\r\n",
                "",
                OK,
            ],
            "compression: none",
        )
        .await;
        assert_eq!((server.count(), failed), (6, 0));
        for permanent in [
            &["HTTP/1.1 400 X\r\ncontent-length: 0\r\n\r\n"][..],
            &["HTTP/1.1 500 X\r\ncontent-length: 0\r\n\r\n"],
            &["HTTP/1.1 307 X\r\nlocation: /\r\ncontent-length: 0\r\n\r\n"],
        ] {
            let (server, router, failed) = through(permanent, "compression: none").await;
            assert!(failed > 0 && server.count() == 1, "{permanent:?}: {}", router.log());
        }
    });
}

#[test]
fn connections_that_end_after_each_answer_are_made_anew() {
    run(async {
        const CLOSING: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}";
        let server = Scripted::start(&[CLOSING]).await;
        let more = "compression: none";
        let yaml = yaml(&exporter(&server.url, more), &[("traces", "otlp_http")], ENGINE);
        let router = Process::start(&yaml).await;
        let client = Client::connect(&router.address("Starting GRPC server")).await;
        for sent in 1..=20 {
            send(&client, &Export::new(4)).await;
            until("it was sent", || server.count() == sent).await;
        }
        assert_eq!(router.scrape().await.items("failed"), 0);
    });
}

#[test]
fn requests_have_the_headers_of_the_collector_and_the_users() {
    run(async {
        const REPLY: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 63\r\n\r\n\
                     {\"partialSuccess\":{\"rejectedSpans\":\"3\",\"errorMessage\":\"a few\"}}";
        let more = "encoding: json\n    headers: {x-tenant: a, User-Agent: mine}";
        let (server, router, failed) = through(&[REPLY], more).await;
        let head = server.requests.lock().unwrap()[0].clone();
        let host = server.url.strip_prefix("http://").unwrap();
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        for line in [
            &format!("host: {host}"),
            "content-type: application/json",
            "content-encoding: gzip",
            "x-tenant: a",
            "user-agent: mine",
        ] {
            assert!(head.contains(&format!("{line}\r\n")), "{line}: {head}");
        }
        assert_eq!(failed, 0);
        let rejected = "tracemill_exporter_partial_success_rejected_items";
        assert_eq!(router.scrape().await.sum(rejected, &[]), 3);
        until("it is told", || router.log().contains("a few")).await;
    });
}

#[test]
fn a_proxy_gets_the_whole_url() {
    run(async {
        let proxy = Scripted::start(&[OK]).await;
        let more =
            format!("compression: none\n    proxy_url: {}", proxy.url.replace("//", "//u:p@"));
        let yaml =
            yaml(&exporter("http://far.invalid/x", &more), &[("traces", "otlp_http")], ENGINE);
        let router = Process::start(&yaml).await;
        let client = Client::connect(&router.address("Starting GRPC server")).await;
        send(&client, &Export::new(4)).await;
        until("it was sent", || proxy.count() == 1).await;
        let head = proxy.requests.lock().unwrap()[0].clone();
        assert!(head.starts_with("POST http://far.invalid/x/v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("host: far.invalid\r\n"), "{head}");
        assert!(head.contains("proxy-authorization: Basic dTpw\r\n"), "{head}");
    });
}
