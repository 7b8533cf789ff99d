//! Buffers that calls were merged in and that a core keeps for the next ones: grown, so that
//! nothing is copied to grow them again, and the last one used first, while it is in the cache.

use std::cell::RefCell;

use bytes::Bytes;

/// All buffers that a core keeps have no more room together.
const SPARE_BYTES_MAX: usize = 4 << 20;
/// Smaller ones are not worth keeping.
const ROOM_BYTES_MIN: usize = 32 << 10;

thread_local! {
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare { buffers: Vec::new(), room: 0 }) };
}

struct Spare {
    buffers: Vec<Vec<u8>>,
    /// Of all of them.
    room: usize,
}

/// An empty buffer with room for so many bytes or more.
pub(super) fn take(bytes: usize) -> Vec<u8> {
    let spare = SPARE.with_borrow_mut(|spare| {
        let buffer = spare.buffers.pop()?;
        spare.room -= buffer.capacity();
        Some(buffer)
    });
    // To grow an empty one would copy what stood in it.
    let large = spare.filter(|buffer| buffer.capacity() >= bytes);
    large.unwrap_or_else(|| Vec::with_capacity(bytes))
}

/// What stands in a buffer. It goes back to the core when the last piece of it is dropped.
pub(super) fn freeze(buffer: Vec<u8>) -> Bytes {
    if buffer.capacity() < ROOM_BYTES_MIN {
        return buffer.into();
    }
    Bytes::from_owner(Lent(buffer))
}

struct Lent(Vec<u8>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        // A thread that ends may have dropped its own already.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.room + buffer.capacity() <= SPARE_BYTES_MAX {
                buffer.clear();
                spare.room += buffer.capacity();
                spare.buffers.push(buffer);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> (usize, usize) {
        SPARE.with_borrow(|spare| (spare.buffers.len(), spare.room))
    }

    #[test]
    fn a_buffer_comes_back_empty_when_the_last_piece_of_it_is_gone() {
        let mut buffer = take(100 << 10);
        buffer.extend_from_slice(b"abcd");
        let (at, room) = (buffer.as_ptr(), buffer.capacity());
        let bytes = freeze(buffer);
        let piece = bytes.slice(1..3);
        drop(bytes);
        assert_eq!((kept(), &piece[..]), ((0, 0), &b"bc"[..]));
        drop(piece);
        assert_eq!(kept(), (1, room));
        let again = take(1);
        assert_eq!((again.as_ptr(), again.len(), kept()), (at, 0, (0, 0)));
    }

    #[test]
    fn what_is_kept_is_bounded_and_small_ones_are_not() {
        drop(freeze(Vec::with_capacity(ROOM_BYTES_MIN - 1)));
        assert_eq!(kept(), (0, 0));
        let many = [(); 10].map(|()| freeze(Vec::with_capacity(1 << 20)));
        drop(many);
        assert_eq!(kept(), (4, 4 << 20));
        assert!(take(2 << 20).capacity() >= 2 << 20, "it grows if it has to");
    }
}
