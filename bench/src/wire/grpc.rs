//! gRPC over it: the 5-byte prefix, codes and their names, message encodings (otlp 2.1, 2.2).

use std::io::Read;

use super::frame;

/// Length of the prefix of a message.
pub(crate) const PREFIX_BYTES: usize = 5;
/// Largest message that is accepted or inflated.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// Names of the codes, in order.
pub(crate) const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub(crate) const OK: u32 = 0;
pub(crate) const CANCELLED: u32 = 1;
pub(crate) const UNKNOWN: u32 = 2;
pub(crate) const DEADLINE_EXCEEDED: u32 = 4;
pub(crate) const PERMISSION_DENIED: u32 = 7;
pub(crate) const RESOURCE_EXHAUSTED: u32 = 8;
pub(crate) const ABORTED: u32 = 10;
pub(crate) const OUT_OF_RANGE: u32 = 11;
pub(crate) const UNIMPLEMENTED: u32 = 12;
pub(crate) const INTERNAL: u32 = 13;
pub(crate) const UNAVAILABLE: u32 = 14;
pub(crate) const DATA_LOSS: u32 = 15;
pub(crate) const UNAUTHENTICATED: u32 = 16;

/// The code with this name or number.
pub(crate) fn code(text: &str) -> Option<u32> {
    let name = text.to_ascii_uppercase();
    let at = CODES.iter().position(|c| *c == name);
    at.map(|i| i as u32).or_else(|| text.parse().ok().filter(|&n| (n as usize) < CODES.len()))
}

/// The code that a stream's reset stands for (otlp 2.2).
pub(crate) fn code_of_reset(error: u32) -> u32 {
    match error {
        frame::REFUSED_STREAM => UNAVAILABLE,
        frame::CANCEL => CANCELLED,
        frame::ENHANCE_YOUR_CALM => RESOURCE_EXHAUSTED,
        0xc => PERMISSION_DENIED,
        _ => INTERNAL,
    }
}

/// The code that an HTTP status without `grpc-status` stands for (otlp 2.2).
pub(crate) fn code_of_http(status: Option<u16>) -> u32 {
    match status {
        Some(400 | 431) => INTERNAL,
        Some(401) => UNAUTHENTICATED,
        Some(403) => PERMISSION_DENIED,
        Some(404) => UNIMPLEMENTED,
        Some(429 | 502 | 503 | 504) => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// Whether an OTLP exporter may send again after this code (otlp 1.6).
pub(crate) fn may_retry(code: u32, has_retry_info: bool) -> bool {
    match code {
        CANCELLED | DEADLINE_EXCEEDED | ABORTED | OUT_OF_RANGE | UNAVAILABLE | DATA_LOSS => true,
        RESOURCE_EXHAUSTED => has_retry_info,
        _ => false,
    }
}

/// How messages are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Compression {
    #[default]
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// The value of `grpc-encoding`.
    pub(crate) fn encoding(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
        }
    }
}

/// Inflates a message into `out`; which encoding it is shows in its first bytes.
pub(crate) fn inflate(coded: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    match coded {
        [0x1f, 0x8b, .., a, b, c, d] => {
            // The last four bytes of gzip are the size (RFC 1952 §2.3.1).
            let size = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            if size > MESSAGE_BYTES_MAX {
                return None;
            }
            out.resize(size, 0);
            let n = libdeflater::Decompressor::new().gzip_decompress(coded, out).ok()?;
            (n == size).then_some(())
        }
        [0x28, 0xb5, 0x2f, 0xfd, ..] => read_all(zstd::Decoder::with_buffer(coded).ok()?, out),
        [0xff, 6, 0, 0, b's', b'N', b'a', b'P', b'p', b'Y', ..] => {
            read_all(snap::read::FrameDecoder::new(coded), out)
        }
        _ => None,
    }
}

fn read_all(decoder: impl Read, out: &mut Vec<u8>) -> Option<()> {
    decoder.take(MESSAGE_BYTES_MAX as u64 + 1).read_to_end(out).ok()?;
    (out.len() <= MESSAGE_BYTES_MAX).then_some(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn every_encoding_is_recognised_by_its_first_bytes() {
        let plain = b"spans, spans, spans, spans".repeat(100);
        let mut gzip = vec![0; 4096];
        let n = libdeflater::Compressor::new(libdeflater::CompressionLvl::fastest())
            .gzip_compress(&plain, &mut gzip)
            .expect("room");
        gzip.truncate(n);
        let zstd = zstd::bulk::compress(&plain, 1).expect("compresses");
        let mut snappy = Vec::new();
        let mut encoder = snap::write::FrameEncoder::new(&mut snappy);
        encoder.write_all(&plain).expect("memory");
        drop(encoder);
        for coded in [&gzip, &zstd, &snappy] {
            let mut out = Vec::new();
            assert_eq!(inflate(coded, &mut out), Some(()));
            assert_eq!(out, plain);
            assert_eq!(inflate(&coded[..coded.len() - 5], &mut out), None);
        }
        assert_eq!(inflate(b"", &mut Vec::new()), None);
    }

    #[test]
    fn codes_have_names_and_numbers() {
        assert_eq!(code("UNAVAILABLE"), Some(UNAVAILABLE));
        assert_eq!(code("unavailable"), Some(14));
        assert_eq!(code("8"), Some(8));
        assert_eq!(code("17"), None);
    }
}
