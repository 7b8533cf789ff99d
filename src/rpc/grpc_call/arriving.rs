//! A request whose body is on its way in.

use std::ops::Range;

use bytes::Bytes;

use super::{Admitted, Arrived, busy};
use crate::rpc::frame::{PREFIX_BYTES, Prefix};
use crate::rpc::message::{self, Message};
use crate::rpc::status::{Code, Status};
use crate::runtime::lease::{Charge, Purse};
use crate::time::Instant;

/// Allocated at once for a message that announces as much or more, when so much of it is there.
const BODY_BYTES_FIRST: usize = 64 << 10;
const PART_BYTES_MIN: usize = 1 << 10;
/// More of them are put together: frames are usually of 16 KiB, and read 256 KiB at a time.
const PIECES_MAX: usize = 32;

/// A request whose body is on its way in.
#[derive(Debug)]
pub(in crate::rpc) struct Arriving {
    admitted: Admitted,
    /// When it is late.
    pub(super) due: Instant,
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    head: Option<Prefix>,
    message: Gathered,
    bytes_max: usize,
    charge: Option<Charge>,
}

/// What has come of a message.
#[derive(Debug)]
enum Gathered {
    /// It lies in pieces of what was read at once.
    Kept { source: Bytes, pieces: Vec<Range<u32>>, len: usize },
    /// Put together.
    Joined(Vec<u8>),
}

impl Gathered {
    fn len(&self) -> usize {
        match self {
            Self::Kept { len, .. } => *len,
            Self::Joined(bytes) => bytes.len(),
        }
    }

    /// Memory of its own.
    fn capacity(&self) -> usize {
        match self {
            Self::Kept { .. } => 0,
            Self::Joined(bytes) => bytes.capacity(),
        }
    }

    /// One more piece, of a message of `all` bytes.
    fn push(&mut self, bytes: &[u8], all: usize, keep: impl FnOnce() -> Option<Bytes>) {
        if bytes.is_empty() || self.keep(bytes, all, keep) {
            return;
        }
        let joined = self.join(bytes.len(), all);
        joined.extend_from_slice(bytes);
    }

    /// Whether the piece may stay where it lies, beside the ones before.
    fn keep(&mut self, bytes: &[u8], all: usize, keep: impl FnOnce() -> Option<Bytes>) -> bool {
        let piece = |source: &Bytes| {
            let start = bytes.as_ptr().addr().checked_sub(source.as_ptr().addr())?;
            let (start, end) =
                (u32::try_from(start).ok()?, u32::try_from(start + bytes.len()).ok()?);
            (end as usize <= source.len()).then_some(start..end)
        };
        match self {
            Self::Joined(before) if before.is_empty() => {
                let Some(source) = keep() else { return false };
                let Some(first) = piece(&source) else { return false };
                *self = Self::Kept { source, pieces: vec![first], len: bytes.len() };
                true
            }
            Self::Joined(_) => false,
            Self::Kept { source, pieces, len } => {
                let Some(next) = piece(source) else { return false };
                *len += bytes.len();
                match pieces.last_mut() {
                    Some(last) if last.end == next.start => last.end = next.end,
                    _ => pieces.push(next),
                }
                if pieces.len() > PIECES_MAX {
                    self.join(0, all);
                }
                true
            }
        }
    }

    /// Puts together what is there. The first time there is room for `more` bytes then, of `all` in
    /// all; what comes later grows it as usual.
    fn join(&mut self, more: usize, all: usize) -> &mut Vec<u8> {
        let there = self.len() + more;
        // What is announced costs nothing until a part of it is there.
        let first = if there < PART_BYTES_MIN { there } else { BODY_BYTES_FIRST.max(there) };
        let room = all.min(first).max(there);
        match self {
            Self::Joined(bytes) if bytes.is_empty() => bytes.reserve_exact(room),
            Self::Joined(_) => {}
            Self::Kept { source, pieces, .. } => {
                let mut bytes = Vec::with_capacity(room);
                message::join(source, pieces, &mut bytes);
                *self = Self::Joined(bytes);
            }
        }
        let Self::Joined(bytes) = self else { unreachable!("it was just joined") };
        bytes
    }
}

impl From<Gathered> for Message {
    fn from(gathered: Gathered) -> Self {
        match gathered {
            Gathered::Kept { source, pieces, .. } => Self::scattered(source, pieces),
            Gathered::Joined(bytes) => bytes.into(),
        }
    }
}

impl Arriving {
    pub(super) fn new(admitted: Admitted, due: Instant, bytes_max: usize) -> Self {
        Self {
            admitted,
            due,
            prefix: [0; PREFIX_BYTES],
            prefix_len: 0,
            head: None,
            message: Gathered::Joined(Vec::new()),
            bytes_max,
            charge: None,
        }
    }

    /// More of it has come; `keep` gives what it lies in, if it may stay there.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        keep: impl FnOnce() -> Option<Bytes>,
    ) -> Result<(), Status> {
        let head = match self.head {
            Some(head) => head,
            None => {
                let (prefix, rest) =
                    bytes.split_at(bytes.len().min(PREFIX_BYTES - self.prefix_len));
                self.prefix[self.prefix_len..][..prefix.len()].copy_from_slice(prefix);
                self.prefix_len += prefix.len();
                bytes = rest;
                if self.prefix_len < PREFIX_BYTES {
                    return Ok(());
                }
                *self.head.insert(Prefix::read(self.prefix, self.bytes_max)?)
            }
        };
        if self.message.len() + bytes.len() > head.len {
            // grpc-go: a unary method takes one message.
            let text =
                "cardinality violation: received multiple request messages for a unary method";
            return Err(Status::new(Code::Internal, text));
        }
        self.message.push(bytes, head.len, keep);
        Ok(())
    }

    /// Whether it is not whole and lies in what was read.
    pub(super) fn holds_pieces(&self) -> bool {
        let is_whole = self.head.is_some_and(|head| head.len == self.message.len());
        !is_whole && matches!(self.message, Gathered::Kept { .. })
    }

    /// It holds nothing of what was read any more.
    pub(super) fn let_go(&mut self) {
        if self.holds_pieces() {
            self.message.join(0, self.head.map_or(0, |head| head.len));
        }
    }

    /// Charges what has arrived of a message that is not whole. Whole ones are bounded by what is
    /// read at once.
    pub(super) fn charge(&mut self, memory: &Purse) -> Result<(), Status> {
        let len = self.message.len();
        let whole = self.head.is_some_and(|head| head.len == len);
        if len == 0 || (whole && self.charge.is_none()) {
            return Ok(());
        }
        let room = self.message.capacity() as u64;
        let charged = match &mut self.charge {
            Some(charge) => charge.grow_to(room),
            none => {
                *none = memory.take(room);
                none.is_some()
            }
        };
        if charged { Ok(()) } else { Err(busy()) }
    }

    pub(super) fn finish(self, stream: u32) -> Result<Arrived, Status> {
        let Some(prefix) = self.head else {
            let text = match self.prefix_len {
                0 => {
                    "cardinality violation: received no request message from non-client-streaming RPC"
                }
                _ => "unexpected EOF",
            };
            return Err(Status::new(Code::Internal, text));
        };
        if self.message.len() < prefix.len {
            return Err(Status::new(Code::Internal, "unexpected EOF"));
        }
        let Self { admitted, message, charge, .. } = self;
        Ok(Arrived { stream, admitted, prefix, message: message.into(), charge })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::codec::Codec;

    fn arrive(chunks: &[&'static [u8]]) -> Result<Bytes, Status> {
        let mut arriving = empty(8);
        for chunk in chunks {
            arriving.push(chunk, || None)?;
        }
        arriving.finish(1).map(|mut arrived| arrived.message.whole().clone())
    }

    #[test]
    fn a_message_arrives_in_any_pieces() {
        for chunks in [
            &[&b"\0\0\0\0\x04abcd"[..]][..],
            &[b"\0\0", b"\0\0\x04", b"ab", b"", b"cd"],
            &[b"\0\0\0\0\x04a", b"b", b"c", b"d"],
        ] {
            assert_eq!(arrive(chunks).as_deref(), Ok(&b"abcd"[..]), "{chunks:?}");
        }
        assert_eq!(arrive(&[b"\0\0\0\0\0"]).as_deref(), Ok(&b""[..]));
    }

    fn empty(bytes_max: usize) -> Arriving {
        let (method, codec, timeout, metadata, headers) = (0, Codec::None, None, None, None);
        let admitted = Admitted { method, codec, timeout, metadata, headers };
        Arriving::new(admitted, Instant(0), bytes_max)
    }

    fn read(bytes: &'static [u8]) -> Bytes {
        Bytes::from_owner(bytes.to_vec())
    }

    #[test]
    fn pieces_of_what_was_read_at_once_stay_where_they_lie() {
        let source = read(b"\0\0\0\0\x06ab---cd-ef");
        let mut arriving = empty(8);
        for (piece, holds) in [(0..7, true), (10..12, true), (13..15, false)] {
            arriving.push(&source[piece], || Some(source.clone())).unwrap();
            assert_eq!(arriving.holds_pieces(), holds);
        }
        let mut message = arriving.finish(1).unwrap().message;
        assert_eq!(message.pieces(), [0..2, 5..7, 8..10]);
        assert_eq!(message.whole(), &b"abcdef"[..]);
    }

    #[test]
    fn pieces_of_two_reads_and_too_many_pieces_are_put_together() {
        let sources = [read(b"\0\0\0\0\x04ab"), read(b"cd")];
        let mut arriving = empty(8);
        arriving.push(&sources[0], || Some(sources[0].clone())).unwrap();
        arriving.push(&sources[1], || Some(sources[1].clone())).unwrap();
        let mut message = arriving.finish(1).unwrap().message;
        assert!(message.pieces().is_empty());
        assert_eq!(message.whole(), &b"abcd"[..]);

        let mut bytes = vec![0, 0, 0, 0, 100];
        bytes.extend((0..200).map(|n| n / 2));
        let source = Bytes::from(bytes);
        let mut arriving = empty(100);
        arriving.push(&source[..5], || Some(source.clone())).unwrap();
        for n in 0..100 {
            arriving.push(&source[5 + 2 * n..][..1], || Some(source.clone())).unwrap();
        }
        let mut message = arriving.finish(1).unwrap().message;
        assert!(message.pieces().is_empty());
        assert!(message.whole().iter().copied().eq(0..100));
    }

    #[test]
    fn what_is_not_whole_can_be_put_together_early() {
        let source = read(b"\0\0\0\0\x04ab-c");
        let mut arriving = empty(8);
        arriving.push(&source[..7], || Some(source.clone())).unwrap();
        arriving.push(&source[8..], || Some(source.clone())).unwrap();
        arriving.let_go();
        assert!(!arriving.holds_pieces());
        assert!(arriving.message.capacity() > 0, "it is charged from now on");
        arriving.push(b"d", || None).unwrap();
        assert_eq!(arriving.finish(1).unwrap().message.whole(), &b"abcd"[..]);
    }

    #[test]
    fn a_call_without_exactly_one_message_is_internal() {
        for (chunks, text) in [
            (&[][..], "no request message"),
            (&[&b"\0\0"[..]][..], "unexpected EOF"),
            (&[b"\0\0\0\0\x04abc"], "unexpected EOF"),
            (&[b"\0\0\0\0\x02abc"], "multiple request messages"),
        ] {
            let status = arrive(chunks).expect_err("not one message");
            assert_eq!(status.code, Code::Internal);
            assert!(status.message.contains(text), "{status}");
        }
    }
}
