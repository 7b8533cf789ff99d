//! Processors `resource` and `attributes` through the binary: in front of a balancer, in front of
//! a sampler and behind it, and where pipelines share a receiver.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use tracemill::route::{Generation, Ring};

use super::backend::Backend;
use super::client::{Client, TRACES, frame, new_trace, request};
use super::process::Process;
use super::{run, until};

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

/// One span of a resource with this service.
fn export(service: &str) -> Vec<u8> {
    let attributes = vec![attribute("service.name", service), attribute("secret", "s")];
    let spans =
        vec![Span { trace_id: new_trace().to_vec(), span_id: vec![1; 8], ..Span::default() }];
    let resource_spans = vec![ResourceSpans {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans: vec![ScopeSpans { spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn words(attributes: &[KeyValue]) -> String {
    let word = |kv: &KeyValue| match kv.value.as_ref().and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(text)) => format!("{}={text}", kv.key),
        other => format!("{}={other:?}", kv.key),
    };
    attributes.iter().map(word).collect::<Vec<_>>().join(" ")
}

/// Resource and span attributes of everything that a backend has taken.
fn taken(backend: &Backend) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for call in backend.calls() {
        let request = ExportTraceServiceRequest::decode(&call.message[..]).unwrap();
        for r in request.resource_spans {
            let resource = words(&r.resource.unwrap_or_default().attributes);
            let spans = r.scope_spans.into_iter().flat_map(|s| s.spans);
            all.extend(spans.map(|span| (resource.clone(), words(&span.attributes))));
        }
    }
    all.sort();
    all
}

async fn backend() -> Backend {
    let backend = Backend::new(None).await;
    backend.start().await;
    backend
}

async fn start(rest: &str) -> (Process, Client) {
    let process = Process::start(&format!(
        "receivers:
  otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:0\"}}}}}}
{rest}
  telemetry:
    metrics:
      readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: 0}}}}}}}}]
tracemill: {{cores: 2, pin: false, memory_limit_mib: 200}}
"
    ))
    .await;
    let client = Client::connect(&process.address("Starting GRPC server")).await;
    (process, client)
}

async fn send(client: &Client, service: &str) {
    let answer = client.call(request(TRACES, &[]), frame(0, &export(service))).await;
    assert!(answer.is_ok(), "{answer:?}");
}

fn store(name: &str, endpoint: &str) -> String {
    format!(
        "otlp_grpc/{name}: {{endpoint: {endpoint}, compression: none, tls: {{insecure: true}}}}"
    )
}

#[test]
fn the_balancer_routes_by_the_service_that_a_processor_has_set() {
    run(async {
        let backends = [backend().await, backend().await, backend().await];
        let endpoints: Vec<String> = backends.iter().map(Backend::endpoint).collect();
        let (_process, client) = start(&format!(
            "processors:
  resource: {{attributes: [{{key: service.name, value: fixed, action: update}},
    {{key: secret, action: delete}}, {{key: cluster, value: eu, action: insert}}]}}
  attributes: {{actions: [{{key: region, value: r1, action: insert}}]}}
exporters:
  load_balancing:
    routing_key: service
    protocol: {{otlp: {{compression: none, tls: {{insecure: true}}}}}}
    resolver: {{static: {{hostnames: [{}]}}}}
service:
  pipelines:
    traces: {{receivers: [otlp], processors: [resource, attributes], exporters: [load_balancing]}}",
            endpoints.join(", ")
        ))
        .await;
        for service in ["a", "b", "c", "d", "e", "f"] {
            send(&client, service).await;
        }
        let mut sorted = endpoints.clone();
        sorted.sort();
        let ring = Ring::new(Generation::V3, &sorted);
        let owner = &sorted[usize::from(ring.owner_of_key(b"service.name=fixed|").unwrap())];
        let owner = backends.iter().find(|backend| backend.endpoint() == *owner).unwrap();
        until("all are there", || taken(owner).len() == 6).await;
        let want = ("service.name=fixed cluster=eu".to_owned(), "region=r1".to_owned());
        assert!(taken(owner).iter().all(|got| *got == want), "{:?}", taken(owner));
    });
}

#[test]
fn the_sampler_sees_what_stands_before_it_and_its_store_what_stands_behind() {
    run(async {
        let backend = backend().await;
        let (_process, client) = start(&format!(
            "processors:
  resource: {{attributes: [{{key: tier, from_attribute: service.name, action: insert}}]}}
  resource/after: {{attributes: [{{key: tier, action: delete}},
    {{key: kept, value: 'yes', action: insert}}]}}
  attributes/after: {{actions: [{{key: late, value: 'yes', action: upsert}}]}}
  tail_sampling:
    decision_wait: 1s
    policies: [{{name: t, type: string_attribute, string_attribute: {{key: tier, values: [gold]}}}}]
exporters: {{{}}}
service:
  pipelines:
    traces:
      receivers: [otlp]
      processors: [resource, tail_sampling, resource/after, attributes/after]
      exporters: [otlp_grpc/a]",
            store("a", &backend.endpoint())
        ))
        .await;
        for service in ["gold", "lead", "gold", "tin"] {
            send(&client, service).await;
        }
        until("the kept ones are there", || taken(&backend).len() == 2).await;
        let want = ("service.name=gold secret=s kept=yes".to_owned(), "late=yes".to_owned());
        assert_eq!(taken(&backend), [want.clone(), want]);
    });
}

#[test]
fn pipelines_of_one_receiver_edit_each_for_itself() {
    run(async {
        let backends = [backend().await, backend().await, backend().await];
        let stores: Vec<_> =
            ["a", "b", "c"].iter().zip(&backends).map(|(n, b)| store(n, &b.endpoint())).collect();
        let (process, client) = start(&format!(
            "processors:
  resource/a: {{attributes: [{{key: secret, action: delete}}]}}
  resource/b: {{attributes: [{{key: secret, value: none, action: update}}]}}
exporters: {{{}}}
connectors: {{forward: }}
service:
  pipelines:
    traces/a: {{receivers: [otlp], processors: [resource/a], exporters: [otlp_grpc/a, forward]}}
    traces/b: {{receivers: [otlp], processors: [resource/b], exporters: [otlp_grpc/b, forward]}}
    traces/c: {{receivers: [forward], exporters: [otlp_grpc/c]}}",
            stores.join(", ")
        ))
        .await;
        send(&client, "x").await;
        let of = |at: usize| taken(&backends[at]).into_iter().map(|t| t.0).collect::<Vec<_>>();
        until("all are there", || of(2).len() == 2).await;
        assert_eq!(of(0), ["service.name=x"]);
        assert_eq!(of(1), ["service.name=x secret=none"]);
        assert_eq!(of(2), ["service.name=x", "service.name=x secret=none"]);
        let page = process.scrape().await;
        assert_eq!(page.sum("otelcol_receiver_accepted_spans", &[]), 1, "counted once");
    });
}
