//! Page-aligned read buffers. They belong to the core: a connection borrows one while it has
//! unread bytes, an idle connection holds none. A message that lies whole in one can stay there.
//!
//! Aligned, because on Zen 3 the kernel's copy is ten times slower when (destination − source)
//! mod 4096 is 1..31 (feasibility B), and network buffers start at page borders.

use std::cell::{Cell, RefCell};

use bytes::Bytes;

/// Size of one buffer: enough for four 64 KiB requests per system call.
pub const BUFFER_BYTES: usize = 256 << 10;

/// Buffers kept for later by one core.
const SPARE_MAX: usize = 8;
/// Buffers that a core may have in use while pieces of another one are kept.
const KEPT_MAX: usize = 16;

const PAGE: usize = 4096;

#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u8; PAGE]);

/// One buffer of [`BUFFER_BYTES`].
pub struct Buffer(Vec<Page>);

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer").finish_non_exhaustive()
    }
}

thread_local! {
    static SPARE: RefCell<Vec<Buffer>> = const { RefCell::new(Vec::new()) };
    /// Buffers of this core of which somebody has a piece.
    static FROZEN: Cell<usize> = const { Cell::new(0) };
}

/// A buffer of which somebody has a piece.
struct Frozen(Option<Buffer>);

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], Buffer::bytes)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        // A thread that ends may have dropped its own already.
        let _ = FROZEN.try_with(|frozen| frozen.set(frozen.get().saturating_sub(1)));
        if let Some(buffer) = self.0.take() {
            buffer.put();
        }
    }
}

impl Buffer {
    /// A spare one of this core, or a new one. The content is arbitrary.
    #[must_use]
    pub fn take() -> Self {
        SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            let mut pages = Vec::with_capacity(BUFFER_BYTES / PAGE);
            pages.resize(BUFFER_BYTES / PAGE, Page([0; PAGE]));
            Self(pages)
        })
    }

    /// Back to the core.
    pub fn put(self) {
        // A thread that ends may have dropped them already.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(self);
            }
        });
    }

    /// The first `len` bytes, which from now on stay as they are. The buffer goes back to the core
    /// when the last piece of them is dropped.
    #[must_use]
    pub fn freeze(self, len: usize) -> Bytes {
        FROZEN.set(FROZEN.get() + 1);
        Bytes::from_owner(Frozen(Some(self))).slice(..len)
    }

    /// Whether the core has buffers enough that pieces of one may be kept for a while.
    #[must_use]
    pub fn may_be_kept() -> bool {
        FROZEN.get() <= KEPT_MAX
    }

    /// The bytes.
    #[must_use]
    #[expect(unsafe_code, reason = "a Vec<u8> cannot ask for page alignment")]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the pages are contiguous, initialised arrays of u8 with no padding between
        // (size and alignment are both 4096), and the borrow of self covers the slice.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * PAGE) }
    }

    /// The bytes, to write to.
    #[expect(unsafe_code, reason = "a Vec<u8> cannot ask for page alignment")]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * PAGE) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_page_aligned_and_reused() {
        let mut a = Buffer::take();
        assert_eq!(a.bytes().len(), BUFFER_BYTES);
        assert_eq!(a.bytes().as_ptr().addr() % PAGE, 0);
        a.bytes_mut()[BUFFER_BYTES - 1] = 7;
        let at = a.bytes().as_ptr().addr();
        a.put();
        assert_eq!(Buffer::take().bytes().as_ptr().addr(), at);
    }

    #[test]
    fn a_buffer_comes_back_when_the_last_piece_of_it_is_gone() {
        let mut buffer = Buffer::take();
        buffer.bytes_mut()[..4].copy_from_slice(b"abcd");
        let at = buffer.bytes().as_ptr().addr();
        let bytes = buffer.freeze(4);
        let piece = bytes.slice(1..3);
        drop(bytes);
        let other = Buffer::take();
        assert_ne!(other.bytes().as_ptr().addr(), at);
        assert_eq!((&piece[..], FROZEN.get()), (&b"bc"[..], 1));
        drop(piece);
        assert_eq!((Buffer::take().bytes().as_ptr().addr(), FROZEN.get()), (at, 0));
    }

    #[test]
    fn no_more_pieces_are_kept_than_there_are_buffers_for() {
        let held: Vec<Bytes> = (0..KEPT_MAX).map(|_| Buffer::take().freeze(1)).collect();
        assert!(Buffer::may_be_kept());
        let one_more = Buffer::take().freeze(1);
        assert!(!Buffer::may_be_kept());
        drop((held, one_more));
        assert!(Buffer::may_be_kept());
    }
}
