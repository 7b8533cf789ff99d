//! Page-aligned read buffers. They belong to the core: a connection borrows one while it has
//! unread bytes, an idle connection holds none.
//!
//! Aligned, because on Zen 3 the kernel's copy is ten times slower when (destination − source)
//! mod 4096 is 1..31 (feasibility B), and network buffers start at page borders.

use std::cell::RefCell;

/// Size of one buffer: enough for four 64 KiB requests per system call.
pub const BUFFER_BYTES: usize = 256 << 10;

/// Buffers kept for later by one core.
const SPARE_MAX: usize = 4;

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
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_MAX {
                spare.push(self);
            }
        });
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
}
