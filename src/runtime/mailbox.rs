//! Messages from another thread to a core: a bounded lock-free queue and a call to the core. The
//! sender never waits; a full box gives the message back.

use std::sync::Arc;
use std::task::{Context, Poll};

use crossbeam::queue::ArrayQueue;

use super::call::{Caller, Listener};

/// A new box for at most `capacity` messages.
#[must_use]
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared { queue: ArrayQueue::new(capacity), core: Caller::default() });
    (Sender(Arc::clone(&shared)), Receiver { shared, listener: None })
}

#[derive(Debug)]
struct Shared<T> {
    queue: ArrayQueue<T>,
    core: Caller,
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
        self.0.core.call();
        Ok(())
    }
}

/// The core's side.
#[derive(Debug)]
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    /// From the first wait on, on the core that waits.
    listener: Option<Listener>,
}

impl<T> Receiver<T> {
    /// The next message.
    pub async fn recv(&mut self) -> T {
        std::future::poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(message) = self.shared.queue.pop() {
            return Poll::Ready(message);
        }
        let listener = self.listener.get_or_insert_with(|| Listener::new(&self.shared.core));
        listener.listen(cx);
        // A message may have come before somebody listened.
        self.shared.queue.pop().map_or(Poll::Pending, Poll::Ready)
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
