//! How another thread gets a core's attention: it sets a flag, and if the core sleeps, it rings.
//!
//! A core that works looks at its flag between two rounds of its tasks ([`super::pulse`]), so a
//! call is one atomic word then; only one that sleeps costs a system call and a wake-up. What can
//! wait is told without a ring: a core that sleeps hears of it when something else wakes it.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};
use std::task::Context;

use super::places::Places;

thread_local! {
    static POST: Post = Post::open();
}

/// What a core and those who call it share.
#[derive(Debug)]
pub(super) struct Line {
    called: AtomicBool,
    /// Whoever calls first now has to ring.
    asleep: AtomicBool,
    bell: OwnedFd,
}

/// The core's end.
#[derive(Debug)]
struct Post {
    line: Arc<Line>,
    /// Tasks that look at something when the core was called.
    listeners: Places,
}

impl Post {
    fn open() -> Self {
        let bell = event().expect("a descriptor for this thread");
        let (called, asleep) = (AtomicBool::new(false), AtomicBool::new(false));
        let line = Arc::new(Line { called, asleep, bell });
        Self { line, listeners: Places::default() }
    }
}

/// Sets a flag. The plain look first: to write is to take the line from the caches of the others.
pub(super) fn raise(flag: &AtomicBool) {
    if !flag.load(SeqCst) {
        flag.store(true, SeqCst);
    }
}

/// Takes a flag back, as [`raise`] does; whether it was set, and nobody else has.
pub(super) fn lower(flag: &AtomicBool) -> bool {
    flag.load(SeqCst) && flag.swap(false, SeqCst)
}

/// What the core that listens is called by; before somebody listens nobody hears it.
#[derive(Debug, Default)]
pub(super) struct Caller(OnceLock<Arc<Line>>);

impl Caller {
    /// Has every listener of the core look. What they are to see is there already.
    pub(super) fn call(&self) {
        if let Some(line) = self.tell()
            && lower(&line.asleep)
        {
            ring(&line.bell);
        }
    }

    /// Has every listener of the core look, when it is awake.
    pub(super) fn tell(&self) -> Option<&Line> {
        // Either this sees who listens, or the listener, which looks once more after it began to
        // listen, sees what is there.
        std::sync::atomic::fence(SeqCst);
        let line = self.0.get()?;
        raise(&line.called);
        Some(line)
    }
}

/// A task that looks at something when its core was called.
#[derive(Debug)]
pub(super) struct Listener {
    place: usize,
}

impl Listener {
    /// On this core, which `caller` calls from now on.
    pub(super) fn new(caller: &Caller) -> Self {
        let place = POST.with(|post| {
            caller.0.get_or_init(|| Arc::clone(&post.line));
            std::sync::atomic::fence(SeqCst);
            post.listeners.enter()
        });
        Self { place }
    }

    /// Wakes the task of `cx` at the next call; it looks once more then.
    pub(super) fn listen(&self, cx: &mut Context<'_>) {
        POST.with(|post| post.listeners.listen(self.place, cx));
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // A thread that ends may have dropped its end already.
        let _waker = POST.try_with(|post| post.listeners.leave(self.place));
    }
}

/// What rings when this core is called in its sleep; open as long as the core lives.
pub(super) fn bell() -> RawFd {
    POST.with(|post| post.line.bell.as_raw_fd())
}

/// Wakes who listens if this core was called since the last time. Whether it was.
pub(super) fn answer() -> bool {
    POST.with(|post| {
        let called = lower(&post.line.called);
        if called {
            post.listeners.wake();
        }
        called
    })
}

/// Whether this core, which is [`sleeping`], was called.
#[cfg(test)]
pub(super) fn is_rung() -> bool {
    POST.with(|post| !post.line.asleep.load(SeqCst))
}

/// Runs `sleep`, from which a call wakes this core; not at all if it was called already.
pub(super) fn sleeping(sleep: impl FnOnce()) {
    POST.with(|post| {
        post.line.asleep.store(true, SeqCst);
        if !post.line.called.load(SeqCst) {
            sleep();
        }
        post.line.asleep.store(false, SeqCst);
    });
}

#[expect(unsafe_code, reason = "the standard library has no eventfd")]
fn event() -> io::Result<OwnedFd> {
    // SAFETY: a call without pointers.
    match unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: a descriptor that was just made, which nobody else owns.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Nobody reads what is written: that it is written is the event.
#[expect(unsafe_code, reason = "the standard library has no eventfd")]
fn ring(bell: &OwnedFd) {
    let one = 1_u64;
    // SAFETY: eight bytes that are there during the call.
    unsafe { libc::write(bell.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
}

#[cfg(test)]
mod tests {

    use std::task::Waker;

    use super::*;
    use crate::testing::wakes::Wakes;

    #[test]
    fn a_call_is_heard_once_by_who_listens() {
        let (caller, count) = (Caller::default(), Arc::new(Wakes::default()));
        let waker = Waker::from(Arc::clone(&count));
        caller.call();
        let listener = Listener::new(&caller);
        listener.listen(&mut Context::from_waker(&waker));
        assert!(!answer(), "nobody listened");
        caller.call();
        caller.call();
        assert!(answer() && !answer());
        assert_eq!(count.count(), 1);
        drop(listener);
        caller.call();
        assert!(answer());
        assert_eq!(count.count(), 1, "it listens no more");
    }

    #[test]
    fn a_core_that_was_called_does_not_sleep() {
        let caller = Caller::default();
        let _listener = Listener::new(&caller);
        let slept = || {
            let mut slept = false;
            sleeping(|| slept = true);
            slept
        };
        assert!(slept());
        caller.call();
        assert!(!slept());
        assert!(answer() && slept());
    }

    #[test]
    fn only_one_that_sleeps_is_rung() {
        let caller = Caller::default();
        let _listener = Listener::new(&caller);
        let rung = || {
            let mut count = [0_u8; 8];
            // SAFETY: eight bytes of our own; the descriptor does not block.
            #[expect(unsafe_code, reason = "the standard library has no eventfd")]
            let read = unsafe { libc::read(bell(), count.as_mut_ptr().cast(), 8) };
            read == 8
        };
        caller.call();
        assert!(!rung() && answer());
        sleeping(|| {
            caller.call();
            caller.call();
        });
        assert!(rung() && !rung() && answer());
    }

    #[test]
    fn who_is_only_told_sleeps_on_and_can_be_called_still() {
        let caller = Caller::default();
        let _listener = Listener::new(&caller);
        sleeping(|| {
            caller.tell();
            assert!(!is_rung());
            caller.call();
            assert!(is_rung());
        });
        assert!(answer() && !answer());
    }
}
