//! Logs and metrics through the balancer: what has an owner is there, and what has none is told
//! and counted.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use tracemill::route::{Generation, Ring};

use super::backend::Backend;
use super::client::{Client, Export, LOGS, METRICS, TRACES, frame, new_trace, request};
use super::process::Process;
use super::world::yaml;
use super::{run, until};

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn resource(service: Option<&str>) -> Option<Resource> {
    let attributes = service.map(|service| attribute("service.name", service));
    let attributes = attributes.into_iter().chain([attribute("host.name", "h")]).collect();
    Some(Resource { attributes, ..Resource::default() })
}

fn records(service: Option<&str>, ids: &[[u8; 16]]) -> ResourceLogs {
    let record = |id: &[u8; 16]| LogRecord { trace_id: id.to_vec(), ..LogRecord::default() };
    let log_records = ids.iter().map(record).collect();
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ResourceLogs { resource: resource(service), scope_logs, ..ResourceLogs::default() }
}

/// A gauge with so many points, each of another host.
fn points(service: Option<&str>, count: usize) -> ResourceMetrics {
    let point = |n| NumberDataPoint {
        attributes: vec![attribute("host", &format!("h{n}"))],
        ..NumberDataPoint::default()
    };
    let data = Some(Data::Gauge(Gauge { data_points: (0..count).map(point).collect() }));
    let metrics = vec![Metric { name: "load".into(), data, ..Metric::default() }];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    ResourceMetrics { resource: resource(service), scope_metrics, ..ResourceMetrics::default() }
}

fn logs(resource_logs: Vec<ResourceLogs>) -> Vec<u8> {
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

fn metrics(resource_metrics: Vec<ResourceMetrics>) -> Vec<u8> {
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

struct Stage {
    router: Process,
    backends: Vec<Backend>,
    ring: Ring,
    client: Client,
}

/// Three backends behind one balancer of logs and metrics.
async fn stage(keys: &str) -> Stage {
    let mut backends = Vec::new();
    for _ in 0..3 {
        let backend = Backend::new(None).await;
        backend.start().await;
        backends.push(backend);
    }
    let endpoints: Vec<String> = backends.iter().map(Backend::endpoint).collect();
    let balancer = format!(
        "  load_balancing:
    {keys}
    protocol: {{otlp: {{compression: none, tls: {{insecure: true}}}}}}
    resolver: {{static: {{hostnames: [{}]}}}}",
        endpoints.join(", ")
    );
    let pipelines = [("logs", "load_balancing"), ("metrics", "load_balancing")];
    let engine = "{cores: 1, pin: false, memory_limit_mib: 200}";
    let router = Process::start(&yaml(&balancer, &pipelines, engine)).await;
    let client = Client::connect(&router.address("Starting GRPC server")).await;
    Stage { router, backends, ring: Ring::new(Generation::V3, &endpoints), client }
}

impl Stage {
    async fn call(&self, path: &str, message: &[u8]) -> super::client::Answer {
        self.client.call(request(path, &[]), frame(0, message)).await
    }

    fn owner(&self, key: &str) -> usize {
        self.ring.owner_of_key(key.as_bytes()).unwrap().into()
    }

    /// What arrived at a backend, by signal.
    fn messages(&self, backend: usize, path: &str) -> Vec<Vec<u8>> {
        let calls = self.backends[backend].calls();
        calls.into_iter().filter(|call| call.path == path).map(|call| call.message).collect()
    }
}

#[test]
fn logs_and_metrics_go_by_their_service_and_metrics_without_one_are_counted() {
    run(async {
        let stage = stage("routing_key: service").await;
        let services = ["cart", "checkout", "frontend", "payment", "search"];
        let mut all: Vec<_> =
            services.iter().map(|service| records(Some(service), &[[1; 16], [2; 16]])).collect();
        all.push(records(None, &[[3; 16]]));
        let answer = stage.call(LOGS, &logs(all)).await;
        assert!(answer.is_ok(), "{answer:?}");
        let mut all: Vec<_> = services.iter().map(|service| points(Some(service), 3)).collect();
        all.push(points(None, 4));
        let answer = stage.call(METRICS, &metrics(all)).await;
        assert!(answer.is_ok(), "{answer:?}");
        let answer = stage.call(METRICS, &metrics(vec![points(None, 5)])).await;
        assert_eq!(answer.status, Some(13), "{answer:?}");
        let want = "Permanent error: unable to get service name from resource metric with \
                    attributes: map[host.name:h]";
        assert_eq!(answer.message, want);

        for backend in 0..3 {
            let mut seen: BTreeMap<String, usize> = BTreeMap::new();
            for message in stage.messages(backend, LOGS) {
                for rl in ExportLogsServiceRequest::decode(&*message).unwrap().resource_logs {
                    let records: usize = rl.scope_logs.iter().map(|s| s.log_records.len()).sum();
                    *seen.entry(service_of(rl.resource)).or_default() += records;
                }
            }
            let mut want: BTreeMap<String, usize> = BTreeMap::new();
            for (service, records) in services.map(|s| (s, 2)).into_iter().chain([("", 1)]) {
                if stage.owner(service) == backend {
                    want.insert(service.to_owned(), records);
                }
            }
            assert_eq!(seen, want, "at backend {backend}");
        }
        let page = stage.router.scrape().await;
        let of = |signal| [("data_type", signal)];
        let items =
            |what: &str, signal| page.sum(&format!("tracemill_exporter_{what}_items"), &of(signal));
        assert_eq!((items("offered", "logs"), items("sent", "logs")), (11, 11));
        assert_eq!((items("offered", "metrics"), items("sent", "metrics")), (19, 15));
        let lost = [("reason", "no_service_name"), ("data_type", "metrics")];
        assert_eq!(page.sum("tracemill_exporter_failed_items", &lost), 4);
        assert_eq!(page.sum("otelcol_receiver_accepted_metric_points", &[]), 19);
        assert_eq!(page.sum("otelcol_receiver_refused_metric_points", &[]), 5);
        assert_eq!(page.sum("otelcol_exporter_sent_log_records", &[]), 11);
        let is_told = || stage.router.log().contains("unable to get service name");
        until("the log says why some are lost", is_told).await;
    });
}

fn service_of(resource: Option<Resource>) -> String {
    let attributes = resource.unwrap_or_default().attributes;
    let service = attributes.into_iter().find(|attribute| attribute.key == "service.name");
    match service.and_then(|attribute| attribute.value?.value) {
        Some(Value::StringValue(service)) => service,
        _ => String::new(),
    }
}

#[test]
fn points_of_one_metric_go_to_several_backends_and_records_by_host() {
    run(async {
        let stage = stage("routing_key: attributes\n    routing_attributes: [host]").await;
        let answer = stage.call(METRICS, &metrics(vec![points(Some("cart"), 60)])).await;
        assert!(answer.is_ok(), "{answer:?}");
        let mut arrived = 0;
        for backend in 0..3 {
            for message in stage.messages(backend, METRICS) {
                let request = ExportMetricsServiceRequest::decode(&*message).unwrap();
                assert_eq!(service_of(request.resource_metrics[0].resource.clone()), "cart");
                let metric = &request.resource_metrics[0].scope_metrics[0].metrics[0];
                assert_eq!(metric.name, "load");
                let Some(Data::Gauge(gauge)) = &metric.data else { panic!("{metric:?}") };
                for point in &gauge.data_points {
                    let host = point.attributes[0].value.as_ref().unwrap().value.clone();
                    let Some(Value::StringValue(host)) = host else { panic!("{point:?}") };
                    assert_eq!(stage.owner(&format!("host={host}|")), backend);
                    arrived += 1;
                }
            }
        }
        assert_eq!(arrived, 60);
        let answer = stage.call(LOGS, &logs(vec![records(None, &[new_trace(); 7])])).await;
        assert!(answer.is_ok(), "{answer:?}");
        let owner = stage.owner("host=|");
        assert_eq!(stage.messages(owner, LOGS).len(), 1);
    });
}

#[test]
fn what_debug_shows_is_counted_as_sent_by_signal() {
    run(async {
        let pipelines = [("traces", "debug"), ("metrics", "debug"), ("logs", "debug/named")];
        let exporters = "  debug:\n  debug/named:";
        let router = Process::start(&yaml(exporters, &pipelines, "{pin: false}")).await;
        let client = Client::connect(&router.address("Starting GRPC server")).await;
        let id = new_trace();
        for (path, message) in [
            (TRACES, Export::of(&[id]).message),
            (METRICS, metrics(vec![points(None, 3)])),
            (LOGS, logs(vec![records(None, &[id])])),
        ] {
            assert!(client.call(request(path, &[]), frame(0, &message)).await.is_ok());
        }
        let page = router.scrape().await;
        for (name, exporter, items) in [
            ("otelcol_exporter_sent_spans", "debug", 2),
            ("otelcol_exporter_sent_metric_points", "debug", 3),
            ("otelcol_exporter_sent_log_records", "debug/named", 1),
        ] {
            assert_eq!(page.sum(name, &[("exporter", exporter)]), items, "{name}\n{}", page.0);
        }
    });
}
