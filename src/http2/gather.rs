//! Header blocks that span frames (RFC 9113 §6.10).

use super::frame::{CONTINUATION, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame};
use super::frame::{PROTOCOL_ERROR, Violation, content, violation};

/// Longest header block that is put together.
const BLOCK_BYTES_MAX: usize = 64 << 10;
/// Frames of one block. They may be empty, so the length alone is no limit.
const FRAMES_MAX: u32 = 64;

/// A header block whose CONTINUATION frames are still to come.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    stream: u32,
    end_stream: bool,
    block: Vec<u8>,
    frames: u32,
}

/// A complete header block.
#[derive(Debug)]
pub(crate) struct Complete<'a> {
    pub(crate) stream: u32,
    pub(crate) end_stream: bool,
    pub(crate) block: &'a [u8],
}

impl Gather {
    /// Whether only CONTINUATION may come now (RFC 9113 §6.10).
    pub(crate) fn is_open(&self) -> bool {
        self.stream != 0
    }

    /// Takes a HEADERS or CONTINUATION frame; gives the block once it is complete.
    pub(crate) fn push<'a>(
        &'a mut self,
        frame: &Frame<'a>,
    ) -> Result<Option<Complete<'a>>, Violation> {
        if frame.stream == 0 {
            return violation(PROTOCOL_ERROR, "HEADERS on stream 0");
        }
        if frame.kind == CONTINUATION {
            if self.stream != frame.stream {
                return violation(PROTOCOL_ERROR, "CONTINUATION of nothing");
            }
            self.block.extend_from_slice(frame.payload);
        } else {
            let block = content(frame)?;
            let end_stream = frame.has(END_STREAM);
            if frame.has(END_HEADERS) {
                // Idle connections stay small.
                self.block = Vec::new();
                return Ok(Some(Complete { stream: frame.stream, end_stream, block }));
            }
            self.stream = frame.stream;
            self.end_stream = end_stream;
            self.frames = 0;
            self.block.clear();
            self.block.extend_from_slice(block);
        }
        self.frames += 1;
        if self.block.len() > BLOCK_BYTES_MAX || self.frames > FRAMES_MAX {
            return violation(ENHANCE_YOUR_CALM, "header block too large");
        }
        if !frame.has(END_HEADERS) {
            return Ok(None);
        }
        let stream = std::mem::take(&mut self.stream);
        Ok(Some(Complete { stream, end_stream: self.end_stream, block: &self.block }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::HEADERS;
    use super::*;

    #[test]
    fn a_block_is_put_together_from_its_frames() {
        let mut gather = Gather::default();
        let head = Frame { kind: HEADERS, flags: END_STREAM, stream: 3, payload: b"ab" };
        assert!(gather.push(&head).expect("valid").is_none());
        assert!(gather.is_open());
        let other = Frame { kind: CONTINUATION, flags: END_HEADERS, stream: 5, payload: b"" };
        assert!(gather.push(&other).is_err());
        let tail = Frame { kind: CONTINUATION, flags: END_HEADERS, stream: 3, payload: b"c" };
        let whole = gather.push(&tail).expect("valid").expect("complete");
        assert_eq!((whole.block, whole.end_stream), (&b"abc"[..], true));
        assert!(!gather.is_open());
    }

    #[test]
    fn a_block_ends_by_its_length_or_by_its_frames() {
        for (payload, frames) in [(&[0_u8; 16384][..], 5), (&[], 65)] {
            let mut gather = Gather::default();
            let head = Frame { kind: HEADERS, flags: 0, stream: 3, payload };
            let more = Frame { kind: CONTINUATION, ..head };
            assert!(gather.push(&head).is_ok());
            let broken = (1..frames).find(|_| gather.push(&more).is_err());
            assert_eq!(broken, Some(frames - 1), "{}", payload.len());
        }
    }
}
