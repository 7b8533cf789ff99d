//! Message encodings of gRPC and HTTP bodies: whole messages in, whole messages out, by the
//! libraries of each format. The size limit holds after inflating too, so a bomb ends there.

use std::cell::RefCell;
use std::fmt;
use std::io::Read as _;

use libdeflater::{CompressionLvl, Compressor, Decompressor};

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
    /// The framed (stream) format, as gRPC peers understand "snappy" (otlp 1.3).
    Snappy,
}

/// Value of `grpc-accept-encoding`.
pub const ACCEPTED: &str = "gzip,snappy,zstd";

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

/// zstd windows above this are refused: the window is memory that a peer makes us hold.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// Fastest levels: start-up says what compression costs (design 7).
const ZSTD_LEVEL: i32 = 1;
const GZIP_LEVEL: i32 = 1;

struct Codecs {
    inflate: Decompressor,
    deflate: Compressor,
    zstd_in: zstd::bulk::Decompressor<'static>,
    zstd_out: zstd::bulk::Compressor<'static>,
}

thread_local! {
    // Contexts are 100 KiB to some MiB, so a core makes them at the first compressed message.
    static CODECS: RefCell<Option<Codecs>> = const { RefCell::new(None) };
}

fn with_codecs<T>(f: impl FnOnce(&mut Codecs) -> T) -> T {
    CODECS.with_borrow_mut(|slot| {
        f(slot.get_or_insert_with(|| Codecs {
            inflate: Decompressor::new(),
            deflate: Compressor::new(
                CompressionLvl::new(GZIP_LEVEL).expect("1 is a level of libdeflate"),
            ),
            zstd_in: zstd::bulk::Decompressor::new().expect("zstd allocates a context"),
            zstd_out: zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("1 is a level of zstd"),
        }))
    })
}

impl Codec {
    /// The codec of `grpc-encoding` or `Content-Encoding`; `None` if there is none of that name.
    #[must_use]
    pub fn of(name: &[u8]) -> Option<Self> {
        match name {
            b"" | b"identity" => Some(Self::None),
            b"gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            b"snappy" => Some(Self::Snappy),
            _ => None,
        }
    }

    /// Its name in headers; `None` for no encoding.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
            Self::Snappy => Some("snappy"),
        }
    }

    /// The content of `message`, at most `bytes_max`.
    ///
    /// # Errors
    /// If it is larger or corrupt.
    pub fn inflate(self, message: &[u8], bytes_max: usize) -> Result<Vec<u8>, Error> {
        match self {
            Self::None if message.len() > bytes_max => Err(Error::TooLarge),
            Self::None => Ok(message.to_vec()),
            Self::Gzip => gunzip(message, bytes_max),
            Self::Zstd => unzstd(message, bytes_max),
            Self::Snappy => read_all(snap::read::FrameDecoder::new(message), bytes_max),
        }
    }

    /// `message` in this encoding, appended to `out`.
    pub fn deflate(self, message: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend_from_slice(message),
            Self::Gzip => with_codecs(|c| {
                let bound = c.deflate.gzip_compress_bound(message.len());
                append(out, bound, |to| {
                    c.deflate.gzip_compress(message, to).expect("the bound is enough")
                });
            }),
            Self::Zstd => with_codecs(|c| {
                let bound = zstd::zstd_safe::compress_bound(message.len());
                append(out, bound, |to| {
                    c.zstd_out.compress_to_buffer(message, to).expect("the bound is enough")
                });
            }),
            Self::Snappy => {
                let mut encoder = snap::write::FrameEncoder::new(out);
                std::io::Write::write_all(&mut encoder, message).expect("a Vec takes all");
                encoder.into_inner().map_err(drop).expect("a Vec takes all");
            }
        }
    }
}

/// Grows `out` by `bound`, lets `write` fill the new part and cuts it to what was written.
fn append(out: &mut Vec<u8>, bound: usize, write: impl FnOnce(&mut [u8]) -> usize) {
    let start = out.len();
    out.resize(start + bound, 0);
    let n = write(&mut out[start..]);
    out.truncate(start + n);
}

/// One member in one go if the trailer's size and checksum agree with what came out; several
/// members (allowed by RFC 1952, sent by nobody we know) through the streaming decoder.
fn gunzip(message: &[u8], bytes_max: usize) -> Result<Vec<u8>, Error> {
    let trailer = message.last_chunk::<8>().ok_or(Error::Corrupt)?;
    let [c0, c1, c2, c3, s0, s1, s2, s3] = *trailer;
    let size = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
    // 1032 is deflate's best ratio, so a larger promise is a lie and not allocated.
    if size <= bytes_max && size / 1032 <= message.len() {
        let mut out = vec![0; size];
        let done = with_codecs(|c| c.inflate.gzip_decompress(message, &mut out));
        if done == Ok(size) && crc32fast::hash(&out) == u32::from_le_bytes([c0, c1, c2, c3]) {
            return Ok(out);
        }
    }
    read_all(flate2::read::MultiGzDecoder::new(message), bytes_max)
}

fn unzstd(message: &[u8], bytes_max: usize) -> Result<Vec<u8>, Error> {
    let size = zstd::zstd_safe::get_frame_content_size(message).map_err(|_| Error::Corrupt)?;
    if let Some(size) = size.and_then(|s| usize::try_from(s).ok()) {
        if size > bytes_max {
            return Err(Error::TooLarge);
        }
        if let Ok(out) = with_codecs(|c| c.zstd_in.decompress(message, size)) {
            return Ok(out);
        }
    }
    let mut decoder =
        zstd::stream::read::Decoder::with_buffer(message).map_err(|_| Error::Corrupt)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| Error::Corrupt)?;
    read_all(decoder, bytes_max)
}

fn read_all(decoder: impl std::io::Read, bytes_max: usize) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    decoder.take(limit).read_to_end(&mut out).map_err(|_| Error::Corrupt)?;
    if out.len() > bytes_max { Err(Error::TooLarge) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Codec; 4] = [Codec::None, Codec::Gzip, Codec::Zstd, Codec::Snappy];

    fn text() -> Vec<u8> {
        (0..20_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect()
    }

    #[test]
    fn each_codec_gives_back_what_it_took_and_stops_at_the_limit() {
        for codec in ALL {
            let mut packed = b"before".to_vec();
            codec.deflate(&text(), &mut packed);
            let packed = &packed[6..];
            assert_eq!(codec.inflate(packed, text().len()).as_ref(), Ok(&text()), "{codec:?}");
            assert_eq!(codec.inflate(packed, text().len() - 1), Err(Error::TooLarge), "{codec:?}");
        }
    }

    #[test]
    fn garbage_and_cut_messages_are_corrupt() {
        for codec in &ALL[1..] {
            let mut packed = Vec::new();
            codec.deflate(&text(), &mut packed);
            packed.truncate(packed.len() - 9);
            assert_eq!(codec.inflate(&packed, 1 << 20), Err(Error::Corrupt), "{codec:?}");
            assert_eq!(codec.inflate(&[0x55; 64], 1 << 20), Err(Error::Corrupt), "{codec:?}");
        }
    }

    #[test]
    fn gzip_of_two_members_is_their_concatenation() {
        let mut packed = Vec::new();
        Codec::Gzip.deflate(b"one ", &mut packed);
        Codec::Gzip.deflate(b"two!", &mut packed);
        assert_eq!(Codec::Gzip.inflate(&packed, 100).as_deref(), Ok(&b"one two!"[..]));
    }

    #[test]
    fn zstd_without_content_size_is_inflated_by_streaming() {
        let packed = zstd::stream::encode_all(&text()[..], 1).expect("in memory");
        assert_eq!(Codec::Zstd.inflate(&packed, 1 << 20), Ok(text()));
    }
}
