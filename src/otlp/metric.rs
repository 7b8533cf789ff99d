//! Lazy reads of metrics: name, kind, and where the points lie. Pure.
//!
//! A metric was scanned before it is read here; what was not checked is safe too. Of several data
//! fields the last counts, as in the collector.

use super::layout::DATA_POINTS;
use super::value::{Field, Fields};
use super::wire::{Extent, LEN, Reader};

const NAME: u32 = 1;
const UNIT: u32 = 3;
/// Sum, histogram and exponential histogram field: aggregation_temporality.
const TEMPORALITY: u32 = 2;
/// Sum field: is_monotonic.
const MONOTONIC: u32 = 3;

/// Which data a metric has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Field 5.
    Gauge,
    /// Field 7.
    Sum,
    /// Field 9.
    Histogram,
    /// Field 10.
    ExponentialHistogram,
    /// Field 11.
    Summary,
}

impl Kind {
    pub(super) const fn of(field: u32) -> Option<Self> {
        match field {
            5 => Some(Self::Gauge),
            7 => Some(Self::Sum),
            9 => Some(Self::Histogram),
            10 => Some(Self::ExponentialHistogram),
            11 => Some(Self::Summary),
            _ => None,
        }
    }

    /// Its field in a metric.
    #[must_use]
    pub const fn field(self) -> u32 {
        match self {
            Self::Gauge => 5,
            Self::Sum => 7,
            Self::Histogram => 9,
            Self::ExponentialHistogram => 10,
            Self::Summary => 11,
        }
    }

    /// The field of its points that holds their attributes.
    #[must_use]
    pub const fn attributes(self) -> u32 {
        match self {
            Self::Gauge | Self::Sum | Self::Summary => 7,
            Self::Histogram => 9,
            Self::ExponentialHistogram => 1,
        }
    }
}

/// A metric without its points.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metric {
    /// `name`.
    pub name: Extent,
    /// `unit`.
    pub unit: Extent,
    /// The data that counts, and where it lies; `None` if it has none.
    pub data: Option<(Kind, Extent)>,
}

impl Metric {
    /// Reads the metric whose content lies at `message`.
    #[must_use]
    pub fn read(body: &[u8], message: Extent) -> Self {
        let mut metric = Self::default();
        for (tag, _, content) in Walk::of(body, message) {
            match (tag, Kind::of(tag)) {
                (NAME, _) => metric.name = content,
                (UNIT, _) => metric.unit = content,
                (_, Some(kind)) => metric.data = Some((kind, content)),
                _ => {}
            }
        }
        metric
    }

    /// What tells streams of one name apart: the number of its kind, whether it is monotonic, and
    /// its temporality. Kinds count from 1 in the order of [`Kind`]; histograms are monotonic
    /// (loadbalancing 2.3).
    #[must_use]
    pub fn identity(&self, body: &[u8]) -> [u8; 3] {
        let Some((kind, data)) = self.data else { return [0; 3] };
        let (mut monotonic, mut temporality) = (false, 0);
        for (number, field) in Fields::of(data.of(body)) {
            match (number, field) {
                (TEMPORALITY, Field::Varint(n)) => temporality = n.to_le_bytes()[0],
                (MONOTONIC, Field::Varint(n)) => monotonic = n != 0,
                _ => {}
            }
        }
        match kind {
            Kind::Gauge => [1, 0, 0],
            Kind::Sum => [2, u8::from(monotonic), temporality],
            Kind::Histogram => [3, 1, temporality],
            Kind::ExponentialHistogram => [4, 1, temporality],
            Kind::Summary => [5, 0, 0],
        }
    }
}

/// Fields of `message` with a length: number, the whole field, the content.
#[derive(Debug)]
struct Walk<'a>(Reader<'a>);

impl<'a> Walk<'a> {
    fn of(body: &'a [u8], message: Extent) -> Self {
        Self(Reader::new(body, message))
    }
}

impl Iterator for Walk<'_> {
    type Item = (u32, Extent, Extent);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.0.at_end() {
            let tag = self.0.tag().ok()?;
            if tag.wire == LEN {
                let content = self.0.content().ok()?;
                return Some((tag.field, Extent { start: tag.at, end: content.end }, content));
            }
            self.0.skip(tag).ok()?;
        }
        None
    }
}

/// The points of a data message: the whole field, and its content.
pub fn points(body: &[u8], data: Extent) -> impl Iterator<Item = (Extent, Extent)> {
    Walk::of(body, data)
        .filter(|field| field.0 == DATA_POINTS)
        .map(|(_, field, content)| (field, content))
}

/// All fields of a data message but its points.
pub fn others_of_data(body: &[u8], data: Extent) -> impl Iterator<Item = Extent> {
    others(body, data, |number| number == DATA_POINTS)
}

/// All fields of a metric but its data.
pub fn others_of_metric(body: &[u8], metric: Extent) -> impl Iterator<Item = Extent> {
    others(body, metric, |number| Kind::of(number).is_some())
}

fn others(
    body: &[u8],
    message: Extent,
    without: impl Fn(u32) -> bool,
) -> impl Iterator<Item = Extent> {
    let mut reader = Reader::new(body, message);
    std::iter::from_fn(move || {
        while !reader.at_end() {
            let tag = reader.tag().ok()?;
            reader.skip(tag).ok()?;
            if !without(tag.field) {
                return Some(Extent { start: tag.at, end: reader.pos() });
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use opentelemetry_proto::tonic::metrics::v1::{
        ExponentialHistogram, Gauge, Histogram, Metric as Model, NumberDataPoint, Sum, Summary,
    };
    use prost::Message as _;

    use super::*;

    fn whole(body: &[u8]) -> Extent {
        Extent { start: 0, end: u32::try_from(body.len()).unwrap() }
    }

    #[test]
    fn the_identity_of_each_kind_is_the_collectors() {
        let sum = |is_monotonic, aggregation_temporality| {
            Data::Sum(Sum { is_monotonic, aggregation_temporality, ..Sum::default() })
        };
        let histogram = Histogram { aggregation_temporality: 1, ..Histogram::default() };
        let exponential =
            ExponentialHistogram { aggregation_temporality: 2, ..ExponentialHistogram::default() };
        for (data, want) in [
            (Some(Data::Gauge(Gauge::default())), [1, 0, 0]),
            (Some(sum(false, 2)), [2, 0, 2]),
            (Some(sum(true, 1)), [2, 1, 1]),
            (Some(Data::Histogram(histogram)), [3, 1, 1]),
            (Some(Data::ExponentialHistogram(exponential)), [4, 1, 2]),
            (Some(Data::Summary(Summary::default())), [5, 0, 0]),
            (None, [0, 0, 0]),
        ] {
            let model = Model { name: "n".into(), unit: "u".into(), data, ..Model::default() };
            let body = model.encode_to_vec();
            let metric = Metric::read(&body, whole(&body));
            assert_eq!(metric.name.of(&body), b"n");
            assert_eq!(metric.unit.of(&body), b"u");
            assert_eq!(metric.identity(&body), want);
        }
    }

    #[test]
    fn points_and_others_are_all_there_is() {
        let point = |n| NumberDataPoint { time_unix_nano: n, ..NumberDataPoint::default() };
        let data =
            Sum { data_points: vec![point(1), point(2)], is_monotonic: true, ..Sum::default() };
        let data = Some(Data::Sum(data));
        let model = Model { name: "n".into(), description: "d".into(), data, ..Model::default() };
        let body = model.encode_to_vec();
        let metric = Metric::read(&body, whole(&body));
        let (kind, data) = metric.data.unwrap();
        assert_eq!((kind, kind.field()), (Kind::Sum, 7));
        let points: Vec<_> = points(&body, data).map(|(_, point)| point.of(&body)).collect();
        assert_eq!(points.len(), 2);
        assert_eq!(NumberDataPoint::decode(points[1]).unwrap(), point(2));
        let bytes = |extents: Vec<Extent>| extents.iter().map(|e| e.len()).sum::<u32>();
        assert_eq!(bytes(others_of_data(&body, data).collect()), 2);
        assert_eq!(bytes(others_of_metric(&body, whole(&body)).collect()), 6);
    }
}
