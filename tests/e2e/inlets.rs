//! What comes in otherwise: other encodings, OTLP/HTTP, other signals.

use std::io::Write as _;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::backend::Backend;
use super::client::{Answer, Client, LOGS, METRICS, frame, request};
use super::process::Process;
use super::world::{Setup, World, yaml};
use super::{client, run};

fn gzip(message: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(message).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn requests_in_every_encoding_arrive() {
    run(async {
        let world = World::start(Setup { compression: "gzip", ..Setup::default() }).await;
        let client = world.client().await;
        for encoding in ["gzip", "zstd", "snappy"] {
            let export = world.for_each(4);
            let packed = match encoding {
                "gzip" => gzip(&export.message),
                "zstd" => zstd::encode_all(&export.message[..], 1).unwrap(),
                _ => {
                    let mut snappy = snap::write::FrameEncoder::new(Vec::new());
                    snappy.write_all(&export.message).unwrap();
                    snappy.into_inner().unwrap()
                }
            };
            let request = request(client::TRACES, &[("grpc-encoding", encoding)]);
            let answer = client.call(request, frame(1, &packed)).await;
            assert!(answer.is_ok(), "{encoding}: {answer:?}");
            world.note(export, answer);
        }
        world.judge_lossless().await;
        let calls = world.backends.iter().flat_map(Backend::calls);
        assert!(calls.into_iter().all(|c| c.encoding == "gzip"));
    });
}

/// One POST over HTTP/1.1; status and body.
pub(crate) async fn post(address: &str, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!(
        "POST /v1/traces HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\
         content-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).await.unwrap();
    let end = reply.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let status = std::str::from_utf8(&reply[9..12]).unwrap().parse().unwrap();
    (status, reply[end..].to_vec())
}

#[test]
fn otlp_http_takes_protobuf() {
    run(async {
        let world = World::start(Setup::default()).await;
        let address = world.router.address("Starting HTTP server");
        let kind = "content-type: application/x-protobuf\r\n";
        let packed = format!("{kind}content-encoding: gzip\r\n");
        for headers in [kind, &packed] {
            let export = world.for_each(4);
            let body = if headers == kind { export.message.clone() } else { gzip(&export.message) };
            let (http, body) = post(&address, headers, &body).await;
            assert_eq!(http, 200);
            let answer = Answer { http, status: Some(0), body, ..Answer::default() };
            assert_eq!(answer.rejected().0, 0);
            world.note(export, answer);
        }
        let json = "content-type: application/json\r\n";
        let empty = (200, br#"{"partialSuccess":{}}"#.to_vec());
        assert_eq!(post(&address, json, b"{}").await, empty);
        assert_eq!(post(&address, json, b"[]").await.0, 400);
        assert_eq!(post(&address, kind, &[0x08, 1]).await.0, 400);
        let metrics = world.judge_lossless().await;
        let http = metrics.sum("otelcol_receiver_accepted_spans", &[("transport", "http")]);
        assert_eq!(http, 48);
    });
}

#[test]
fn logs_and_metrics_pass_through_byte_for_byte() {
    run(async {
        let backend = Backend::new(None).await;
        backend.start().await;
        let exporter = format!(
            "  otlp_grpc:
    endpoint: {}
    compression: none
    tls: {{insecure: true}}",
            backend.endpoint()
        );
        let pipelines = [("logs", "otlp_grpc"), ("metrics", "otlp_grpc")];
        let engine = "{cores: 1, pin: false, memory_limit_mib: 200}";
        let router = Process::start(&yaml(&exporter, &pipelines, engine)).await;
        let client = Client::connect(&router.address("Starting GRPC server")).await;
        // resource_logs { scope_logs { log_records { body } } } with an unknown field 99 at the
        // front and an overlong length: a decoder would write both otherwise.
        let log: &[u8] = &[
            0x9a, 0x06, 2, 5, 6, 0x0a, 0x8b, 0, 0x12, 9, 0x12, 7, 0x2a, 5, 0x0a, 3, b'a', b'b',
            b'c',
        ];
        // resource_metrics { scope_metrics { metrics { gauge { data_points } } } }
        let metric: &[u8] =
            &[0x0a, 15, 0x12, 13, 0x12, 11, 0x2a, 9, 0x0a, 0x86, 0, 0x9a, 0x06, 3, 1, 2, 3];
        for (path, message) in [(LOGS, log), (METRICS, metric), (LOGS, log)] {
            let answer = client.call(request(path, &[]), frame(0, message)).await;
            assert!(answer.is_ok(), "{answer:?}");
        }
        let calls = backend.calls();
        let got: Vec<_> = calls.iter().map(|c| (&*c.path, &*c.message)).collect();
        assert_eq!(got, [(LOGS, log), (METRICS, metric), (LOGS, log)]);
        let answer = client.call(request(client::TRACES, &[]), frame(0, &[])).await;
        assert_eq!(answer.status, Some(12), "no pipeline takes traces");
        let metrics = router.scrape().await;
        assert_eq!(metrics.sum("otelcol_receiver_accepted_log_records", &[]), 2);
        assert_eq!(metrics.sum("otelcol_receiver_accepted_metric_points", &[]), 1);
    });
}
