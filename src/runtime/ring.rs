//! Which sockets of a core are ready, and its sleep, by a ring of the core's own.
//!
//! The executor's ring interrupts the core for every socket that becomes ready while it works
//! (glommio sets no `COOP_TASKRUN`), and arms each socket anew after each wait. This one is armed
//! once per socket (`POLL_ADD`, multishot, edge-triggered) and hands out what happened when it is
//! asked, by one system call for all sockets (`DEFER_TASKRUN`), which is also the core's sleep.
//! Whether there is anything to ask for stands in memory (`TASKRUN_FLAG`).

use std::cell::RefCell;
use std::io;
use std::os::fd::RawFd;
use std::task::{Context, Waker};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, types};

use super::call;

/// Submissions that fit; what does not is submitted at once.
const ENTRIES: u32 = 256;
/// Events that fit; the kernel keeps more.
const EVENTS: u32 = 4096;
/// Not from the kernel's headers, since the crate keeps it to itself.
const ENTER_GETEVENTS: u32 = 1;
/// User data of requests whose end nobody waits for.
const NOBODY: u64 = u64::MAX;
/// User data of the bell.
const BELL: u64 = u64::MAX - 1;

thread_local! {
    static RING: RefCell<Option<Ring>> = const { RefCell::new(None) };
}

/// The readiness of one socket. Drop it before the socket.
#[derive(Debug)]
pub struct Watch {
    slot: usize,
}

/// What one waits for.
#[derive(Clone, Copy, Debug)]
pub enum Side {
    /// That there is something to read.
    Read,
    /// That there is room to write.
    Write,
}

struct Ring {
    uring: IoUring,
    slots: Vec<Slot>,
    free: Vec<usize>,
}

#[derive(Debug, Default)]
struct Slot {
    /// Tells events of a socket from those of one that had the slot before.
    generation: u32,
    fd: Option<RawFd>,
    sides: [State; 2],
}

#[derive(Debug, Default)]
struct State {
    ready: bool,
    /// The peer has ended or the connection is broken: there is no further event to wait for.
    ended: bool,
    waker: Option<Waker>,
}

impl Watch {
    /// Watches `fd`, which is open as long as this lives.
    ///
    /// # Errors
    /// If the kernel cannot watch it.
    ///
    /// # Panics
    /// If this thread is no core.
    pub fn new(fd: RawFd) -> io::Result<Self> {
        Ok(Self { slot: with_ring(|ring| ring.watch(fd))? })
    }

    /// Whether it is worth trying. If not, `cx` is woken when it is.
    pub fn poll(&self, side: Side, cx: &mut Context<'_>) -> bool {
        self.with(side, |state| {
            if !state.ready && !state.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            state.ready
        })
    }

    /// It was tried in vain: it is worth trying again after the next event.
    pub fn clear(&self, side: Side) {
        self.with(side, |state| state.ready = false);
    }

    /// Whether the peer has said that nothing more comes, or is gone.
    pub fn has_ended(&self) -> bool {
        self.with(Side::Read, |state| state.ended)
    }

    /// What is there was taken. Whatever comes then is an event of its own, unless it is the end,
    /// which may have come with the last one.
    pub fn emptied(&self, side: Side) {
        self.with(side, |state| state.ready = state.ended);
    }

    fn with<T>(&self, side: Side, f: impl FnOnce(&mut State) -> T) -> T {
        with_ring(|ring| f(&mut ring.slots[self.slot].sides[side as usize]))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A thread that ends may have dropped its ring already. Wakers are dropped last: what they
        // wake may have sockets of its own.
        let _wakers = RING.try_with(|ring| {
            let mut ring = ring.try_borrow_mut().ok()?;
            Some(ring.as_mut()?.forget(self.slot))
        });
    }
}

impl Ring {
    fn new() -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_cqsize(EVENTS)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .build(ENTRIES)
            // Before Linux 6.1.
            .or_else(|_| IoUring::builder().setup_cqsize(EVENTS).build(ENTRIES))?;
        let mut ring = Self { uring, slots: Vec::new(), free: Vec::new() };
        ring.listen()?;
        Ok(ring)
    }

    /// Hears the bell, by which other threads call.
    fn listen(&mut self) -> io::Result<()> {
        let mask = libc::POLLIN as u32 | libc::EPOLLET as u32;
        let entry = opcode::PollAdd::new(types::Fd(call::bell()), mask).multi(true).build();
        self.push(&entry.user_data(BELL))?;
        self.uring.submit()?;
        Ok(())
    }

    fn watch(&mut self, fd: RawFd) -> io::Result<usize> {
        let at = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let slot = &mut self.slots[at];
        slot.fd = Some(fd);
        slot.sides = [(); 2].map(|()| State { ready: true, ..State::default() });
        self.arm(at)?;
        // Now: the core may sleep before its next turn.
        self.uring.submit()?;
        Ok(at)
    }

    fn arm(&mut self, at: usize) -> io::Result<()> {
        let slot = &self.slots[at];
        let Some(fd) = slot.fd else { return Ok(()) };
        let mask = libc::POLLIN | libc::POLLOUT | libc::POLLRDHUP;
        let mask = mask as u32 | libc::EPOLLET as u32;
        let entry = opcode::PollAdd::new(types::Fd(fd), mask).multi(true).build();
        self.push(&entry.user_data(name(at, slot.generation)))
    }

    fn forget(&mut self, at: usize) -> [State; 2] {
        let slot = &mut self.slots[at];
        let watched = name(at, slot.generation);
        slot.generation = slot.generation.wrapping_add(1);
        slot.fd = None;
        let sides = std::mem::take(&mut slot.sides);
        self.free.push(at);
        // Not `PollRemove`, which gives up if an event is just being told.
        let entry = opcode::AsyncCancel::new(watched).build().user_data(NOBODY);
        // The kernel holds the socket until then, so its peer would not hear that it is closed.
        let _ = self.push(&entry);
        let _ = self.enter();
        sides
    }

    #[expect(unsafe_code, reason = "submissions are unsafe, since some of them name memory")]
    fn push(&mut self, entry: &io_uring::squeue::Entry) -> io::Result<()> {
        // SAFETY: the entries of this file name no memory, and descriptors that are open.
        while unsafe { self.uring.submission().push(entry) }.is_err() {
            self.uring.submit()?;
        }
        Ok(())
    }

    /// Submits, and lets the kernel hand out what has happened.
    #[expect(unsafe_code, reason = "the crate asks for events only if it may wait for some")]
    fn enter(&mut self) -> io::Result<usize> {
        let submissions = {
            let mut queue = self.uring.submission();
            queue.sync();
            u32::try_from(queue.len()).unwrap_or(ENTRIES)
        };
        // SAFETY: no argument names memory.
        unsafe { self.uring.submitter().enter::<()>(submissions, 0, ENTER_GETEVENTS, None) }
    }

    /// Waits for an event, if there is none.
    fn sleep(&self, wait: Option<Duration>) -> io::Result<usize> {
        let time = wait.map(types::Timespec::from);
        let arguments = types::SubmitArgs::new();
        let arguments = time.as_ref().map_or(arguments, |time| arguments.timespec(time));
        self.uring.submitter().submit_with_args(1, &arguments)
    }

    /// Whether the kernel has something that it has not handed out.
    fn has_news(&mut self) -> bool {
        let queue = self.uring.submission();
        queue.taskrun() || queue.cq_overflow() || !queue.is_empty()
    }

    /// Takes what has happened; the tasks to wake.
    fn turn(&mut self, wait: Wait, woken: &mut Vec<Waker>) {
        // Interrupted, busy or late: the next turn comes soon.
        let _ = match wait {
            Wait::Not if self.has_news() => self.enter(),
            Wait::Not => Ok(0),
            Wait::For(time) => self.sleep(Some(time)),
            Wait::Long => self.sleep(None),
        };
        let (mut again, mut is_deaf) = (Vec::new(), false);
        for event in self.uring.completion() {
            let Some((at, generation)) = named(event.user_data()) else {
                is_deaf |= event.user_data() == BELL && !cqueue::more(event.flags());
                continue;
            };
            let Some(slot) = self.slots.get_mut(at).filter(|s| s.generation == generation) else {
                continue;
            };
            let result = event.result();
            let happened = |mask: i16| result < 0 || result & i32::from(mask) != 0;
            for (state, mask) in slot.sides.iter_mut().zip([libc::POLLIN, libc::POLLOUT]) {
                state.ended |= happened(END);
                if state.ended || happened(mask) {
                    state.ready = true;
                    woken.extend(state.waker.take());
                }
            }
            if !cqueue::more(event.flags()) && result >= 0 {
                again.push(at);
            }
        }
        for at in again {
            // It stays ready if it cannot be watched, and is tried in vain.
            let _ = self.arm(at).and_then(|()| self.uring.submit());
        }
        if is_deaf {
            let _ = self.listen();
        }
    }
}

/// How long to wait for something to happen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// Only what has happened.
    Not,
    /// This long.
    For(Duration),
    /// Until something does.
    Long,
}

/// Makes the ring of this core.
///
/// # Errors
/// If there can be none.
pub(super) fn start() -> io::Result<()> {
    let ring = Ring::new()?;
    RING.with_borrow_mut(|place| *place = Some(ring));
    Ok(())
}

/// Wakes who waits for what has happened to sockets.
pub(super) fn look(wait: Wait) {
    let mut woken = Vec::new();
    with_ring(|ring| ring.turn(wait, &mut woken));
    woken.into_iter().for_each(Waker::wake);
}

/// What concerns readers and writers, and comes once.
const END: i16 = libc::POLLERR | libc::POLLHUP | libc::POLLRDHUP;

fn name(at: usize, generation: u32) -> u64 {
    (at as u64) << 32 | u64::from(generation)
}

fn named(data: u64) -> Option<(usize, u32)> {
    let generation = u32::try_from(data & u64::from(u32::MAX)).ok()?;
    (data < BELL).then_some(((data >> 32) as usize, generation))
}

fn with_ring<T>(f: impl FnOnce(&mut Ring) -> T) -> T {
    RING.with_borrow_mut(|ring| f(ring.as_mut().expect("the thread of a core has one")))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;

    use super::super::executor::rest;
    use super::*;
    use crate::testing::cores::on_a_core;

    #[test]
    fn a_slot_that_is_left_is_the_next_ones_and_hears_nothing_of_the_one_before() {
        on_a_core(Duration::ZERO, || async {
            let pairs = [(); 3].map(|()| UnixStream::pair().expect("two sockets"));
            for (ours, theirs) in pairs {
                let watch = Watch::new(ours.as_raw_fd()).expect("a place");
                rest().await;
                watch.clear(Side::Read);
                drop(theirs);
                // Not heard any more: the core has not looked since.
                drop(watch);
            }
            with_ring(|ring| assert_eq!((ring.slots.len(), ring.free.len()), (1, 1)));
            let (ours, _theirs) = UnixStream::pair().expect("two sockets");
            let watch = Watch::new(ours.as_raw_fd()).expect("a place");
            rest().await;
            assert!(!watch.has_ended());
        });
    }
}
