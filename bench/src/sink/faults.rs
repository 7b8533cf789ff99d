//! Faults that a test wants: which answer a request gets, and when.

use crate::clock;
use crate::sink::options::Options;
use crate::wire::frame::{self, END_HEADERS, END_STREAM, HEADERS, put_header};
use crate::wire::grpc;
use crate::wire::hpack::{self, Block, EMPTY_TABLE, Header, Name};
use crate::wire::table::Table;

/// How a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// OK with an empty `ExportTraceServiceResponse`.
    Ok,
    /// The status of the fault.
    Status,
    /// INTERNAL: the request was not one valid message.
    Invalid,
    /// Not at all.
    Never,
}

/// The faults, and the time at which they hold.
#[derive(Debug)]
pub(crate) struct Faults {
    from: u64,
    until: u64,
    /// Per address, whether faults apply to it.
    hit: Vec<bool>,
    delay: u64,
    status_until: Option<u64>,
    hang: bool,
    refuse: bool,
}

impl Faults {
    pub(crate) fn new(options: &Options, start: u64) -> Self {
        let from = start + options.fault_at.as_nanos() as u64;
        let end = |lasting: Option<std::time::Duration>| {
            lasting.map_or(u64::MAX, |d| from.saturating_add(d.as_nanos() as u64))
        };
        let everywhere = options.fault_on.is_empty();
        Self {
            from,
            until: end(options.fault_for),
            hit: (0..options.listen.len())
                .map(|i| everywhere || options.fault_on.contains(&i))
                .collect(),
            delay: options.delay.map_or(0, |d| d.as_nanos() as u64),
            status_until: options.status.map(|s| end(s.lasting)),
            hang: options.hang,
            refuse: options.refuse,
        }
    }

    fn hold(&self, address: usize, now: u64) -> bool {
        (self.from..self.until).contains(&now) && self.hit[address]
    }

    /// The answer to a valid request, and the time at which it is due.
    pub(crate) fn answer(&self, address: usize, now: u64) -> (Answer, u64) {
        if !self.hold(address, now) {
            return (Answer::Ok, now);
        }
        let answer = match self.status_until {
            _ if self.hang => Answer::Never,
            Some(until) if now < until => Answer::Status,
            _ => Answer::Ok,
        };
        (answer, now + self.delay)
    }

    /// Whether the address refuses connections now.
    pub(crate) fn refuses(&self, address: usize, now: u64) -> bool {
        self.refuse && self.hold(address, now)
    }

    /// Whether an address may ever refuse.
    pub(crate) fn may_refuse(&self) -> bool {
        self.refuse
    }
}

/// Answers, encoded beforehand.
#[derive(Debug)]
pub(crate) struct Replies {
    headers: Block,
    trailers: Block,
    /// Trailers-only blocks.
    status: Vec<u8>,
    invalid: Vec<u8>,
}

impl Replies {
    pub(crate) fn new(options: &Options) -> Self {
        let content_type = || Header::Indexed(Name::Static(31), b"application/grpc".to_vec());
        let ok = Header::Indexed(Name::New("grpc-status"), b"0".to_vec());
        let trailers_only = |code: u32, message: &str| {
            let mut block = vec![0x88];
            hpack::put_literal(&mut block, "content-type", b"application/grpc");
            hpack::put_literal(&mut block, "grpc-status", code.to_string().as_bytes());
            hpack::put_literal(&mut block, "grpc-message", message.as_bytes());
            block
        };
        let code = options.status.map_or(grpc::UNAVAILABLE, |s| s.code);
        let mut status = trailers_only(code, "fault of the sink");
        if let Some(delay) = options.retry_info {
            let details = base64(&retry_info(code, delay));
            hpack::put_literal(&mut status, "grpc-status-details-bin", details.as_bytes());
            let pushback = delay.as_millis().to_string();
            hpack::put_literal(&mut status, "grpc-retry-pushback-ms", pushback.as_bytes());
        }
        Self {
            headers: Block::new(&[Header::Static(8), content_type()], 1),
            trailers: Block::new(&[ok], 0),
            status,
            invalid: trailers_only(grpc::INTERNAL, "not one valid OTLP message"),
        }
    }

    /// Appends the answer. The caller has checked the windows for its [`grpc::PREFIX_BYTES`].
    pub(crate) fn put(&self, out: &mut Vec<u8>, table: &mut Table, stream: u32, answer: Answer) {
        let only = match answer {
            Answer::Never => return,
            Answer::Status => &self.status,
            Answer::Invalid => &self.invalid,
            Answer::Ok => {
                put_header(out, table.len(&self.headers), HEADERS, END_HEADERS, stream);
                table.put(out, &self.headers);
                if *table == Table::Refused {
                    *table = Table::None;
                }
                put_header(out, grpc::PREFIX_BYTES, frame::DATA, 0, stream);
                out.extend_from_slice(&[0; grpc::PREFIX_BYTES]);
                let flags = END_HEADERS | END_STREAM;
                put_header(out, table.len(&self.trailers), HEADERS, flags, stream);
                table.put(out, &self.trailers);
                *table = table.used();
                return;
            }
        };
        let update = usize::from(*table == Table::Refused);
        put_header(out, update + only.len(), HEADERS, END_HEADERS | END_STREAM, stream);
        if update == 1 {
            out.push(EMPTY_TABLE);
            *table = Table::None;
        }
        out.extend_from_slice(only);
    }
}

/// `google.rpc.Status` with a `RetryInfo`.
fn retry_info(code: u32, delay: std::time::Duration) -> Vec<u8> {
    let message = |number: u8, inner: &[u8]| {
        let mut out = vec![number << 3 | 2];
        crate::proto::put_varint(&mut out, inner.len() as u64);
        out.extend_from_slice(inner);
        out
    };
    let number = |field: u8, value: u64| {
        let mut out = vec![field << 3];
        crate::proto::put_varint(&mut out, value);
        out
    };
    let duration =
        [number(1, delay.as_secs()), number(2, u64::from(delay.subsec_nanos()))].concat();
    let any = [
        message(1, b"type.googleapis.com/google.rpc.RetryInfo"),
        message(2, &message(1, &duration)),
    ]
    .concat();
    [number(1, u64::from(code)), message(2, b"fault of the sink"), message(3, &any)].concat()
}

/// Base64 without padding, as `-bin` headers carry it (otlp 2.1).
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0_u32, |w, b| w << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            out.push(char::from(DIGITS[(word >> (18 - 6 * i) & 63) as usize]));
        }
    }
    out
}

/// How long the loop may wait for a fault to begin or end.
pub(crate) const FAULT_TICK: u64 = 10 * clock::MILLISECOND;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_written_without_padding() {
        for (bytes, want) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v")] {
            assert_eq!(base64(bytes.as_bytes()), want);
        }
    }
}
