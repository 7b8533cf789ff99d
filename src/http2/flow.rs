//! Receive windows: what a peer may still send, and when it is told of more (RFC 9113 §5.2).
//! Windows to send are plain numbers, see [`super::frame::widen`].

/// A peer that may still send more than this does not run dry before the next answer.
const PLENTY: u32 = 256 << 10;

/// The receive window of a connection or a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    /// What the peer may send now.
    left: u32,
    /// What it may send at once when all is read.
    size: u32,
}

impl Window {
    /// One that the peer knows to be of this size.
    pub(crate) fn new(size: u32) -> Self {
        Self { left: size, size }
    }

    /// From now on it is to be of this size. A smaller one takes effect as the peer sends.
    pub(crate) fn resize(&mut self, size: u32) {
        self.size = size;
    }

    /// The peer has sent `bytes`; false if that is more than it may.
    #[must_use]
    pub(crate) fn take(&mut self, bytes: usize) -> bool {
        let left = u32::try_from(bytes).ok().and_then(|bytes| self.left.checked_sub(bytes));
        self.left = left.unwrap_or(0);
        left.is_some()
    }

    /// The credit to give, all that came being read: none until it is half a window.
    #[must_use]
    pub(crate) fn credit(&mut self) -> Option<u32> {
        let credit = self.size.checked_sub(self.left).filter(|c| *c > 0 && *c >= self.size / 2)?;
        self.left = self.size;
        Some(credit)
    }

    /// The same, where an answer will soon take it along: a packet of its own costs more than a
    /// small answer. None while the peer may still send plenty.
    #[must_use]
    pub(crate) fn credit_alone(&mut self) -> Option<u32> {
        if self.left > PLENTY { None } else { self.credit() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_given_by_halves_and_never_beyond_the_window() {
        let mut window = Window::new(100);
        assert!(window.take(40));
        assert_eq!(window.credit(), None);
        assert!(window.take(20));
        assert_eq!(window.credit(), Some(60));
        assert!(window.take(100) && !window.take(1));
    }

    #[test]
    fn credit_waits_for_company_while_the_peer_may_send_plenty() {
        let mut window = Window::new(4 * PLENTY);
        assert!(window.take(2 * PLENTY as usize));
        assert_eq!(window.credit_alone(), None);
        assert_eq!(window.credit(), Some(2 * PLENTY));
        assert!(window.take(3 * PLENTY as usize));
        assert_eq!(window.credit_alone(), Some(3 * PLENTY));
        let mut small = Window::new(100);
        assert!(small.take(60));
        assert_eq!(small.credit_alone(), Some(60));
    }

    #[test]
    fn a_window_grows_at_once_and_shrinks_as_it_is_used() {
        let mut window = Window::new(100);
        window.resize(300);
        assert_eq!(window.credit(), Some(200));
        window.resize(100);
        assert!(window.take(150));
        assert_eq!(window.credit(), None);
        assert!(window.take(120));
        assert_eq!(window.credit(), Some(70));
    }
}
