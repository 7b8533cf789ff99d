//! Cutting by every routing key: prost decodes the parts, and what a receiver can tell of each
//! item must be what it could tell of it in the request. Who owns what is judged by recordings of
//! the collector (`tests/routing_keys.rs`); here an owner is whoever got an item, and must get it
//! again when the part is cut anew.

use super::*;
use tracemill::route::Key;

/// An item as a receiver sees it: resource, scope, and the metric without its points; the item.
type Seen = (Vec<u8>, Vec<u8>, Vec<u8>);

fn names() -> Vec<String> {
    ["k0", "span.name", "k1", "log.body", "service.name"].map(ToOwned::to_owned).to_vec()
}

fn keys(signal: Signal) -> Vec<Key> {
    let known = ["traceID", "service", "resource", "metric", "streamID", "attributes"];
    known.iter().filter_map(|key| Key::of(signal, key, &names())).collect()
}

fn named_resource(random: &mut Random) -> Option<Resource> {
    let mut resource = resource(random)?;
    if random.chance(0.7) {
        let value = Value::StringValue(format!("service-{}", random.below(5)));
        let value = Some(AnyValue { value: Some(value) });
        let key = "service.name".to_owned();
        resource.attributes.push(KeyValue { key, value, ..KeyValue::default() });
    }
    Some(resource)
}

fn record(random: &mut Random) -> LogRecord {
    LogRecord {
        time_unix_nano: random.next_u64(),
        severity_text: random.pick(&["", "INFO"]).to_string(),
        body: Some(AnyValue { value: Some(Value::IntValue(random.below(3).cast_signed())) }),
        attributes: attributes(random),
        trace_id: some_trace_id(random),
        ..LogRecord::default()
    }
}

fn logs(random: &mut Random) -> ExportLogsServiceRequest {
    let scope_logs = |random: &mut Random| ScopeLogs {
        scope: scope(random),
        log_records: (0..random.below(6)).map(|_| record(random)).collect(),
        schema_url: schema_url(random),
    };
    let resource_logs = |random: &mut Random| ResourceLogs {
        resource: named_resource(random),
        scope_logs: (0..random.below(3)).map(|_| scope_logs(random)).collect(),
        schema_url: schema_url(random),
    };
    ExportLogsServiceRequest {
        resource_logs: (0..random.below(4)).map(|_| resource_logs(random)).collect(),
    }
}

fn point(random: &mut Random) -> NumberDataPoint {
    let (time_unix_nano, attributes) = (random.next_u64(), attributes(random));
    NumberDataPoint { time_unix_nano, attributes, ..NumberDataPoint::default() }
}

fn some_metric(random: &mut Random) -> Metric {
    let n = random.below(6);
    let time_unix_nano = random.next_u64();
    let data = match random.below(6) {
        0 => Some(Data::Gauge(Gauge { data_points: (0..n).map(|_| point(random)).collect() })),
        1 => {
            let data_points = (0..n).map(|_| point(random)).collect();
            let aggregation_temporality = random.below(3) as i32;
            Some(Data::Sum(Sum { data_points, is_monotonic: true, aggregation_temporality }))
        }
        2 => {
            let point = |random: &mut Random| HistogramDataPoint {
                time_unix_nano,
                attributes: attributes(random),
                ..HistogramDataPoint::default()
            };
            let data_points = (0..n).map(|_| point(random)).collect();
            Some(Data::Histogram(Histogram { data_points, aggregation_temporality: 2 }))
        }
        3 => {
            let point = |random: &mut Random| ExponentialHistogramDataPoint {
                time_unix_nano,
                attributes: attributes(random),
                ..ExponentialHistogramDataPoint::default()
            };
            let data_points = (0..n).map(|_| point(random)).collect();
            let aggregation_temporality = 1;
            Some(Data::ExponentialHistogram(ExponentialHistogram {
                data_points,
                aggregation_temporality,
            }))
        }
        4 => {
            let point = |random: &mut Random| SummaryDataPoint {
                time_unix_nano,
                attributes: attributes(random),
                ..SummaryDataPoint::default()
            };
            Some(Data::Summary(Summary { data_points: (0..n).map(|_| point(random)).collect() }))
        }
        _ => None,
    };
    Metric {
        name: random.pick(&["requests", "latency"]).to_string(),
        unit: random.pick(&["", "ms"]).to_string(),
        description: "what it says".into(),
        metadata: attributes(random),
        data,
    }
}

fn metrics(random: &mut Random) -> ExportMetricsServiceRequest {
    let scope_metrics = |random: &mut Random| ScopeMetrics {
        scope: scope(random),
        metrics: (0..random.below(4)).map(|_| some_metric(random)).collect(),
        schema_url: schema_url(random),
    };
    let resource_metrics = |random: &mut Random| ResourceMetrics {
        resource: named_resource(random),
        scope_metrics: (0..random.below(3)).map(|_| scope_metrics(random)).collect(),
        schema_url: schema_url(random),
    };
    ExportMetricsServiceRequest {
        resource_metrics: (0..random.below(4)).map(|_| resource_metrics(random)).collect(),
    }
}

fn seen_logs(request: &ExportLogsServiceRequest) -> Vec<Seen> {
    let mut seen = Vec::new();
    for rl in &request.resource_logs {
        let resource = ResourceLogs { scope_logs: vec![], ..rl.clone() }.encode_to_vec();
        for sl in &rl.scope_logs {
            let scope = ScopeLogs { log_records: vec![], ..sl.clone() }.encode_to_vec();
            let records = sl.log_records.iter();
            seen.extend(records.map(|r| (resource.clone(), scope.clone(), r.encode_to_vec())));
        }
    }
    seen
}

fn seen_spans(request: &ExportTraceServiceRequest) -> Vec<Seen> {
    let spans = flat(request).into_iter();
    spans.map(|(resource, scope, span)| (resource, scope, span.encode_to_vec())).collect()
}

/// A metric for each of its points, with that point alone.
fn single(metric: &Metric) -> Vec<Metric> {
    macro_rules! each {
        ($data:expr, $kind:path) => {{
            let with = |point: &_| {
                let mut one = $data.clone();
                one.data_points = vec![Clone::clone(point)];
                Metric { data: Some($kind(one)), ..metric.clone() }
            };
            $data.data_points.iter().map(with).collect()
        }};
    }
    match &metric.data {
        Some(Data::Gauge(data)) => each!(data, Data::Gauge),
        Some(Data::Sum(data)) => each!(data, Data::Sum),
        Some(Data::Histogram(data)) => each!(data, Data::Histogram),
        Some(Data::ExponentialHistogram(data)) => each!(data, Data::ExponentialHistogram),
        Some(Data::Summary(data)) => each!(data, Data::Summary),
        None => vec![],
    }
}

fn seen_points(request: &ExportMetricsServiceRequest) -> Vec<Seen> {
    let mut seen = Vec::new();
    for rm in &request.resource_metrics {
        let resource = ResourceMetrics { scope_metrics: vec![], ..rm.clone() }.encode_to_vec();
        for sm in &rm.scope_metrics {
            let scope = ScopeMetrics { metrics: vec![], ..sm.clone() }.encode_to_vec();
            let points = sm.metrics.iter().flat_map(single);
            seen.extend(points.map(|m| (resource.clone(), scope.clone(), m.encode_to_vec())));
        }
    }
    seen
}

fn seen(signal: Signal, body: &[u8]) -> Vec<Seen> {
    match signal {
        Signal::Traces => seen_spans(&ExportTraceServiceRequest::decode(body).unwrap()),
        Signal::Logs => seen_logs(&ExportLogsServiceRequest::decode(body).unwrap()),
        Signal::Metrics => seen_points(&ExportMetricsServiceRequest::decode(body).unwrap()),
    }
}

/// What a resource without a service has, which metrics that are routed by it lose.
fn has_service(resource: &[u8]) -> bool {
    let resource = ResourceMetrics::decode(resource).unwrap().resource.unwrap_or_default();
    resource.attributes.iter().any(|attribute| attribute.key == "service.name")
}

/// Cuts the request by a key; every part holds what it should, in the order of the request.
fn cut(signal: Signal, model: &[u8], body: &[u8], ring: &Ring, key: &Key) {
    let (mut index, mut split) = (Index::new(), Split::seeded(5));
    scan(signal, body, &mut index).unwrap();
    let ownerless = split.plan_by_key(body, &index, ring, key);
    let mut want = seen(signal, model);
    if signal == Signal::Metrics && *key == Key::Service {
        want.retain(|item| has_service(&item.0));
    }
    assert_eq!(want.len() as u64 + ownerless, index.count());
    let mut all = Vec::new();
    for (n, part) in split.parts().iter().enumerate() {
        let mut bytes = Vec::new();
        split.write(n, body, &index, &mut bytes);
        assert_eq!(bytes.len(), part.bytes);
        let got = seen(signal, &bytes);
        assert_eq!(got.len(), part.items as usize);
        let mut rest = want.iter();
        assert!(got.iter().all(|item| rest.any(|other| other == item)), "in the request's order");
        all.extend(got);
    }
    want.sort();
    all.sort();
    assert!(all == want, "every item once, by {key:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_the_key_every_item_arrives_once_and_as_it_was(seed: u64) {
        let mut random = Random::new(seed);
        let ring = ring(1 + random.below(7));
        for signal in Signal::ALL {
            let model = match signal {
                Signal::Traces => spans(&mut random).encode_to_vec(),
                Signal::Logs => logs(&mut random).encode_to_vec(),
                Signal::Metrics => metrics(&mut random).encode_to_vec(),
            };
            let body = odd::write(&mut random, &model).bytes;
            for key in keys(signal) {
                cut(signal, &model, &body, &ring, &key);
                let mut tagged = vec![random.below(255) as u8];
                tagged.extend(&body);
                fuzz::keys(&tagged);
            }
        }
    }

    #[test]
    fn flipped_bytes_never_break_an_invariant_of_any_key(seed: u64) {
        let mut random = Random::new(seed);
        let mut body = vec![random.below(255) as u8];
        body.extend(metrics(&mut random).encode_to_vec());
        for _ in 0..10 {
            let at = random.below(body.len() as u64) as usize;
            body[at] = *random.pick(&[0, 1, 0x12, 0x3a, 0x7f, 0x80, 0xff]);
            fuzz::keys(&body);
        }
    }
}
