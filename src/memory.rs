//! Memory before it is needed. It takes as long to answer as some hundred instructions take, and
//! the CPU asks ahead by itself only for what is read in order: whoever knows more says it here.

use std::ptr;

/// What memory answers with.
const LINE_BYTES: usize = 64;

/// Asks for what will soon be read or written. Nobody waits for it. Without effect but on x86-64.
#[inline]
pub(crate) fn fetch<T: ?Sized>(what: &T) {
    let start = ptr::from_ref(what).cast::<u8>();
    let before = start.addr() % LINE_BYTES;
    for at in (0..before + size_of_val(what)).step_by(LINE_BYTES) {
        line(start.wrapping_sub(before).wrapping_add(at));
    }
}

#[inline]
#[expect(unsafe_code, reason = "the instruction takes any address, so std cannot call it safe")]
fn line(at: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: it is a hint. It neither reads nor writes for the program, it cannot fault
        // whatever the address is, and every x86-64 has it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_can_be_asked_for() {
        let bytes = [1_u8; 3 * LINE_BYTES];
        for start in 0..bytes.len() {
            for end in start..=bytes.len() {
                fetch(&bytes[start..end]);
            }
        }
        fetch(&());
        fetch("");
        assert_eq!(bytes, [1; 3 * LINE_BYTES]);
    }
}
