//! A request whose body is on its way in.

use bytes::Bytes;

use super::{Admitted, Arrived, busy};
use crate::rpc::frame::{PREFIX_BYTES, Prefix};
use crate::rpc::status::{Code, Status};
use crate::runtime::lease::{Charge, Purse};
use crate::time::Instant;

/// Allocated at once for a message that announces as much or more, when so much of it is there.
const BODY_BYTES_FIRST: usize = 64 << 10;
const PART_BYTES_MIN: usize = 1 << 10;

/// A request whose body is on its way in.
#[derive(Debug)]
pub(in crate::rpc) struct Arriving {
    admitted: Admitted,
    /// When it is late.
    pub(super) due: Instant,
    prefix: [u8; PREFIX_BYTES],
    prefix_len: usize,
    head: Option<Prefix>,
    message: Message,
    bytes_max: usize,
    charge: Option<Charge>,
}

/// What has come of a message.
#[derive(Debug)]
enum Message {
    /// All of it, in one piece, which lies where it was read.
    Whole(Bytes),
    /// The pieces so far, put together.
    Pieces(Vec<u8>),
}

impl Message {
    fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Pieces(bytes) => bytes.len(),
        }
    }

    /// Memory of its own.
    fn capacity(&self) -> usize {
        match self {
            Self::Whole(_) => 0,
            Self::Pieces(bytes) => bytes.capacity(),
        }
    }

    /// One more piece, of `len` bytes in all.
    fn push(&mut self, bytes: &[u8], len: usize, keep: impl FnOnce(&[u8]) -> Option<Bytes>) {
        let Self::Pieces(pieces) = self else { return };
        if pieces.is_empty() && !bytes.is_empty() {
            if bytes.len() == len
                && let Some(whole) = keep(bytes)
            {
                *self = Self::Whole(whole);
                return;
            }
            // What is announced costs nothing until a part of it is there.
            let first = if bytes.len() < PART_BYTES_MIN { bytes.len() } else { BODY_BYTES_FIRST };
            pieces.reserve_exact(len.min(first.max(bytes.len())));
        }
        pieces.extend_from_slice(bytes);
    }
}

impl From<Message> for Bytes {
    fn from(message: Message) -> Self {
        match message {
            Message::Whole(bytes) => bytes,
            Message::Pieces(bytes) => bytes.into(),
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
            message: Message::Pieces(Vec::new()),
            bytes_max,
            charge: None,
        }
    }

    /// More of it has come; `keep` lets a message that came in one piece stay where it lies.
    pub(super) fn push(
        &mut self,
        mut bytes: &[u8],
        keep: impl FnOnce(&[u8]) -> Option<Bytes>,
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
        let (method, codec, timeout, metadata, headers) = (0, Codec::None, None, None, None);
        let admitted = Admitted { method, codec, timeout, metadata, headers };
        let mut arriving = Arriving::new(admitted, Instant(0), 8);
        for chunk in chunks {
            arriving.push(chunk, |_| None)?;
        }
        arriving.finish(1).map(|arrived| arrived.message)
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
