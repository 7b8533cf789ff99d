//! Header blocks that span frames, and what a gRPC reply says in them (otlp 2.1).

use super::frame::{CONTINUATION, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, Frame};
use super::frame::{PROTOCOL_ERROR, Violation, content, violation};
use super::hpack;

/// Longest header block that is put together.
const BLOCK_BYTES_MAX: usize = 256 << 10;

/// A header block whose CONTINUATION frames are still to come.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    stream: u32,
    end_stream: bool,
    block: Vec<u8>,
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
                return Ok(Some(Complete { stream: frame.stream, end_stream, block }));
            }
            self.stream = frame.stream;
            self.end_stream = end_stream;
            self.block.clear();
            self.block.extend_from_slice(block);
        }
        if self.block.len() > BLOCK_BYTES_MAX {
            return violation(ENHANCE_YOUR_CALM, "header block too large");
        }
        if !frame.has(END_HEADERS) {
            return Ok(None);
        }
        let stream = std::mem::take(&mut self.stream);
        Ok(Some(Complete { stream, end_stream: self.end_stream, block: &self.block }))
    }
}

/// What the headers or trailers of a reply say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) http_status: Option<u16>,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) message: String,
    /// `grpc-status-details-bin` is there: RetryInfo, in OTLP.
    pub(crate) has_details: bool,
}

/// Reads reply header blocks, remembering the last few: most are equal to one seen before.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    known: Vec<(Vec<u8>, Said)>,
    next: usize,
}

const KNOWN_MAX: usize = 4;

impl Reader {
    pub(crate) fn read(&mut self, block: &[u8]) -> Result<&Said, Violation> {
        if let Some(at) = self.known.iter().position(|(b, _)| b == block) {
            return Ok(&self.known[at].1);
        }
        let mut said = Said::default();
        hpack::fields(block, |name, value| {
            let text = || String::from_utf8_lossy(value);
            match name {
                b":status" => said.http_status = text().parse().ok(),
                b"grpc-status" => said.grpc_status = text().parse().ok(),
                b"grpc-message" => said.message = text().into_owned(),
                b"grpc-status-details-bin" => said.has_details = true,
                _ => {}
            }
        })?;
        if self.known.len() < KNOWN_MAX {
            self.known.push((block.to_vec(), said));
            return Ok(&self.known[self.known.len() - 1].1);
        }
        let at = self.next;
        self.next = (at + 1) % KNOWN_MAX;
        self.known[at] = (block.to_vec(), said);
        Ok(&self.known[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::HEADERS;

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
    fn more_blocks_than_are_remembered_are_still_read_right() {
        let mut reader = Reader::default();
        for round in 0..3 {
            for status in 0..7_u32 {
                let mut block = Vec::new();
                hpack::put_literal(&mut block, "grpc-status", status.to_string().as_bytes());
                let said = reader.read(&block).expect("valid");
                assert_eq!(said.grpc_status, Some(status), "{round}");
            }
        }
    }
}
