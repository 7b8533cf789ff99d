//! Inflating: in one piece by the fastest library of a format where what the message says about its
//! size is likely, and in slices where it is not. A core that works on a bomb can so serve others
//! meanwhile.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::Read;

use libdeflater::{DecompressionError, Decompressor};

use super::line::Place;
use super::{Codec, Error};
use crate::runtime::turn;

/// Content of up to this size is inflated in one piece, whatever it is.
const PIECE_BYTES: usize = 256 << 10;
/// Telemetry shrinks four to seven times, in rare cases twenty. What claims more is a bomb until
/// shown otherwise, and inflated in slices.
const RATIO_LIKELY: usize = 32;
/// What is inflated between two looks at the turn.
const SLICE_BYTES: usize = 64 << 10;
/// zstd windows above this are refused: the window is memory that a peer makes us hold.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// The best ratios of the formats: a message that promises more lies, and nothing is allocated
/// for it. deflate: 258 bytes of two bits. Snappy: 64 bytes of three.
const DEFLATE_RATIO_MAX: usize = 1032;
const SNAPPY_RATIO_MAX: usize = 22;
/// What RFC 1950 does not say is guessed. A core that sees content shrink more guesses more.
const DEFLATE_RATIO_GUESS: usize = 8;
/// The same for formats that are read as streams.
const STREAM_RATIO_GUESS: usize = 4;
/// First bytes of Snappy's framed format.
const SNAPPY_FRAMES: &[u8] = b"\xff\x06\0\0sNaPpY";

struct Contexts {
    deflate: Decompressor,
    /// How much room per byte the next zlib message probably needs.
    zlib_ratio: usize,
    zstd: zstd::bulk::Decompressor<'static>,
    snappy: snap::raw::Decoder,
}

thread_local! {
    // They are 100 KiB together, so a core makes them at the first compressed message.
    static CONTEXTS: RefCell<Option<Contexts>> = const { RefCell::new(None) };
}

fn with<T>(f: impl FnOnce(&mut Contexts) -> T) -> T {
    CONTEXTS.with_borrow_mut(|slot| {
        f(slot.get_or_insert_with(|| Contexts {
            deflate: Decompressor::new(),
            zlib_ratio: DEFLATE_RATIO_GUESS,
            zstd: zstd::bulk::Decompressor::new().expect("zstd allocates a context"),
            snappy: snap::raw::Decoder::new(),
        }))
    })
}

impl Codec {
    /// The content of `message`, at most `bytes_max`.
    ///
    /// # Errors
    /// If it is larger or corrupt.
    pub fn inflate(self, message: &[u8], bytes_max: usize) -> Result<Vec<u8>, Error> {
        let mut inflation = self.begin(message, bytes_max)?;
        loop {
            if let Some(content) = inflation.step()? {
                return Ok(content);
            }
        }
    }

    /// The same, and pauses where the turn of the task ends.
    ///
    /// # Errors
    /// If it is larger or corrupt.
    pub async fn inflate_in_turns(
        self,
        message: &[u8],
        bytes_max: usize,
    ) -> Result<Vec<u8>, Error> {
        turn::pause().await;
        let mut inflation = self.begin(message, bytes_max)?;
        if let Some(content) = inflation.step()? {
            return Ok(content);
        }
        let _place = Place::take().await;
        loop {
            turn::pause().await;
            if let Some(content) = inflation.step()? {
                return Ok(content);
            }
        }
    }

    fn begin(self, message: &[u8], bytes_max: usize) -> Result<Inflation<'_>, Error> {
        match self {
            Self::None if message.len() > bytes_max => Err(Error::TooLarge),
            Self::None => Ok(Inflation::done(message.to_vec())),
            Self::Gzip => gunzip(message, bytes_max),
            Self::Zlib | Self::Deflate => unzlib(message, bytes_max),
            Self::Zstd => unzstd(message, bytes_max),
            Self::SnappyBlock if !message.starts_with(SNAPPY_FRAMES) => {
                unsnappy_block(message, bytes_max).map(Inflation::done)
            }
            Self::Snappy | Self::SnappyBlock => {
                Ok(Inflation::of(snap::read::FrameDecoder::new(message), message, bytes_max))
            }
            Self::Lz4 => {
                Ok(Inflation::of(lz4_flex::frame::FrameDecoder::new(message), message, bytes_max))
            }
        }
    }
}

/// A message that is being inflated, and then put together. A vector that grew to megabytes would
/// be copied whole, in one piece, each time.
struct Inflation<'m> {
    decoder: Box<dyn Read + 'm>,
    bytes_max: usize,
    next: Vec<u8>,
    done: VecDeque<Vec<u8>>,
    /// Inflated so far.
    bytes: usize,
    /// What is put together, once all is inflated.
    content: Option<Vec<u8>>,
}

impl<'m> Inflation<'m> {
    /// By `decoder`, in slices.
    fn of(decoder: impl Read + 'm, message: &[u8], bytes_max: usize) -> Self {
        let likely = message.len().saturating_mul(STREAM_RATIO_GUESS).min(bytes_max);
        let next = Vec::with_capacity(likely.min(SLICE_BYTES));
        let (decoder, done) = (Box::new(decoder), VecDeque::new());
        Self { decoder, bytes_max, next, done, bytes: 0, content: None }
    }

    /// One that was done in one piece.
    fn done(content: Vec<u8>) -> Self {
        Self { content: Some(content), ..Self::of(std::io::empty(), &[], 0) }
    }

    /// A slice more; the content after the last.
    fn step(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let Some(content) = &mut self.content else { return self.inflate() };
        if let Some(slice) = self.done.pop_front() {
            content.extend_from_slice(&slice);
        }
        let is_whole = self.done.is_empty();
        Ok(self.content.take_if(|_| is_whole))
    }

    fn inflate(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let mut slice = (&mut self.decoder).take(SLICE_BYTES as u64);
        let read = slice.read_to_end(&mut self.next).map_err(|_| Error::Corrupt)?;
        self.bytes += read;
        if self.bytes > self.bytes_max {
            return Err(Error::TooLarge);
        }
        let slice = std::mem::take(&mut self.next);
        let is_last = read < SLICE_BYTES;
        if is_last && self.done.is_empty() {
            return Ok(Some(slice));
        }
        self.done.push_back(slice);
        if is_last {
            self.content = Some(Vec::with_capacity(self.bytes));
        } else {
            self.next.reserve_exact(SLICE_BYTES);
        }
        Ok(None)
    }
}

/// Whether content of `size` is made in one piece.
fn is_likely(size: usize, message: &[u8]) -> bool {
    size <= PIECE_BYTES || size / RATIO_LIKELY <= message.len()
}

/// One member in one go if the trailer's size and checksum agree with what came out; several
/// members (allowed by RFC 1952, sent by nobody we know) by streaming.
fn gunzip(message: &[u8], bytes_max: usize) -> Result<Inflation<'_>, Error> {
    let trailer = message.last_chunk::<8>().ok_or(Error::Corrupt)?;
    let [c0, c1, c2, c3, s0, s1, s2, s3] = *trailer;
    let size = u32::from_le_bytes([s0, s1, s2, s3]) as usize;
    if size <= bytes_max && is_likely(size, message) && size / DEFLATE_RATIO_MAX <= message.len() {
        let mut out = vec![0; size];
        let done = with(|c| c.deflate.gzip_decompress(message, &mut out));
        if done == Ok(size) && crc32fast::hash(&out) == u32::from_le_bytes([c0, c1, c2, c3]) {
            return Ok(Inflation::done(out));
        }
    }
    Ok(Inflation::of(flate2::read::MultiGzDecoder::new(message), message, bytes_max))
}

/// The format does not say how large its content is: a guess that was too small is made again,
/// four times larger, as long as it is likely.
fn unzlib(message: &[u8], bytes_max: usize) -> Result<Inflation<'_>, Error> {
    let likely = message.len().saturating_mul(RATIO_LIKELY).max(PIECE_BYTES).min(bytes_max);
    let ratio = with(|c| c.zlib_ratio);
    let mut room = message.len().saturating_mul(ratio).min(likely);
    loop {
        let mut out = vec![0; room];
        match with(|c| c.deflate.zlib_decompress(message, &mut out)) {
            Ok(size) => {
                let ratio = size / message.len().max(1) + 2;
                with(|c| c.zlib_ratio = ratio.clamp(DEFLATE_RATIO_GUESS, RATIO_LIKELY));
                out.truncate(size);
                return Ok(Inflation::done(out));
            }
            Err(DecompressionError::BadData) => return Err(Error::Corrupt),
            Err(DecompressionError::InsufficientSpace) if room == bytes_max => {
                return Err(Error::TooLarge);
            }
            Err(DecompressionError::InsufficientSpace) if room == likely => break,
            Err(DecompressionError::InsufficientSpace) => {
                room = room.saturating_mul(4).min(likely);
            }
        }
    }
    Ok(Inflation::of(flate2::read::ZlibDecoder::new(message), message, bytes_max))
}

fn unzstd(message: &[u8], bytes_max: usize) -> Result<Inflation<'_>, Error> {
    // No frame at all is an empty stream.
    if message.is_empty() {
        return Ok(Inflation::done(Vec::new()));
    }
    let size = zstd::zstd_safe::get_frame_content_size(message).map_err(|_| Error::Corrupt)?;
    if let Some(size) = size.and_then(|s| usize::try_from(s).ok()) {
        if size > bytes_max {
            return Err(Error::TooLarge);
        }
        if is_likely(size, message)
            && let Ok(out) = with(|c| c.zstd.decompress(message, size))
        {
            return Ok(Inflation::done(out));
        }
    }
    let mut decoder =
        zstd::stream::read::Decoder::with_buffer(message).map_err(|_| Error::Corrupt)?;
    decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| Error::Corrupt)?;
    Ok(Inflation::of(decoder, message, bytes_max))
}

fn unsnappy_block(message: &[u8], bytes_max: usize) -> Result<Vec<u8>, Error> {
    let size = snap::raw::decompress_len(message).map_err(|_| Error::Corrupt)?;
    if size > bytes_max {
        return Err(Error::TooLarge);
    }
    if message.is_empty() || size / SNAPPY_RATIO_MAX > message.len() {
        return Err(Error::Corrupt);
    }
    let mut out = vec![0; size];
    let done = with(|c| c.snappy.decompress(message, &mut out));
    match done {
        Ok(n) if n == size => Ok(out),
        _ => Err(Error::Corrupt),
    }
}
