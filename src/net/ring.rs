//! Which sockets of a core are ready, from a ring of their own.
//!
//! The executor's ring interrupts the core for every socket that becomes ready while it works
//! (glommio sets no `COOP_TASKRUN`), and arms each socket anew after each wait. This one is armed
//! once per socket (`POLL_ADD`, multishot, edge-triggered) and hands out what happened when it is
//! asked, by one system call for all sockets (`DEFER_TASKRUN`). The core's [`attend`] asks
//! whenever all tasks have run, and while nothing happens sleeps with the executor, which an
//! eventfd of the ring wakes.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use glommio::io::BufferedFile;
use io_uring::{IoUring, cqueue, opcode, types};

use crate::runtime::{clock, executor, timer};

/// Submissions that fit; what does not is submitted at once.
const ENTRIES: u32 = 256;
/// Events that fit; the kernel keeps more.
const EVENTS: u32 = 4096;
/// A core with much to do looks at timers and messages of others this often.
const LOOK_EVERY: Duration = Duration::from_micros(200);
/// Not from the kernel's headers, since the crate keeps it to itself.
const ENTER_GETEVENTS: u32 = 1;
/// User data of requests whose end nobody waits for.
const NOBODY: u64 = u64::MAX;

thread_local! {
    static RING: RefCell<Option<Ring>> = const { RefCell::new(None) };
}

/// The readiness of one socket. Drop it before the socket.
#[derive(Debug)]
pub(super) struct Watch {
    slot: usize,
}

/// What one waits for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Read,
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
    /// Watches `fd`, which is open as long as this lives. The first on a core starts its ring.
    ///
    /// # Errors
    /// If there can be no ring.
    pub(super) fn new(fd: RawFd) -> io::Result<Self> {
        RING.with_borrow_mut(|ring| {
            let ring = match ring {
                Some(ring) => ring,
                none => none.insert(Ring::start()?),
            };
            Ok(Self { slot: ring.watch(fd)? })
        })
    }

    /// Whether it is worth trying. If not, `cx` is woken when it is.
    pub(super) fn poll(&self, side: Side, cx: &mut Context<'_>) -> bool {
        self.with(side, |state| {
            if !state.ready && !state.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            state.ready
        })
    }

    /// It was tried in vain: it is worth trying again after the next event.
    pub(super) fn clear(&self, side: Side) {
        self.with(side, |state| state.ready = false);
    }

    /// Whether the peer has said that nothing more comes, or is gone.
    pub(super) fn has_ended(&self) -> bool {
        self.with(Side::Read, |state| state.ended)
    }

    /// What is there was taken. Whatever comes then is an event of its own, unless it is the end,
    /// which may have come with the last one.
    pub(super) fn emptied(&self, side: Side) {
        self.with(side, |state| state.ready = state.ended);
    }

    fn with<T>(&self, side: Side, f: impl FnOnce(&mut State) -> T) -> T {
        RING.with_borrow_mut(|ring| {
            let ring = ring.as_mut().expect("it watches, so there is a ring");
            f(&mut ring.slots[self.slot].sides[side as usize])
        })
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
    fn start() -> io::Result<Self> {
        let uring = IoUring::builder()
            .setup_cqsize(EVENTS)
            .setup_single_issuer()
            .setup_defer_taskrun()
            .build(ENTRIES)
            // Before Linux 6.1.
            .or_else(|_| IoUring::builder().setup_cqsize(EVENTS).build(ENTRIES))?;
        let event = event()?;
        uring.submitter().register_eventfd(event.as_raw_fd())?;
        executor::detach(attend(event));
        Ok(Self { uring, slots: Vec::new(), free: Vec::new() })
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

    /// Takes what has happened; the tasks to wake. How much it was.
    fn turn(&mut self, woken: &mut Vec<Waker>) -> usize {
        // Interrupted or busy: the next turn comes soon.
        let _ = self.enter();
        let mut again = Vec::new();
        let mut events = 0;
        for event in self.uring.completion() {
            let Some((at, generation)) = named(event.user_data()) else { continue };
            events += 1;
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
        events
    }
}

/// What concerns readers and writers, and comes once.
const END: i16 = libc::POLLERR | libc::POLLHUP | libc::POLLRDHUP;

fn name(at: usize, generation: u32) -> u64 {
    (at as u64) << 32 | u64::from(generation)
}

fn named(data: u64) -> Option<(usize, u32)> {
    let generation = u32::try_from(data & u64::from(u32::MAX)).ok()?;
    (data != NOBODY).then_some(((data >> 32) as usize, generation))
}

#[expect(unsafe_code, reason = "the standard library has no eventfd")]
fn event() -> io::Result<OwnedFd> {
    // SAFETY: a call without pointers.
    match unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: a descriptor that was just made, which nobody else owns.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Asks the core's ring as long as something happens, and sleeps with the executor otherwise.
#[expect(unsafe_code, reason = "glommio adopts descriptors only in their raw form")]
async fn attend(event: OwnedFd) {
    // SAFETY: the descriptor is owned, and given up to the file.
    let event = unsafe { BufferedFile::from_raw_fd(event.into_raw_fd()) };
    let (mut woken, mut looked) = (Vec::new(), clock::now());
    // A task that is started runs at once, and its starter has the ring.
    pass().await;
    loop {
        if turn(&mut woken) == 0 {
            with_ring(|ring| ring.uring.completion().enable_eventfd());
            // What happened before it could be told.
            if turn(&mut woken) == 0 && event.read_at(0, 8).await.is_err() {
                timer::sleep(LOOK_EVERY).await;
            }
            with_ring(|ring| ring.uring.completion().disable_eventfd());
            looked = clock::now();
        } else if clock::now() > looked + LOOK_EVERY {
            executor::rest().await;
            looked = clock::now();
        } else {
            pass().await;
        }
    }
}

fn turn(woken: &mut Vec<Waker>) -> usize {
    let events = with_ring(|ring| ring.turn(woken));
    woken.drain(..).for_each(Waker::wake);
    events
}

fn with_ring<T>(f: impl FnOnce(&mut Ring) -> T) -> T {
    RING.with_borrow_mut(|ring| f(ring.as_mut().expect("it was started before it is attended")))
}

/// Lets every task run that is ready.
async fn pass() {
    let mut passed = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut passed, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use futures_util::future::join;

    use super::super::socket::Socket;
    use super::*;
    use crate::runtime::executor::{Seat, spawn};
    use crate::runtime::preflight;

    /// Runs `main` on a core with a socket and its peer.
    fn beside<F, Fut>(main: F)
    where
        F: FnOnce(Socket, UnixStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        if let Err(refusal) = preflight::check() {
            return eprintln!("SKIPPED, nothing was tested: {refusal}");
        }
        let seat = Seat { name: "ring".into(), cpu: None, spin: Duration::ZERO };
        let core = spawn(seat, move || async move {
            let (ours, theirs) = UnixStream::pair().expect("two sockets");
            theirs.set_read_timeout(Some(Duration::from_secs(10))).expect("an option");
            main(Socket::adopt(ours.into()).expect("a ring"), theirs).await;
        });
        core.expect("a thread").join().expect("no panic").expect("an executor");
    }

    async fn read(socket: &mut Socket) -> Vec<u8> {
        let mut bytes = [0; 64];
        let n = poll_fn(|cx| socket.poll_read(cx, &mut bytes)).await.expect("it is open");
        bytes[..n].to_vec()
    }

    #[test]
    fn who_waits_is_woken_by_what_comes() {
        beside(|mut socket, mut theirs| async move {
            for n in 0..100_u8 {
                let write = async { theirs.write_all(&[n]).expect("it is open") };
                assert_eq!(join(read(&mut socket), write).await.0, [n]);
            }
        });
    }

    #[test]
    fn who_finds_a_socket_full_is_woken_when_there_is_room() {
        beside(|mut socket, mut theirs| async move {
            let (much, mut filled) = (vec![7; 1 << 20], 0);
            // So much that it does not fit, and then room for it.
            poll_fn(|cx| match socket.poll_write(cx, &much) {
                Poll::Ready(n) => {
                    filled += n.expect("it is open");
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Pending => Poll::Ready(()),
            })
            .await;
            let drain = async { theirs.read_exact(&mut vec![0; filled]).expect("it came") };
            let write = poll_fn(|cx| socket.poll_write(cx, b"more"));
            assert_eq!(join(write, drain).await.0.expect("it is open"), 4);
        });
    }

    #[test]
    fn an_end_that_comes_with_the_last_bytes_is_heard() {
        beside(|mut socket, mut theirs| async move {
            // So that both are one event.
            pass().await;
            theirs.write_all(b"bye").expect("it is open");
            drop(theirs);
            assert_eq!(read(&mut socket).await, b"bye");
            assert_eq!(read(&mut socket).await, b"");
        });
    }

    #[test]
    fn a_socket_that_is_dropped_with_something_to_read_is_closed_too() {
        beside(|socket, mut theirs| async move {
            // So that the core is told of it and has not heard.
            pass().await;
            theirs.write_all(b"unheard").expect("it is open");
            drop(socket);
            let end = theirs.read(&mut [0; 8]);
            let reset = |e: &io::Error| e.kind() == io::ErrorKind::ConnectionReset;
            assert!(end.as_ref().map_or_else(reset, |n| *n == 0), "{end:?}");
        });
    }

    #[test]
    fn a_socket_that_is_dropped_is_closed_at_once_and_its_slot_is_another_ones() {
        beside(|socket, mut theirs| async move {
            for _ in 0..3 {
                let (ours, mut others) = UnixStream::pair().expect("two sockets");
                let mut socket = Socket::adopt(ours.into()).expect("a ring");
                let write = async { others.write_all(b"hello").expect("it is open") };
                assert_eq!(join(read(&mut socket), write).await.0, b"hello");
                drop(socket);
                assert_eq!(others.read(&mut [0; 8]).expect("the end"), 0);
            }
            with_ring(|ring| assert_eq!((ring.slots.len(), ring.free.len()), (2, 1)));
            drop(socket);
            assert_eq!(theirs.read(&mut [0; 8]).expect("the end"), 0);
        });
    }
}
