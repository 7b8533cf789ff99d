//! A message that arrived: in one piece, or in pieces that lie where they were read.

use std::ops::Range;

use bytes::Bytes;

/// A message. Who needs it in one piece calls [`Self::whole`].
#[derive(Clone, Debug, Default)]
pub struct Message {
    region: Bytes,
    /// Of `region`, in order; none if that is the message.
    pieces: Vec<Range<u32>>,
}

impl From<Bytes> for Message {
    fn from(body: Bytes) -> Self {
        Self { region: body, pieces: Vec::new() }
    }
}

impl From<Vec<u8>> for Message {
    fn from(body: Vec<u8>) -> Self {
        Bytes::from(body).into()
    }
}

impl Message {
    /// One that lies in `pieces` of `body`. A single piece is a message in one.
    #[must_use]
    pub fn scattered(body: Bytes, mut pieces: Vec<Range<u32>>) -> Self {
        match &pieces[..] {
            [] => Self::default(),
            [one] => body.slice(one.start as usize..one.end as usize).into(),
            [first, .., last] => {
                // What is around it is nobody's.
                let start = first.start;
                let region = body.slice(start as usize..last.end as usize);
                for piece in &mut pieces {
                    *piece = piece.start - start..piece.end - start;
                }
                Self { region, pieces }
            }
        }
    }

    /// Bytes of the message.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.pieces[..] {
            [] => self.region.len(),
            pieces => pieces.iter().map(|piece| piece.len()).sum(),
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the pieces are of: the message, if there are none.
    #[must_use]
    pub const fn region(&self) -> &Bytes {
        &self.region
    }

    /// Where in [`Self::region`] it lies; no pieces if that is all of it.
    #[must_use]
    pub fn pieces(&self) -> &[Range<u32>] {
        &self.pieces
    }

    /// The message in one piece, which it is from now on.
    pub fn whole(&mut self) -> &Bytes {
        if !self.pieces.is_empty() {
            let mut whole = Vec::with_capacity(self.len());
            join(&self.region, &self.pieces, &mut whole);
            *self = whole.into();
        }
        &self.region
    }
}

/// Appends the pieces, put together.
pub(super) fn join(region: &[u8], pieces: &[Range<u32>], to: &mut Vec<u8>) {
    for piece in pieces {
        to.extend_from_slice(&region[piece.start as usize..piece.end as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_pieces_is_what_they_are_together() {
        let body = Bytes::from_static(b"--ab---c--d-");
        let pieces = [2..4, 7..8, 10..11];
        for (count, region, whole) in [
            (3, &b"ab---c--d"[..], &b"abcd"[..]),
            (2, b"ab---c", b"abc"),
            (1, b"ab", b"ab"),
            (0, b"", b""),
        ] {
            let mut message = Message::scattered(body.clone(), pieces[..count].to_vec());
            assert_eq!((message.len(), &message.region()[..]), (whole.len(), region));
            assert_eq!(!message.pieces().is_empty(), region != whole);
            assert_eq!(message.whole(), whole);
            assert_eq!((message.len(), message.pieces()), (whole.len(), &[][..]));
        }
    }
}
