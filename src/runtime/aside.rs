//! Work that blocks, on a thread beside the core.

use std::cell::OnceCell;
use std::thread;

use crossbeam::channel::{self, Sender};

use super::mailbox::mailbox;

type Job = Box<dyn FnOnce() + Send>;

thread_local! {
    /// One thread for each core, started with its first job; it ends with the core.
    static JOBS: OnceCell<Sender<Job>> = const { OnceCell::new() };
}

/// Runs `work` on a thread beside the core, so that the core goes on meanwhile. One at a time.
///
/// # Panics
/// If the thread cannot be started.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (answer, mut answers) = mailbox(1);
    let job = Box::new(move || {
        // Whoever asked may be gone.
        let _ = answer.send(work());
    });
    JOBS.with(|jobs| {
        let sent = jobs.get_or_init(start).send(job);
        assert!(sent.is_ok(), "the thread ends after the core");
    });
    answers.recv().await
}

fn start() -> Sender<Job> {
    let (jobs, queue) = channel::unbounded::<Job>();
    let run = move || queue.into_iter().for_each(|job| job());
    thread::Builder::new().name("aside".into()).spawn(run).expect("a thread beside the core");
    jobs
}
