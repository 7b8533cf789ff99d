//! Every routing key of every signal against recordings of the collector's own balancer.
//!
//! `tests/interop/keys.py` records: requests made at random, as oddly shaped as the format allows,
//! and for each item the backend that it came to. `ROUTING_KEYS=FILE` reads another recording than
//! the committed one.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value as Json;
use tracemill::otlp::value::{Field, Fields, messages};
use tracemill::otlp::{Index, Signal, scan};
use tracemill::route::{Generation, Key, Ring, Split, names_no_service, without_service};

/// Owners that are no backend.
const LOST: i64 = -1;
const RANDOM: i64 = -2;

/// Field of the data points of each kind of metric.
const DATA: [u32; 5] = [5, 7, 9, 10, 11];

fn last_fixed64(message: &[u8], number: u32) -> u64 {
    let all = Fields::of(message).filter_map(|field| match field {
        (n, Field::Fixed64(value)) if n == number => Some(value),
        _ => None,
    });
    all.last().unwrap()
}

/// The numbers of a request's items, in its order.
fn numbers(signal: Signal, request: &[u8]) -> Vec<u64> {
    let scopes = messages(request, 1).flat_map(|resource| messages(resource, 2));
    let mut numbers = Vec::new();
    for item in scopes.flat_map(|scope| messages(scope, 2)) {
        match signal {
            Signal::Traces => {
                let id = messages(item, 2).last().unwrap();
                numbers.push(u64::from_be_bytes(id.try_into().unwrap()));
            }
            Signal::Logs => numbers.push(last_fixed64(item, 11)),
            Signal::Metrics => {
                let data = Fields::of(item).filter_map(|(number, field)| match field {
                    Field::Bytes(data) if DATA.contains(&number) => Some(data),
                    _ => None,
                });
                let points = data.last().into_iter().flat_map(|data| messages(data, 1));
                numbers.extend(points.map(|point| last_fixed64(point, 3)));
            }
        }
    }
    numbers
}

#[derive(Default)]
struct Counts {
    items: u64,
    misplaced: u64,
}

/// One recorded request through the splitter.
fn compare(signal: Signal, key: &Key, ring: &Ring, line: &Json, counts: &mut Counts) {
    let request = STANDARD.decode(line["request"].as_str().unwrap()).unwrap();
    let owners: Vec<i64> =
        line["owners"].as_array().unwrap().iter().map(|n| n.as_i64().unwrap()).collect();
    let (mut index, mut split) = (Index::new(), Split::seeded(7));
    scan(signal, &request, &mut index).unwrap();
    let ownerless = split.plan_by_key(&request, &index, ring, key);
    let mut at = BTreeMap::new();
    for (n, part) in split.parts().iter().enumerate() {
        let mut bytes = Vec::new();
        split.write(n, &request, &index, &mut bytes);
        let numbers = numbers(signal, &bytes);
        assert_eq!(numbers.len(), part.items as usize);
        for number in numbers {
            assert_eq!(at.insert(number, i64::from(part.endpoint)), None, "{number} came twice");
        }
    }
    let numbers = numbers(signal, &request);
    assert_eq!(numbers.len(), owners.len());
    assert_eq!(at.len() as u64 + ownerless, owners.len() as u64);
    for (number, want) in numbers.iter().zip(owners) {
        let got = at.get(number).copied().unwrap_or(LOST);
        counts.items += 1;
        let is_right = if want == RANDOM { got != LOST } else { got == want };
        counts.misplaced += u64::from(!is_right);
    }
    let is_refused = ownerless > 0 && names_no_service(&request, &index);
    assert_eq!(line["error"].is_string(), is_refused);
    if let Some(error) = line["error"].as_str() {
        let ours = without_service(&request, &index);
        assert_eq!(format!("INTERNAL Permanent error: {ours}"), error);
        assert!(split.parts().is_empty());
    }
}

#[test]
fn every_item_goes_where_the_collector_sends_it() {
    let file = std::env::var("ROUTING_KEYS");
    let file = file.unwrap_or_else(|_| "tests/vectors/routing_keys.jsonl".to_owned());
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    let head = lines.next().unwrap();
    let texts = |list: &Json| -> Vec<String> {
        list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    };
    let ring = Ring::new(Generation::V3, &texts(&head["endpoints"]));
    let attributes = texts(&head["routing_attributes"]);
    let mut all: BTreeMap<(Signal, String), Counts> = BTreeMap::new();
    for line in lines {
        let name = line["signal"].as_str().unwrap();
        let signal = Signal::ALL.into_iter().find(|signal| signal.name() == name).unwrap();
        let key = line["routing_key"].as_str().unwrap();
        let counts = all.entry((signal, key.to_owned())).or_default();
        let key = Key::of(signal, key, &attributes).unwrap();
        compare(signal, &key, &ring, &line, counts);
    }
    assert_eq!(all.len(), 15, "combinations of signal and key");
    for ((signal, key), counts) in &all {
        assert!(counts.items > 0);
        assert_eq!(counts.misplaced, 0, "of {} {} by {key:?}", counts.items, signal.name());
    }
}
