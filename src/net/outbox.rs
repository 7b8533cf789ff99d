//! What waits to be written on a connection: bytes of its own, and between them bytes that are lent
//! to it. So a message leaves from where it was merged, by one system call with all that surrounds
//! it, and is never copied into place. Pure.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Poll, ready};

use bytes::Bytes;

/// Fewer bytes are cheaper to copy than to point at.
const LENT_BYTES_MIN: usize = 1 << 10;
/// Most pieces that are given to the kernel at once; it takes no more than 1024.
const SLICES_MAX: usize = 64;

/// The bytes, in the order in which they leave.
#[derive(Debug, Default)]
pub struct Outbox {
    own: Vec<u8>,
    /// How much of `own` has left.
    sent: usize,
    lent: VecDeque<Lent>,
    lent_bytes: usize,
    /// Everything is wanted in one piece (TLS seals it).
    whole: bool,
}

/// Bytes that stand before position `at` of the own ones.
#[derive(Debug)]
struct Lent {
    at: usize,
    bytes: Bytes,
}

impl Outbox {
    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.own.len() - self.sent + self.lent_bytes
    }

    /// Whether none wait.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where bytes are appended.
    pub const fn own(&mut self) -> &mut Vec<u8> {
        &mut self.own
    }

    /// Appends bytes that stay where they are, unless they are few.
    pub fn lend(&mut self, bytes: Bytes) {
        if self.whole || bytes.len() < LENT_BYTES_MIN {
            self.own.extend_from_slice(&bytes);
        } else {
            self.lent_bytes += bytes.len();
            self.lent.push_back(Lent { at: self.own.len(), bytes });
        }
    }

    /// From now on nothing is lent.
    ///
    /// # Panics
    /// If something is.
    pub(super) fn be_whole(&mut self) {
        assert!(self.lent.is_empty(), "what is lent was not sealed");
        self.whole = true;
    }

    /// All that waits, where nothing is lent, and how much of it has left.
    pub(super) const fn as_whole(&mut self) -> (&Vec<u8>, &mut usize) {
        (&self.own, &mut self.sent)
    }

    /// Shows the first of what waits to `write`, which says how much of it has left.
    pub(super) fn write(
        &mut self,
        write: impl FnOnce(&[IoSlice<'_>]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = self.slices(&mut slices);
        let n = ready!(write(&slices[..count]))?;
        self.advance(n);
        Poll::Ready(Ok(n))
    }

    fn slices<'a>(&'a self, to: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let (mut count, mut from) = (0, self.sent);
        let mut put = |bytes: &'a [u8]| {
            if count < SLICES_MAX && !bytes.is_empty() {
                to[count] = IoSlice::new(bytes);
                count += 1;
            }
        };
        for lent in self.lent.iter().take(SLICES_MAX) {
            put(&self.own[from..lent.at]);
            put(&lent.bytes);
            from = lent.at;
        }
        // Behind the last one, if all of them are there.
        if self.lent.len() <= SLICES_MAX {
            put(&self.own[from..]);
        }
        count
    }

    /// The first `n` bytes have left.
    fn advance(&mut self, mut n: usize) {
        while let Some(lent) = self.lent.front_mut() {
            let own = n.min(lent.at - self.sent);
            self.sent += own;
            n -= own;
            if n == 0 {
                return;
            }
            let left = n.min(lent.bytes.len());
            self.lent_bytes -= left;
            n -= left;
            if left < lent.bytes.len() {
                bytes::Buf::advance(&mut lent.bytes, left);
                return;
            }
            self.lent.pop_front();
        }
        self.sent += n;
    }

    /// Forgets what has left, once that is the larger half, so that a peer that is always behind
    /// costs no more memory than one that is not.
    pub(super) fn forget(&mut self) {
        if self.sent > self.own.len() / 2 {
            self.own.drain(..self.sent);
            self.lent.iter_mut().for_each(|lent| lent.at -= self.sent);
            self.sent = 0;
        }
    }

    /// Nothing waits any more.
    pub(super) fn clear(&mut self) {
        debug_assert!(self.is_empty(), "all has left");
        self.own.clear();
        self.sent = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes up to `n` bytes out.
    fn take(outbox: &mut Outbox, n: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let written = outbox.write(|slices| {
            out.extend(slices.iter().flat_map(|s| s.to_vec()));
            out.truncate(n);
            Poll::Ready(Ok(out.len()))
        });
        assert!(matches!(written, Poll::Ready(Ok(_))));
        out
    }

    /// What was put in, byte by byte, and the same in an outbox, by a seed.
    fn filled(outbox: &mut Outbox, expected: &mut Vec<u8>, random: &mut u64, pieces: usize) {
        for _ in 0..pieces {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (byte, len) = ((*random >> 56) as u8, (*random >> 40) as usize % 3_000);
            expected.extend(vec![byte; len]);
            if *random >> 33 & 1 == 0 {
                outbox.own().extend(vec![byte; len]);
            } else {
                outbox.lend(vec![byte; len].into());
            }
        }
    }

    #[test]
    fn bytes_leave_in_their_order_however_few_are_taken_at_once() {
        for seed in 0..50 {
            let (mut outbox, mut random) = (Outbox::default(), seed * 7919 + 1);
            let (mut expected, mut got) = (Vec::new(), Vec::new());
            for round in 0..40 {
                filled(&mut outbox, &mut expected, &mut random, round % 9);
                assert_eq!(outbox.len(), expected.len() - got.len());
                let taken = take(&mut outbox, (random >> 20) as usize % 9_000);
                got.extend(taken);
                outbox.forget();
            }
            while !outbox.is_empty() {
                got.extend(take(&mut outbox, usize::MAX));
            }
            assert!(got == expected, "seed {seed}");
            outbox.clear();
            assert!(outbox.own.is_empty() && outbox.lent_bytes == 0);
        }
    }

    #[test]
    fn more_pieces_than_the_kernel_takes_leave_in_several_turns() {
        let mut outbox = Outbox::default();
        for n in 0..200_u8 {
            outbox.own().push(n);
            outbox.lend(vec![n; LENT_BYTES_MIN].into());
        }
        let (mut got, mut turns) = (Vec::new(), 0);
        while !outbox.is_empty() {
            got.extend(take(&mut outbox, usize::MAX));
            turns += 1;
        }
        assert_eq!(
            (got.len(), turns),
            (200 * (LENT_BYTES_MIN + 1), 400_usize.div_ceil(SLICES_MAX))
        );
        assert!(got.is_sorted());
    }

    #[test]
    fn what_is_few_or_to_be_sealed_is_copied() {
        let mut outbox = Outbox::default();
        outbox.lend(Bytes::from_static(b"few"));
        outbox.be_whole();
        outbox.lend(vec![7; LENT_BYTES_MIN].into());
        assert!(outbox.lent.is_empty());
        assert_eq!(outbox.as_whole().0.len(), 3 + LENT_BYTES_MIN);
    }
}
