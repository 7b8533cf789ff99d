//! Tests on a real core.

use std::future::Future;
use std::time::Duration;

use crate::runtime::executor::{Seat, spawn};
use crate::runtime::preflight;

/// Runs `main` to its end on a core that spins for `spin` before it sleeps. On a machine that can
/// have none nothing is run, and it says so.
///
/// # Panics
/// If `main` does.
pub fn on_a_core<F, Fut>(spin: Duration, main: F)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    if let Err(refusal) = preflight::check() {
        return eprintln!("SKIPPED, nothing was tested: {refusal}");
    }
    let core = spawn(Seat { name: "test".into(), cpu: None, spin }, main);
    core.expect("a thread").join().expect("no panic").expect("an executor");
}
