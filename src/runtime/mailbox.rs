//! Messages from another thread to a core: a bounded lock-free queue and the core's waker. The
//! sender never waits; a full box gives the message back.

use std::sync::Arc;
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use crossbeam::queue::ArrayQueue;

/// A new box for at most `capacity` messages.
#[must_use]
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared { queue: ArrayQueue::new(capacity), waker: AtomicWaker::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

#[derive(Debug)]
struct Shared<T> {
    queue: ArrayQueue<T>,
    waker: AtomicWaker,
}

/// The side of the other threads.
#[derive(Debug)]
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Sender<T> {
    /// Whether the box is less than half full: who can wait leaves the rest to those who cannot.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.0.queue.len() < self.0.queue.capacity() / 2
    }

    /// Leaves a message and wakes the core.
    ///
    /// # Errors
    /// Gives the message back if the box is full.
    pub fn send(&self, message: T) -> Result<(), T> {
        self.0.queue.push(message)?;
        self.0.waker.wake();
        Ok(())
    }
}

/// The core's side.
#[derive(Debug)]
pub struct Receiver<T>(Arc<Shared<T>>);

impl<T> Receiver<T> {
    /// The next message.
    pub async fn recv(&mut self) -> T {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(message) = self.0.queue.pop() {
            return Poll::Ready(message);
        }
        self.0.waker.register(cx.waker());
        // A message may have come between the look and the registration.
        self.0.queue.pop().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_box_gives_the_message_back() {
        let (tx, _rx) = mailbox(1);
        assert_eq!(tx.send(1), Ok(()));
        assert_eq!(tx.send(2), Err(2));
        let (tx, _rx) = mailbox(4);
        assert_eq!((tx.send(1), tx.has_room()), (Ok(()), true));
        assert_eq!((tx.send(2), tx.has_room()), (Ok(()), false));
    }
}
