//! Message encodings of gRPC and HTTP bodies: whole messages in, whole messages out, by the
//! libraries of each format. The size limit holds after inflating too, so a bomb ends there: what
//! a message says about its own size is believed only as far as the limit and its format go.

use std::cell::RefCell;
use std::fmt;

use libdeflater::{CompressionLvl, Compressor};

mod inflate;
mod line;

/// A message encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As it is.
    #[default]
    None,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
    /// Snappy's framed (stream) format, as gRPC peers understand "snappy" (otlp 1.3).
    Snappy,
    /// Snappy's block format, as HTTP peers understand "snappy"; framed messages, which they sent
    /// under that name in former years, are inflated, too.
    SnappyBlock,
    /// RFC 1950 under the name `zlib`.
    Zlib,
    /// RFC 1950 under the name `deflate`.
    Deflate,
    /// LZ4's frame format.
    Lz4,
}

/// Value of `grpc-accept-encoding`.
pub const ACCEPTED: &str = "gzip,snappy,zstd";

/// Encodings of HTTP bodies by name, as the collector has them unless `compression_algorithms` is
/// set (otlp 1.3). The empty name is a body as it is.
pub const HTTP_ENCODINGS: [(&str, Codec); 8] = [
    ("", Codec::None),
    ("gzip", Codec::Gzip),
    ("zstd", Codec::Zstd),
    ("zlib", Codec::Zlib),
    ("snappy", Codec::SnappyBlock),
    ("deflate", Codec::Deflate),
    ("lz4", Codec::Lz4),
    ("x-snappy-framed", Codec::Snappy),
];

/// Why a message could not be inflated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The content is larger than the limit.
    TooLarge,
    /// The bytes are not of that format.
    Corrupt,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "message after decompression larger than max",
            Self::Corrupt => "message is not in its declared encoding",
        })
    }
}

/// Fastest levels: start-up says what compression costs (design 7).
const ZSTD_LEVEL: i32 = 1;
const DEFLATE_LEVEL: i32 = 1;
/// Compressors that a core keeps, one per format and level.
const COMPRESSORS_MAX: usize = 8;

struct Codecs {
    snappy: snap::raw::Encoder,
    /// By level.
    deflate: Vec<(i32, Compressor)>,
    /// By level.
    zstd: Vec<(i32, zstd::bulk::Compressor<'static>)>,
}

thread_local! {
    // Contexts are 100 KiB to some MiB, so a core makes them at the first compressed message.
    static CODECS: RefCell<Option<Codecs>> = const { RefCell::new(None) };
}

fn with_codecs<T>(f: impl FnOnce(&mut Codecs) -> T) -> T {
    CODECS.with_borrow_mut(|slot| {
        f(slot.get_or_insert_with(|| Codecs {
            snappy: snap::raw::Encoder::new(),
            deflate: Vec::new(),
            zstd: Vec::new(),
        }))
    })
}

/// The compressor of `level`, made if it is not there.
fn of_level<C>(all: &mut Vec<(i32, C)>, level: i32, make: impl FnOnce() -> C) -> &mut C {
    let at = all.iter().position(|(of, _)| *of == level).unwrap_or_else(|| {
        all.truncate(COMPRESSORS_MAX - 1);
        all.push((level, make()));
        all.len() - 1
    });
    &mut all[at].1
}

impl Codec {
    /// The codec of `grpc-encoding`; `None` if there is none of that name.
    #[must_use]
    pub fn of_grpc(name: &[u8]) -> Option<Self> {
        match name {
            b"" | b"identity" => Some(Self::None),
            b"gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            b"snappy" => Some(Self::Snappy),
            _ => None,
        }
    }

    /// Its name in `grpc-encoding`; `None` for no encoding, and for those that gRPC peers do not
    /// have.
    #[must_use]
    pub const fn grpc_name(self) -> Option<&'static str> {
        match self {
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
            Self::Snappy => Some("snappy"),
            _ => None,
        }
    }

    /// Its name in `Content-Encoding`; `None` for no encoding.
    #[must_use]
    pub fn http_name(self) -> Option<&'static str> {
        let name = HTTP_ENCODINGS.iter().find(|(_, codec)| *codec == self)?.0;
        (!name.is_empty()).then_some(name)
    }

    /// `message` in this encoding, appended to `out`. `level` is the format's own; `None` is the
    /// fastest, and formats without levels do not look at it.
    pub fn deflate(self, message: &[u8], level: Option<i32>, out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend_from_slice(message),
            Self::Gzip => with_deflate(level, |c| {
                let bound = c.gzip_compress_bound(message.len());
                append(out, bound, |to| c.gzip_compress(message, to).expect("the bound is enough"));
            }),
            Self::Zlib | Self::Deflate => with_deflate(level, |c| {
                let bound = c.zlib_compress_bound(message.len());
                append(out, bound, |to| c.zlib_compress(message, to).expect("the bound is enough"));
            }),
            Self::Zstd => with_codecs(|c| {
                let level = level.unwrap_or(ZSTD_LEVEL);
                let zstd = of_level(&mut c.zstd, level, || {
                    zstd::bulk::Compressor::new(level).expect("zstd takes any level")
                });
                let bound = zstd::zstd_safe::compress_bound(message.len());
                append(out, bound, |to| {
                    zstd.compress_to_buffer(message, to).expect("the bound is enough")
                });
            }),
            Self::SnappyBlock => with_codecs(|c| {
                let bound = snap::raw::max_compress_len(message.len());
                append(out, bound, |to| {
                    c.snappy.compress(message, to).expect("the bound is enough")
                });
            }),
            Self::Snappy => {
                let mut encoder = snap::write::FrameEncoder::new(out);
                std::io::Write::write_all(&mut encoder, message).expect("a Vec takes all");
                encoder.into_inner().map_err(drop).expect("a Vec takes all");
            }
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
                std::io::Write::write_all(&mut encoder, message).expect("a Vec takes all");
                encoder.finish().expect("a Vec takes all");
            }
        }
    }
}

/// libdeflate at zlib's `level`: its own 1 to 9 cost and yield about as much; -2 (Huffman only)
/// has no counterpart and is the fastest.
fn with_deflate(level: Option<i32>, f: impl FnOnce(&mut Compressor)) {
    let level = match level {
        None | Some(-2) => DEFLATE_LEVEL,
        Some(-1) => 6,
        Some(level) => level.clamp(0, 9),
    };
    with_codecs(|c| {
        f(of_level(&mut c.deflate, level, || {
            Compressor::new(CompressionLvl::new(level).expect("0 to 9 are levels of libdeflate"))
        }));
    });
}

/// Grows `out` by `bound`, lets `write` fill the new part and cuts it to what was written.
fn append(out: &mut Vec<u8>, bound: usize, write: impl FnOnce(&mut [u8]) -> usize) {
    let start = out.len();
    out.resize(start + bound, 0);
    let n = write(&mut out[start..]);
    out.truncate(start + n);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Codec; 8] = [
        Codec::None,
        Codec::Gzip,
        Codec::Zstd,
        Codec::Snappy,
        Codec::SnappyBlock,
        Codec::Zlib,
        Codec::Deflate,
        Codec::Lz4,
    ];

    fn text() -> Vec<u8> {
        (0..20_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect()
    }

    fn packed(codec: Codec, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        codec.deflate(content, None, &mut out);
        out
    }

    #[test]
    fn each_codec_gives_back_what_it_took_and_stops_at_the_limit() {
        for codec in ALL {
            for content in [text(), vec![0; 100_000], Vec::new(), b"x".to_vec()] {
                let mut packed = b"before".to_vec();
                codec.deflate(&content, None, &mut packed);
                let packed = &packed[6..];
                let len = content.len();
                assert_eq!(codec.inflate(packed, len).as_ref(), Ok(&content), "{codec:?} {len}");
                if len > 0 {
                    assert_eq!(codec.inflate(packed, len - 1), Err(Error::TooLarge), "{codec:?}");
                }
            }
        }
    }

    #[test]
    fn every_level_gives_back_what_it_took() {
        for codec in ALL {
            for level in [-2, -1, 0, 1, 5, 9, 22, -100, 100] {
                let mut packed = Vec::new();
                codec.deflate(&text(), Some(level), &mut packed);
                assert_eq!(codec.inflate(&packed, 1 << 20), Ok(text()), "{codec:?} {level}");
            }
        }
    }

    #[test]
    fn garbage_and_cut_messages_are_corrupt() {
        for codec in &ALL[1..] {
            let mut packed = packed(*codec, &text());
            packed.truncate(packed.len() - 9);
            assert_eq!(codec.inflate(&packed, 1 << 20), Err(Error::Corrupt), "{codec:?}");
            assert_eq!(codec.inflate(&[0x55; 64], 1 << 20), Err(Error::Corrupt), "{codec:?}");
        }
    }

    #[test]
    fn a_bomb_ends_at_the_limit() {
        let zeros = vec![0; 64 << 20];
        for codec in &ALL[1..] {
            let packed = packed(*codec, &zeros);
            assert_eq!(codec.inflate(&packed, 1 << 20), Err(Error::TooLarge), "{codec:?}");
        }
    }

    #[test]
    fn a_promise_that_the_format_cannot_keep_is_not_allocated_for() {
        // Ten bytes that announce 2 MiB.
        let block = b"\x80\x80\x80\x01\0a\0b\0c";
        assert_eq!(Codec::SnappyBlock.inflate(block, 4 << 20), Err(Error::Corrupt));
        assert_eq!(Codec::SnappyBlock.inflate(block, 1 << 20), Err(Error::TooLarge));
    }

    #[test]
    fn a_block_may_also_be_framed_and_frames_may_not_be_a_block() {
        let framed = packed(Codec::Snappy, &text());
        assert_eq!(Codec::SnappyBlock.inflate(&framed, 1 << 20), Ok(text()));
        let block = packed(Codec::SnappyBlock, &text());
        assert_eq!(Codec::Snappy.inflate(&block, 1 << 20), Err(Error::Corrupt));
    }

    #[test]
    fn names_lead_to_codecs_and_back() {
        for (name, codec) in HTTP_ENCODINGS {
            assert_eq!(codec.http_name().unwrap_or(""), name);
        }
        for name in ACCEPTED.split(',') {
            let codec = Codec::of_grpc(name.as_bytes()).expect("it is accepted");
            assert_eq!(codec.grpc_name(), Some(name));
        }
    }

    #[test]
    fn gzip_of_two_members_is_their_concatenation() {
        let both = [packed(Codec::Gzip, b"one "), packed(Codec::Gzip, b"two!")].concat();
        assert_eq!(Codec::Gzip.inflate(&both, 100).as_deref(), Ok(&b"one two!"[..]));
    }

    #[test]
    fn zstd_without_content_size_is_inflated_by_streaming() {
        let packed = zstd::stream::encode_all(&text()[..], 1).expect("in memory");
        assert_eq!(Codec::Zstd.inflate(&packed, 1 << 20), Ok(text()));
    }
}
