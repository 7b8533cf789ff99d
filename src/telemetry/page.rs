//! One page of Prometheus text per scrape.
//!
//! A page is filled from plain numbers and rendered once, so every scrape is fresh and nothing is
//! registered. Names, suffixes, labels and order are those of the collector's own page (otlp 5.1,
//! loadbalancing 4): families by name, series by label values, labels by the OpenTelemetry name of
//! the attribute (`otel.signal` before `otel_scope_name`), dots written as underscores.
//!
//! Two differences that no reader of the format sees: numbers from a million on are written out
//! (`1234567`, where Go writes `1.234567e+06`), and the Go runtime's own series are absent.
//!
//! Not here: which series exist and when. That is the caller's.

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto;

use super::Histogram;
use super::options::{MetricsLevel, MetricsReader};

/// What the page is, in a `Content-Type` header; the collector sends the same.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// One metric: what all of its series have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// What its values mean.
    pub kind: Kind,
    /// Name without suffixes.
    pub name: &'static str,
    /// Text of the `# HELP` line.
    pub help: &'static str,
    /// Unit of its values.
    pub unit: Unit,
    /// Instrumentation scope, shown as `otel_scope_name` on request.
    pub scope: &'static str,
    /// Least level that shows it.
    pub level: MetricsLevel,
}

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Any number.
    Gauge,
    /// Counts by upper bound.
    Histogram,
}

/// Unit of a metric's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things (`{span}`) and ratios: no suffix.
    None,
    /// `s`
    Seconds,
    /// `ms`
    Milliseconds,
    /// `us`
    Microseconds,
    /// `By`
    Bytes,
}

impl Unit {
    const fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Seconds => "_seconds",
            Self::Milliseconds => "_milliseconds",
            Self::Microseconds => "_microseconds",
            Self::Bytes => "_bytes",
        }
    }
}

/// A page that is being filled.
#[derive(Debug)]
pub struct Page {
    suffixes: bool,
    scope_info: bool,
    level: MetricsLevel,
    families: BTreeMap<String, Family>,
}

#[derive(Debug)]
struct Family {
    kind: Kind,
    help: &'static str,
    series: Vec<proto::Metric>,
}

impl Page {
    /// An empty page in the style that `reader` asks for; metrics above `level` are left out.
    /// `resource` becomes the labels of `target_info`.
    #[must_use]
    pub fn new(reader: &MetricsReader, level: MetricsLevel, resource: &[(String, String)]) -> Self {
        let mut page = Self {
            suffixes: reader.suffixes,
            scope_info: reader.scope_info,
            level,
            families: BTreeMap::new(),
        };
        let labels = resource.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let series = with_gauge(series(labels), 1.0);
        let target = Family { kind: Kind::Gauge, help: "Target metadata", series: vec![series] };
        page.families.insert("target_info".to_owned(), target);
        page
    }

    /// Adds the series `labels` of a counter. Labels are attribute names with dots or underscores,
    /// in any order. Beyond 2^53 the text format's numbers lose their last digits.
    pub fn counter(&mut self, metric: &Metric, labels: &[(&str, &str)], value: u64) {
        self.counter_f64(metric, labels, value as f64);
    }

    /// Adds the series `labels` of a counter of seconds.
    pub fn counter_f64(&mut self, metric: &Metric, labels: &[(&str, &str)], value: f64) {
        assert_eq!(metric.kind, Kind::Counter, "{}", metric.name);
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        self.push(metric, labels, |series| series.set_counter(counter));
    }

    /// Adds the series `labels` of a gauge.
    pub fn gauge(&mut self, metric: &Metric, labels: &[(&str, &str)], value: f64) {
        assert_eq!(metric.kind, Kind::Gauge, "{}", metric.name);
        self.push(metric, labels, |series| *series = with_gauge(std::mem::take(series), value));
    }

    /// Adds the series `labels` of a histogram: `counts[i]` values were at most `bounds[i]` and
    /// above the bound before; one more count than bounds, the last for all greater values.
    pub fn histogram(
        &mut self,
        metric: &Metric,
        labels: &[(&str, &str)],
        bounds: &[f64],
        counts: &[u64],
        sum: f64,
    ) {
        assert_eq!(metric.kind, Kind::Histogram, "{}", metric.name);
        assert_eq!(bounds.len() + 1, counts.len(), "one count for each bound and one above");
        let mut total = 0;
        let mut buckets = Vec::with_capacity(bounds.len());
        for (bound, count) in bounds.iter().zip(counts) {
            total += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(total);
            buckets.push(bucket);
        }
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(total + counts[bounds.len()]);
        histogram.set_sample_sum(sum);
        self.push(metric, labels, |series| series.set_histogram(histogram));
    }

    /// Adds the series `labels` of a histogram that a core kept.
    pub fn recorded(&mut self, metric: &Metric, labels: &[(&str, &str)], values: &Histogram) {
        let bounds: Vec<f64> = values.bounds().iter().map(|bound| *bound as f64).collect();
        self.histogram(metric, labels, &bounds, values.counts(), values.sum() as f64);
    }

    /// The page's text.
    #[must_use]
    pub fn render(self) -> String {
        let families: Vec<proto::MetricFamily> =
            self.families.into_iter().map(|(name, family)| family.finish(name)).collect();
        let mut text = String::new();
        TextEncoder::new()
            .encode_utf8(&families, &mut text)
            .expect("families have names and series, and writing to a string cannot fail");
        text
    }

    fn push(
        &mut self,
        metric: &Metric,
        labels: &[(&str, &str)],
        set: impl FnOnce(&mut proto::Metric),
    ) {
        if metric.level > self.level {
            return;
        }
        let mut all: Vec<(&str, &str)> = labels.to_vec();
        if self.scope_info {
            all.push(("otel_scope_name", metric.scope));
            all.push(("otel_scope_schema_url", ""));
            all.push(("otel_scope_version", ""));
        }
        let mut series = series(all);
        set(&mut series);
        let family = self.families.entry(self.name_of(metric)).or_insert_with(|| Family {
            kind: metric.kind,
            help: metric.help,
            series: Vec::new(),
        });
        family.series.push(series);
    }

    /// otlp 5.1: the unit unless the name says it already, then `_total` for counters.
    fn name_of(&self, metric: &Metric) -> String {
        let mut name = metric.name.to_owned();
        if self.suffixes {
            if !name.ends_with(metric.unit.suffix()) {
                name.push_str(metric.unit.suffix());
            }
            if metric.kind == Kind::Counter {
                name.push_str("_total");
            }
        }
        name
    }
}

impl Family {
    fn finish(mut self, name: String) -> proto::MetricFamily {
        self.series.sort_by(|a, b| label_values(a).cmp(label_values(b)));
        let said = self.series.len();
        self.series.dedup_by(|a, b| a.get_label() == b.get_label());
        debug_assert_eq!(said, self.series.len(), "{name}: a series was given twice");
        let mut family = proto::MetricFamily::default();
        family.set_name(name);
        family.set_help(self.help.to_owned());
        family.set_field_type(match self.kind {
            Kind::Counter => proto::MetricType::COUNTER,
            Kind::Gauge => proto::MetricType::GAUGE,
            Kind::Histogram => proto::MetricType::HISTOGRAM,
        });
        family.set_metric(self.series);
        family
    }
}

fn label_values(series: &proto::Metric) -> impl Iterator<Item = &str> {
    series.get_label().iter().map(proto::LabelPair::value)
}

fn with_gauge(mut series: proto::Metric, value: f64) -> proto::Metric {
    let mut gauge = proto::Gauge::default();
    gauge.set_value(value);
    series.set_gauge(gauge);
    series
}

/// A series without a value: labels sorted as attributes, then named as labels.
fn series(mut labels: Vec<(&str, &str)>) -> proto::Metric {
    labels.sort_unstable();
    let mut pairs: Vec<proto::LabelPair> = Vec::with_capacity(labels.len());
    for (name, value) in labels {
        let name = label_name(name);
        if pairs.iter().any(|pair| pair.name() == name) {
            continue;
        }
        let mut pair = proto::LabelPair::default();
        pair.set_name(name);
        pair.set_value(value.to_owned());
        pairs.push(pair);
    }
    proto::Metric::from_label(pairs)
}

/// `service.name` is `service_name`; a leading digit gets an underscore.
fn label_name(attribute: &str) -> String {
    let mut name = String::with_capacity(attribute.len());
    if attribute.starts_with(|c: char| c.is_ascii_digit()) {
        name.push('_');
    }
    name.extend(attribute.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }));
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::names;

    fn reader(suffixes: bool, scope_info: bool) -> MetricsReader {
        MetricsReader { host: "localhost".to_owned(), port: 8888, suffixes, scope_info }
    }

    fn resource() -> Vec<(String, String)> {
        [("service.version", "0.161.0"), ("service.name", "peer"), ("service.instance.id", "7")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .to_vec()
    }

    fn filled(reader: &MetricsReader) -> String {
        let mut page = Page::new(reader, MetricsLevel::Normal, &resource());
        let endpoint = |port| ("endpoint", port);
        page.counter(
            &names::LOADBALANCER_BACKEND_OUTCOME,
            &[("success", "true"), endpoint("127.0.0.1:24328")],
            1,
        );
        page.counter(
            &names::LOADBALANCER_BACKEND_OUTCOME,
            &[endpoint("127.0.0.1:24327"), ("success", "true")],
            1,
        );
        let mut latency = Histogram::new(&names::BACKEND_LATENCY_BOUNDS_MS);
        latency.record(0);
        page.recorded(
            &names::LOADBALANCER_BACKEND_LATENCY,
            &[endpoint("127.0.0.1:24327")],
            &latency,
        );
        page.gauge(&names::LOADBALANCER_NUM_BACKENDS, &[("resolver", "static")], 2.0);
        page.gauge(&names::PROCESS_MEMORY_RSS, &[], 4096.0);
        page.counter_f64(&names::PROCESS_CPU_SECONDS, &[], 0.06);
        page.counter(
            &names::PROCESSOR_INCOMING_ITEMS,
            &[("processor", "memory_limiter"), ("otel.signal", "traces")],
            3,
        );
        page.render()
    }

    /// Both golden files are cut from pages of a real collector v0.161 that had the same series.
    #[test]
    fn a_page_reads_like_the_collectors() {
        assert_eq!(filled(&reader(false, false)), include_str!("page_plain.golden"));
    }

    #[test]
    fn suffixes_and_scopes_read_like_the_collectors() {
        assert_eq!(filled(&reader(true, true)), include_str!("page_suffixes.golden"));
    }

    #[test]
    fn metrics_above_the_level_are_left_out() {
        let mut page = Page::new(&reader(false, false), MetricsLevel::Basic, &[]);
        let detailed = Metric { level: MetricsLevel::Detailed, ..names::PROCESS_UPTIME };
        page.counter(&detailed, &[], 1);
        assert_eq!(
            page.render(),
            "# HELP target_info Target metadata\n# TYPE target_info gauge\ntarget_info 1\n"
        );
    }

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page::new(&reader(false, false), MetricsLevel::Normal, &[]);
        page.gauge(&names::LOADBALANCER_NUM_BACKENDS, &[("resolver", "a\"b\\c\nd")], 0.5);
        assert!(page.render().contains(r#"{resolver="a\"b\\c\nd"} 0.5"#));
    }

    #[test]
    fn an_empty_label_value_is_kept_and_names_are_made_valid() {
        let resource = [("deploy/env.x", ""), ("0a", "v")];
        let resource = resource.map(|(k, v)| (k.to_owned(), v.to_owned()));
        let page = Page::new(&reader(false, false), MetricsLevel::Normal, &resource);
        assert!(page.render().contains(r#"target_info{_0a="v",deploy_env_x=""} 1"#));
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "given twice")]
    fn a_series_cannot_be_given_twice() {
        let mut page = Page::new(&reader(false, false), MetricsLevel::Normal, &[]);
        page.counter(&names::PROCESS_UPTIME, &[], 1);
        page.counter(&names::PROCESS_UPTIME, &[], 1);
        let _ = page.render();
    }
}
