//! One glommio executor per data core.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};

use super::pulse::{self, Seen};
use super::ring;

pub use super::pulse::{Later, first, later, rest, run_first};

/// glommio's registered buffers are for files only; this is the least it takes.
const IO_MEMORY_BYTES: usize = 64 << 10;

/// Where and how a core runs.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Thread name, also in `top -H`.
    pub name: String,
    /// The CPU to stay on, or anywhere.
    pub cpu: Option<usize>,
    /// Spin this long before sleeping.
    pub spin: Duration,
}

/// The executor looks at its own rings this often, and nothing is there.
const OWN_RINGS_EVERY: Duration = Duration::from_secs(3600);

/// Starts a thread with an executor that runs `main` to its end.
///
/// # Errors
/// If the thread cannot be started. An executor that cannot be made (io_uring) ends the thread
/// with the error.
pub fn spawn<F, Fut>(seat: Seat, main: F) -> io::Result<JoinHandle<Result<(), String>>>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    std::thread::Builder::new().name(seat.name.clone()).spawn(move || {
        let placement = seat.cpu.map_or(Placement::Unbound, Placement::Fixed);
        let executor = LocalExecutorBuilder::new(placement)
            .name(&seat.name)
            .io_memory(IO_MEMORY_BYTES)
            .preempt_timer(OWN_RINGS_EVERY)
            .make()
            .map_err(|e| format!("core {}: {e}", seat.name))?;
        executor.run(async move {
            ring::start().map_err(|e| format!("core {}: {e}", seat.name))?;
            glommio::spawn_local(pulse::beat(seat.spin)).detach();
            Seen::new(main()).await;
            pulse::end();
            Ok(())
        })
    })
}

/// Runs `task` on this core beside the caller, without waiting for it.
pub fn detach<F: Future<Output = ()> + 'static>(task: F) {
    glommio::spawn_local(Seen::new(task)).detach();
}

/// A waker-backed flag of one core: set any number of times, seen once.
#[derive(Clone, Debug, Default)]
pub struct Bell(Rc<BellState>);

#[derive(Debug, Default)]
struct BellState {
    rung: std::cell::Cell<bool>,
    waker: std::cell::RefCell<Option<std::task::Waker>>,
}

impl Bell {
    /// Wakes who waits, or lets the next wait return at once.
    pub fn ring(&self) {
        if !self.0.rung.replace(true)
            && let Some(waker) = self.0.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Whether it was rung since the last time. Either way `cx` is woken when it is rung next: a
    /// wake-up that finds nothing to do does not come back to ask again.
    pub fn poll(&self, cx: &mut std::task::Context<'_>) -> bool {
        let mut waker = self.0.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.0.rung.replace(false)
    }
}

/// Kernel id of the calling thread, as in `/proc/PID/task`.
#[must_use]
pub fn thread_id() -> u32 {
    std::fs::read_link("/proc/thread-self")
        .ok()
        .and_then(|path| path.file_name()?.to_str()?.parse().ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use super::*;
    use crate::testing::wakes::Wakes;

    #[test]
    fn a_bell_that_was_heard_wakes_again_at_its_next_ring() {
        let (bell, woken) = (Bell::default(), Arc::new(Wakes::default()));
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        bell.ring();
        assert!(bell.poll(&mut cx), "it was rung before anybody listened");
        bell.ring();
        assert_eq!(woken.count(), 1);
        assert!(bell.poll(&mut cx) && !bell.poll(&mut cx));
        bell.ring();
        assert_eq!(woken.count(), 2);
    }
}
