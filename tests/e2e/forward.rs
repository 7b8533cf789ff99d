//! `forward`: what enters one pipeline leaves by another, each span once per way.

use super::backend::Backend;
use super::client::{Client, Export, TRACES, frame, request};
use super::process::Process;
use super::{run, until};

/// One receiver; its pipeline goes to `plain` itself and, through the connector, to `joined` and
/// behind a sampler to `sampled`.
fn yaml([plain, joined, sampled]: &[Backend; 3]) -> String {
    let exporter = |name: &str, backend: &Backend| {
        format!(
            "  otlp_grpc/{name}: {{endpoint: \"{}\", compression: none, tls: {{insecure: true}}}}\n",
            backend.endpoint()
        )
    };
    format!(
        "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\"}}}}}}}}
connectors: {{forward: , forward/more: }}
processors:
  tail_sampling:
    decision_wait: 100ms
    policies: [{{name: all, type: always_sample}}]
exporters:
{}{}{}service:
  telemetry:
    metrics:
      readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: 0}}}}}}}}]
  pipelines:
    traces/in: {{receivers: [otlp], exporters: [otlp_grpc/plain, forward, forward/more]}}
    traces/joined: {{receivers: [forward], exporters: [otlp_grpc/joined]}}
    traces/sampled:
      receivers: [forward/more]
      processors: [tail_sampling]
      exporters: [otlp_grpc/sampled]
tracemill: {{cores: 1, pin: false, memory_limit_mib: 200}}
",
        exporter("plain", plain),
        exporter("joined", joined),
        exporter("sampled", sampled)
    )
}

#[test]
fn a_request_goes_every_way_that_connectors_open() {
    run(async {
        let backends =
            [Backend::new(None).await, Backend::new(None).await, Backend::new(None).await];
        for backend in &backends {
            backend.start().await;
        }
        let process = Process::start(&yaml(&backends)).await;
        let client = Client::connect(&process.address("Starting GRPC server")).await;
        let mut sent = 0;
        for _ in 0..3 {
            let export = Export::new(40);
            sent += export.spans.len();
            let answer = client.call(request(TRACES, &[]), frame(0, &export.message)).await;
            assert!(answer.is_ok(), "{answer:?}");
        }
        until("all of it is everywhere", || backends.iter().all(|b| b.taken() == sent)).await;
    });
}
