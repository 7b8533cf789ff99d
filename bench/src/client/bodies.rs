//! Bodies of requests: buffers with a template each, patched for one request at a time.
//!
//! What a request carries is a function of its number alone. So a body is made when its first
//! byte is to be written and given back when its last byte has been, and a repeated request is
//! made again. Few buffers are in use at a time, and they stay in the cache.

use super::options::{Options, Order};
use super::template::{self, Numbers, Places, Shape, mix};
use crate::proto;
use crate::wire::grpc::{Compression, PREFIX_BYTES};

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) number: u64,
    /// Monotonic time at which it was due.
    pub(crate) intended: u64,
    /// The request that was due when those traces began to which the late spans belong.
    pub(crate) late_of: Option<u64>,
    pub(crate) attempt: u32,
}

#[derive(Debug)]
struct Template {
    /// Prefix and message.
    body: Vec<u8>,
    /// Per span: its places, the trace of the request it belongs to, whether it is its first.
    spans: Vec<(Places, u32, bool)>,
    traces: usize,
    /// Bytes of all span messages.
    span_bytes: usize,
    free: Vec<u32>,
}

/// The ids of one trace of the request at hand.
#[derive(Debug, Clone, Copy)]
struct Trace {
    id: [u8; 16],
    root: u64,
    /// Whether its root is in this request.
    has_root: bool,
    error: bool,
}

/// A trace over all its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) id: [u8; 16],
    pub(crate) spans: usize,
    /// Whether the status of a span is an error.
    pub(crate) error: bool,
}

#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    /// `None`: holds compressed bodies.
    template: Option<usize>,
}

/// All buffers.
#[derive(Debug)]
pub(crate) struct Bodies {
    templates: Vec<Template>,
    buffers: Vec<Buffer>,
    free_coded: Vec<u32>,
    /// Traces per request, at most; and requests per trace.
    stride: u64,
    spread: u64,
    seed: u64,
    wall_offset: u64,
    error_threshold: u64,
    rootless_threshold: u64,
    late_threshold: u64,
    traces: Vec<Trace>,
    compression: Compression,
    coders: Coders,
}

/// Kept between requests: making one costs more than using it.
struct Coders {
    gzip: libdeflater::Compressor,
    zstd: zstd::bulk::Compressor<'static>,
}

impl std::fmt::Debug for Coders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Coders")
    }
}

/// The part of the numbers below which the given share lies.
fn threshold(share: f64) -> u64 {
    (share * u64::MAX as f64) as u64
}

const SEED_TRACE: u64 = 0x7261_6365_0000_0001;
const SEED_SPAN: u64 = 0x7370_616e_0000_0002;
const SEED_ERROR: u64 = 0x6572_726f_0000_0003;
const SEED_ROOTLESS: u64 = 0x726f_6f74_0000_0005;
const SEED_LATE: u64 = 0x6c61_7465_0000_0004;

impl Bodies {
    pub(crate) fn new(options: &Options, seed: u64, wall_offset: u64) -> Result<Self, String> {
        let counted = options.spans_per_request;
        let shape = Shape {
            order: options.order,
            bytes_max: counted.map_or(options.request_bytes, |_| usize::MAX),
            spans_max: counted.unwrap_or(super::options::SPANS_PER_REQUEST_MAX - 1),
            span_bytes: options.span_bytes,
            status: options.error_share > 0.0 || options.order == Order::Collector,
        };
        // The workload is the same in each run; only the ids differ.
        let mut numbers = Numbers(42);
        let per_trace = options.spans_per_trace.div_ceil(options.spread);
        let templates: Vec<_> = (0..options.bodies)
            .map(|_| Template::new(&shape, per_trace, options.run, &mut numbers))
            .collect();
        let zstd = zstd::bulk::Compressor::new(1).map_err(|e| e.to_string())?;
        // Level 0, the library's fastest, does not compress.
        let level = libdeflater::CompressionLvl::new(1).map_err(|e| format!("{e:?}"))?;
        Ok(Self {
            stride: templates.iter().map(|t| t.traces).max().unwrap_or(1) as u64,
            templates,
            buffers: Vec::new(),
            free_coded: Vec::new(),
            spread: options.spread as u64,
            seed: mix(seed),
            wall_offset,
            error_threshold: threshold(options.error_share),
            rootless_threshold: threshold(options.rootless_share),
            late_threshold: threshold(options.late_share),
            traces: Vec::new(),
            compression: options.compression,
            coders: Coders { gzip: libdeflater::Compressor::new(level), zstd },
        })
    }

    fn template_of(&self, number: u64) -> usize {
        (number % self.templates.len() as u64) as usize
    }

    /// Spans of the request with this number.
    pub(crate) fn spans(&self, number: u64) -> u64 {
        self.templates[self.template_of(number)].spans.len() as u64
    }

    /// Spans of a request on average.
    pub(crate) fn spans_mean(&self) -> f64 {
        let spans: usize = self.templates.iter().map(|t| t.spans.len()).sum();
        spans as f64 / self.templates.len() as f64
    }

    /// Message bytes of the request with this number, before compression.
    pub(crate) fn message_bytes(&self, number: u64) -> u64 {
        (self.templates[self.template_of(number)].body.len() - PREFIX_BYTES) as u64
    }

    /// Bytes of a span message on average.
    pub(crate) fn span_bytes_mean(&self) -> f64 {
        let bytes: usize = self.templates.iter().map(|t| t.span_bytes).sum();
        let spans: usize = self.templates.iter().map(|t| t.spans.len()).sum();
        bytes as f64 / spans.max(1) as f64
    }

    /// Requests over which a trace is spread.
    pub(crate) fn spread(&self) -> u64 {
        self.spread
    }

    /// The traces whose first of `spread` requests is this one. Late spans are not foreseen.
    pub(crate) fn begun_by(&mut self, number: u64) -> Vec<Begun> {
        self.name_traces(&Request { number, intended: 0, late_of: None, attempt: 0 });
        let requests = number..number + self.spread;
        (self.traces.iter().enumerate())
            .filter(|(place, _)| (number + *place as u64 % self.spread).is_multiple_of(self.spread))
            .map(|(place, trace)| Begun {
                id: trace.id,
                spans: requests.clone().map(|n| self.spans_at(n, place)).sum(),
                error: trace.error && trace.has_root,
            })
            .collect()
    }

    /// Spans that a request has at this place.
    fn spans_at(&self, number: u64, place: usize) -> usize {
        let spans = &self.templates[self.template_of(number)].spans;
        spans.iter().filter(|(_, trace, _)| *trace as usize == place).count()
    }

    pub(crate) fn bytes(&self, buffer: u32) -> &[u8] {
        &self.buffers[buffer as usize].bytes
    }

    /// A buffer with the body of this request.
    pub(crate) fn take(&mut self, request: &Request) -> u32 {
        self.name_traces(request);
        let which = self.template_of(request.number);
        let buffer = self.templates[which].free.pop().unwrap_or_else(|| {
            let bytes = self.templates[which].body.clone();
            self.buffers.push(Buffer { bytes, template: Some(which) });
            self.buffers.len() as u32 - 1
        });
        let body = &mut self.buffers[buffer as usize].bytes;
        let end = request.intended + self.wall_offset;
        let seed = self.seed ^ SEED_SPAN;
        let first = request.number << 16;
        for (p, (places, trace, is_first)) in self.templates[which].spans.iter().enumerate() {
            let trace = &self.traces[*trace as usize];
            let is_root = trace.has_root && *is_first;
            // Roots are named after their trace, the others after their place.
            let own = mix(seed ^ (first | p as u64));
            let (id, parent) = if is_root { (trace.root, 0) } else { (own, trace.root) };
            body[places.trace_id..][..16].copy_from_slice(&trace.id);
            body[places.span_id..][..8].copy_from_slice(&id.to_le_bytes());
            body[places.parent_id..][..8].copy_from_slice(&parent.to_le_bytes());
            body[places.start..][..8].copy_from_slice(&(end - places.duration).to_le_bytes());
            body[places.end..][..8].copy_from_slice(&end.to_le_bytes());
            if places.code != 0 {
                body[places.code] = if is_root && trace.error { 2 } else { 0 };
            }
        }
        if self.compression == Compression::None { buffer } else { self.compress(buffer) }
    }

    /// Gives a buffer back.
    pub(crate) fn release(&mut self, buffer: u32) {
        match self.buffers[buffer as usize].template {
            Some(which) => self.templates[which].free.push(buffer),
            None => self.free_coded.push(buffer),
        }
    }

    /// Which traces this request carries. A trace stays at its place for `spread` requests;
    /// places change over one after the other.
    fn name_traces(&mut self, request: &Request) {
        let count = self.templates[self.template_of(request.number)].traces as u64;
        self.traces.clear();
        for place in 0..count {
            let late = request.late_of.filter(|_| {
                let draw = mix(self.seed ^ SEED_LATE ^ (request.number << 16 | place));
                draw < self.late_threshold
            });
            let turn = late.unwrap_or(request.number) + place % self.spread;
            let trace = turn / self.spread * self.stride + place;
            let (low, high) = (mix(self.seed ^ trace), mix(self.seed ^ SEED_TRACE ^ trace));
            let mut id = [0; 16];
            id[..8].copy_from_slice(&(low | 1).to_le_bytes());
            id[8..].copy_from_slice(&high.to_le_bytes());
            self.traces.push(Trace {
                id,
                // Not zero, and apart from the other spans' ids but for one in 2^64.
                root: mix(high ^ low) | 1,
                has_root: late.is_none()
                    && turn.is_multiple_of(self.spread)
                    && mix(self.seed ^ SEED_ROOTLESS ^ trace) >= self.rootless_threshold,
                error: mix(self.seed ^ SEED_ERROR ^ trace) < self.error_threshold,
            });
        }
    }

    fn compress(&mut self, plain: u32) -> u32 {
        let coded = self.free_coded.pop().unwrap_or_else(|| {
            self.buffers.push(Buffer { bytes: Vec::new(), template: None });
            self.buffers.len() as u32 - 1
        });
        let mut out = std::mem::take(&mut self.buffers[coded as usize].bytes);
        let message = &self.buffers[plain as usize].bytes[PREFIX_BYTES..];
        let bound = match self.compression {
            Compression::Gzip => self.coders.gzip.gzip_compress_bound(message.len()),
            _ => zstd::zstd_safe::compress_bound(message.len()),
        };
        out.resize(PREFIX_BYTES + bound, 0);
        let room = &mut out[PREFIX_BYTES..];
        let len = match self.compression {
            Compression::Gzip => self.coders.gzip.gzip_compress(message, room).ok(),
            _ => self.coders.zstd.compress_to_buffer(message, room).ok(),
        };
        let len = len.expect("room for the bound");
        out.truncate(PREFIX_BYTES + len);
        put_prefix(&mut out, 1);
        self.buffers[coded as usize].bytes = out;
        self.release(plain);
        coded
    }
}

/// Writes flag and length into the first five bytes (otlp 2.1).
fn put_prefix(body: &mut [u8], flag: u8) {
    let len = (body.len() - PREFIX_BYTES) as u32;
    body[0] = flag;
    body[1..PREFIX_BYTES].copy_from_slice(&len.to_be_bytes());
}

impl Template {
    fn new(shape: &Shape, per_trace: usize, run: usize, numbers: &mut Numbers) -> Self {
        let message = template::encode(shape, numbers);
        let mut body = vec![0; PREFIX_BYTES];
        body.extend_from_slice(&message);
        put_prefix(&mut body, 0);
        let places = template::places(&message).expect("just encoded");
        let mut span_bytes = 0;
        proto::spans(&message, |_, span| span_bytes += span.len()).expect("just encoded");
        let traces = places.len().div_ceil(per_trace);
        let mut met = vec![false; traces];
        let shifted = |p: Places| Places {
            trace_id: p.trace_id + PREFIX_BYTES,
            span_id: p.span_id + PREFIX_BYTES,
            parent_id: p.parent_id + PREFIX_BYTES,
            start: p.start + PREFIX_BYTES,
            end: p.end + PREFIX_BYTES,
            code: if p.code == 0 { 0 } else { p.code + PREFIX_BYTES },
            duration: p.duration,
        };
        let spans = places
            .into_iter()
            .enumerate()
            .map(|(p, places)| {
                let trace = p / run % traces;
                (shifted(places), trace as u32, !std::mem::replace(&mut met[trace], true))
            })
            .collect();
        Self { body, spans, traces, span_bytes, free: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn bodies(arguments: &str) -> Bodies {
        let all = ["run", "--endpoint", "x:1"].into_iter().chain(arguments.split_whitespace());
        let options = Cli::try_parse_from(all).expect("valid arguments").options;
        Bodies::new(&options, 7, 1 << 60).expect("bodies")
    }

    fn request(number: u64) -> Request {
        Request { number, intended: 1000 + number, late_of: None, attempt: 0 }
    }

    fn ids(bodies: &mut Bodies, request: &Request) -> Vec<(Vec<u8>, Vec<u8>)> {
        let buffer = bodies.take(request);
        let mut out = Vec::new();
        proto::spans(&bodies.bytes(buffer)[PREFIX_BYTES..], |_, span| {
            let ids = proto::ids(span).expect("valid");
            assert_eq!(proto::end_time(span), Some(request.intended + (1 << 60)));
            out.push((ids.trace.to_vec(), ids.span.to_vec()));
        })
        .expect("valid");
        bodies.release(buffer);
        out
    }

    #[test]
    fn a_trace_has_its_spans_spread_over_its_requests_and_no_span_comes_twice() {
        for order in ["sdk", "collector"] {
            let mut bodies = bodies(&format!(
                "--order {order} --spans-per-request 40 --spans-per-trace 8 --spread 4"
            ));
            let mut traces: HashMap<Vec<u8>, (usize, HashSet<u64>)> = HashMap::new();
            let mut spans = HashSet::new();
            for number in 0..100 {
                for (trace, span) in ids(&mut bodies, &request(number)) {
                    let entry = traces.entry(trace).or_default();
                    entry.0 += 1;
                    entry.1.insert(number);
                    assert!(spans.insert(span));
                }
            }
            let whole = traces.values().filter(|(n, requests)| *n == 8 && requests.len() == 4);
            assert!(whole.count() * 10 > traces.len() * 9, "all but those at the ends");
        }
    }

    #[test]
    fn a_repeated_request_carries_the_same_ids() {
        let mut bodies = bodies("--bodies 2");
        let first = ids(&mut bodies, &request(5));
        ids(&mut bodies, &request(7));
        assert_eq!(ids(&mut bodies, &request(5)), first);
    }

    #[test]
    fn a_trace_without_a_root_has_spans_with_parents_only() {
        let roots = |share: &str| {
            let mut bodies = bodies(&format!("--rootless-share {share} --spread 4"));
            let mut roots = 0;
            for number in 0..40 {
                let buffer = bodies.take(&request(number));
                let templates = &bodies.templates[bodies.template_of(number)];
                let body = bodies.bytes(buffer);
                roots += (templates.spans.iter())
                    .filter(|(places, ..)| body[places.parent_id..][..8] == [0; 8])
                    .count();
                bodies.release(buffer);
            }
            roots
        };
        let (all, half) = (roots("0"), roots("50%"));
        assert_eq!(roots("100%"), 0);
        assert!((all * 4 / 10..all * 6 / 10).contains(&half), "{half} of {all}");
    }

    #[test]
    fn the_traces_that_a_request_begins_are_those_that_are_sent() {
        let mut bodies = bodies("--spans-per-request 41 --spread 4 --error-share 20%");
        let mut sent: HashMap<Vec<u8>, usize> = HashMap::new();
        for number in 0..104 {
            for (trace, _) in ids(&mut bodies, &request(number)) {
                *sent.entry(trace).or_default() += 1;
            }
        }
        let begun: Vec<_> = (0..100).flat_map(|number| bodies.begun_by(number)).collect();
        assert!(begun.iter().all(|b| sent[b.id.as_slice()] == b.spans));
        assert!(begun.len() + 50 > sent.len(), "{} of {}", begun.len(), sent.len());
        let errors = begun.iter().filter(|b| b.error).count();
        assert!((begun.len() / 10..begun.len() * 3 / 10).contains(&errors), "{errors}");
    }

    #[test]
    fn late_spans_belong_to_traces_of_the_earlier_request() {
        let mut bodies = bodies("--late-share 50% --spread 1");
        let early: HashSet<_> = ids(&mut bodies, &request(4)).into_iter().map(|i| i.0).collect();
        let late = Request { late_of: Some(4), ..request(400) };
        let (old, new): (Vec<_>, Vec<_>) =
            ids(&mut bodies, &late).into_iter().partition(|i| early.contains(&i.0));
        assert!(old.len() * 3 > new.len() && new.len() * 3 > old.len());
    }

    #[test]
    fn compressed_bodies_inflate_to_the_same_message() {
        let plain = ids(&mut bodies(""), &request(3));
        for encoding in ["gzip", "zstd"] {
            let mut bodies = bodies(&format!("--compression {encoding}"));
            let buffer = bodies.take(&request(3));
            let mut message = Vec::new();
            let body = bodies.bytes(buffer);
            assert_eq!(body[0], 1);
            crate::wire::grpc::inflate(&body[PREFIX_BYTES..], &mut message).expect("inflates");
            let mut got = Vec::new();
            proto::spans(&message, |_, span| {
                got.push(proto::ids(span).expect("valid").trace.to_vec());
            })
            .expect("valid");
            assert_eq!(got, plain.iter().map(|i| i.0.clone()).collect::<Vec<_>>());
        }
    }
}
