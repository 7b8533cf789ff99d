//! Metric points, in both verbosities.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, Metric, NumberDataPoint,
    SummaryDataPoint, exemplar, number_data_point,
};

use super::detailed::attributes;
use super::put;
use super::value::{go_f, go_v, id, time};

/// Each point's attributes and its numbers in one line.
pub(super) fn numbers(metric: &Metric) -> Vec<(&[KeyValue], String)> {
    match &metric.data {
        Some(Data::Gauge(data)) => line(&data.data_points, |p| &p.attributes, number),
        Some(Data::Sum(data)) => line(&data.data_points, |p| &p.attributes, number),
        Some(Data::Histogram(data)) => line(&data.data_points, |p| &p.attributes, histogram),
        Some(Data::ExponentialHistogram(data)) => {
            line(&data.data_points, |p| &p.attributes, exponential)
        }
        Some(Data::Summary(data)) => line(&data.data_points, |p| &p.attributes, summary),
        None => Vec::new(),
    }
}

fn line<P>(
    points: &[P],
    attributes: fn(&P) -> &Vec<KeyValue>,
    numbers: fn(&P) -> String,
) -> Vec<(&[KeyValue], String)> {
    points.iter().map(|p| (&attributes(p)[..], numbers(p))).collect()
}

fn number(p: &NumberDataPoint) -> String {
    match p.value {
        Some(number_data_point::Value::AsInt(n)) => n.to_string(),
        Some(number_data_point::Value::AsDouble(n)) => go_v(n),
        None => String::new(),
    }
}

/// `count=3 sum=1.5 min=…`, what is there of it.
fn head(count: u64, parts: [(&str, Option<f64>); 3]) -> String {
    let parts = parts.into_iter().filter_map(|(name, n)| Some(format!(" {name}={}", go_v(n?))));
    format!("count={count}{}", parts.collect::<String>())
}

fn histogram(p: &HistogramDataPoint) -> String {
    let mut out = head(p.count, [("sum", p.sum), ("min", p.min), ("max", p.max)]);
    for (i, count) in p.bucket_counts.iter().enumerate() {
        let bound = p.explicit_bounds.get(i).map(|b| format!("le{}=", go_v(*b)));
        out.push_str(&format!(" {}{count}", bound.unwrap_or_default()));
    }
    out
}

fn exponential(p: &ExponentialHistogramDataPoint) -> String {
    let mut out = head(p.count, [("sum", p.sum), ("min", p.min), ("max", p.max)]);
    for (lower, _, count) in buckets(p.scale, p.negative.as_ref()).into_iter().rev() {
        out.push_str(&format!(" le{}={count}", go_v(-lower)));
    }
    if p.zero_count != 0 {
        out.push_str(&format!(" zero={}", p.zero_count));
    }
    for (_, upper, count) in buckets(p.scale, p.positive.as_ref()) {
        out.push_str(&format!(" le{}={count}", go_v(upper)));
    }
    out
}

/// Bounds and counts, with the collector's own arithmetic so that the digits agree.
fn buckets(scale: i32, buckets: Option<&Buckets>) -> Vec<(f64, f64, u64)> {
    let Some(buckets) = buckets else { return Vec::new() };
    let factor = 2f64.powi(scale.saturating_neg()) * std::f64::consts::LN_2;
    let first = f64::from(buckets.offset);
    let bound = |i: usize| ((first + i as f64) * factor).exp();
    let counts = buckets.bucket_counts.iter().enumerate();
    counts.map(|(i, &count)| (bound(i), bound(i + 1), count)).collect()
}

fn summary(p: &SummaryDataPoint) -> String {
    let mut out = format!("count={} sum={}", p.count, go_f(p.sum));
    for q in &p.quantile_values {
        out.push_str(&format!(" q{}={}", go_v(q.quantile), go_v(q.value)));
    }
    out
}

/// All points of a metric, in full.
pub(super) fn all(out: &mut String, metric: &Metric) {
    match &metric.data {
        None => {}
        Some(Data::Gauge(data)) => numbers_in_full(out, &data.data_points),
        Some(Data::Sum(data)) => {
            put!(out, "     -> IsMonotonic: {}", data.is_monotonic);
            temporality(out, data.aggregation_temporality);
            numbers_in_full(out, &data.data_points);
        }
        Some(Data::Histogram(data)) => {
            temporality(out, data.aggregation_temporality);
            for (i, p) in data.data_points.iter().enumerate() {
                put!(out, "HistogramDataPoints #{i}");
                histogram_in_full(out, p);
            }
        }
        Some(Data::ExponentialHistogram(data)) => {
            temporality(out, data.aggregation_temporality);
            for (i, p) in data.data_points.iter().enumerate() {
                put!(out, "ExponentialHistogramDataPoints #{i}");
                exponential_in_full(out, p);
            }
        }
        Some(Data::Summary(data)) => {
            for (i, p) in data.data_points.iter().enumerate() {
                put!(out, "SummaryDataPoints #{i}");
                origin(out, &p.attributes, p.start_time_unix_nano, p.time_unix_nano);
                put!(out, "Count: {}\nSum: {}", p.count, go_f(p.sum));
                for (i, q) in p.quantile_values.iter().enumerate() {
                    let (quantile, value) = (go_f(q.quantile), go_f(q.value));
                    put!(out, "QuantileValue #{i}: Quantile {quantile}, Value {value}");
                }
            }
        }
    }
}

fn temporality(out: &mut String, number: i32) {
    let name = match number {
        0 => "Unspecified",
        1 => "Delta",
        2 => "Cumulative",
        _ => "",
    };
    put!(out, "     -> AggregationTemporality: {name}");
}

fn origin(out: &mut String, of: &[KeyValue], start: u64, at: u64) {
    attributes(out, "Data point attributes", of);
    put!(out, "StartTimestamp: {}\nTimestamp: {}", time(start), time(at));
}

fn numbers_in_full(out: &mut String, points: &[NumberDataPoint]) {
    for (i, p) in points.iter().enumerate() {
        put!(out, "NumberDataPoints #{i}");
        origin(out, &p.attributes, p.start_time_unix_nano, p.time_unix_nano);
        match p.value {
            Some(number_data_point::Value::AsInt(n)) => put!(out, "Value: {n}"),
            Some(number_data_point::Value::AsDouble(n)) => put!(out, "Value: {}", go_f(n)),
            None => {}
        }
        exemplars(out, &p.exemplars);
    }
}

/// `Count`, `Sum`, `Min`, `Max`, what is there of them.
fn totals(out: &mut String, count: u64, parts: [(&str, Option<f64>); 3]) {
    put!(out, "Count: {count}");
    for (name, n) in parts {
        if let Some(n) = n {
            put!(out, "{name}: {}", go_f(n));
        }
    }
}

fn histogram_in_full(out: &mut String, p: &HistogramDataPoint) {
    origin(out, &p.attributes, p.start_time_unix_nano, p.time_unix_nano);
    totals(out, p.count, [("Sum", p.sum), ("Min", p.min), ("Max", p.max)]);
    for (i, bound) in p.explicit_bounds.iter().enumerate() {
        put!(out, "ExplicitBounds #{i}: {}", go_f(*bound));
    }
    for (i, count) in p.bucket_counts.iter().enumerate() {
        put!(out, "Buckets #{i}, Count: {count}");
    }
    exemplars(out, &p.exemplars);
}

fn exponential_in_full(out: &mut String, p: &ExponentialHistogramDataPoint) {
    origin(out, &p.attributes, p.start_time_unix_nano, p.time_unix_nano);
    totals(out, p.count, [("Sum", p.sum), ("Min", p.min), ("Max", p.max)]);
    for (lower, upper, count) in buckets(p.scale, p.negative.as_ref()).into_iter().rev() {
        put!(out, "Bucket [{}, {}), Count: {count}", go_f(-upper), go_f(-lower));
    }
    if p.zero_count != 0 {
        put!(out, "Bucket [0, 0], Count: {}", p.zero_count);
    }
    for (lower, upper, count) in buckets(p.scale, p.positive.as_ref()) {
        put!(out, "Bucket ({}, {}], Count: {count}", go_f(lower), go_f(upper));
    }
    exemplars(out, &p.exemplars);
}

fn exemplars(out: &mut String, exemplars: &[Exemplar]) {
    if exemplars.is_empty() {
        return;
    }
    put!(out, "Exemplars:");
    for (i, e) in exemplars.iter().enumerate() {
        put!(out, "Exemplar #{i}");
        put!(out, "     -> Trace ID: {}", id(&e.trace_id));
        put!(out, "     -> Span ID: {}", id(&e.span_id));
        put!(out, "     -> Timestamp: {}", time(e.time_unix_nano));
        match e.value {
            Some(exemplar::Value::AsInt(n)) => put!(out, "     -> Value: {n}"),
            Some(exemplar::Value::AsDouble(n)) => put!(out, "     -> Value: {}", go_f(n)),
            None => {}
        }
        attributes(out, "     -> FilteredAttributes", &e.filtered_attributes);
    }
}
