//! The router as a user runs it: the real binary between real connections, with backends and
//! clients that misbehave.
//!
//! Every case ends with the same judgement (`world.rs`): each span of a request that was answered
//! OK is at the backend that the ring names, or was named in the reply as rejected, or is counted
//! as failed; none is in two places; none was sent twice unless a call's fate was unknown; and the
//! metrics say what the clients heard. Assertions are about counts and order, not about time:
//! deadlines only end a test that hangs.
//!
//! Skipped, and said loudly, where io_uring is forbidden.

#![allow(clippy::unwrap_used, reason = "a test")]

#[path = "e2e/backend.rs"]
mod backend;
#[path = "e2e/client.rs"]
mod client;
#[path = "e2e/process.rs"]
mod process;
#[path = "e2e/world.rs"]
mod world;

#[path = "e2e/auth.rs"]
mod auth;
#[path = "e2e/delivery.rs"]
mod delivery;
#[path = "e2e/edits.rs"]
mod edits;
#[path = "e2e/ending.rs"]
mod ending;
#[path = "e2e/faults.rs"]
mod faults;
#[path = "e2e/forward.rs"]
mod forward;
#[path = "e2e/http_exporter.rs"]
mod http_exporter;
#[path = "e2e/inlets.rs"]
mod inlets;
#[path = "e2e/overflow.rs"]
mod overflow;
#[path = "e2e/refusals.rs"]
mod refusals;
#[path = "e2e/reload.rs"]
mod reload;
#[path = "e2e/sampling.rs"]
mod sampling;
#[path = "e2e/signals.rs"]
mod signals;
#[path = "e2e/tls.rs"]
mod tls;
#[path = "e2e/tunnel.rs"]
mod tunnel;

use std::time::Duration;

use tokio::net::TcpStream;

/// Ends a test that hangs.
const DEADLINE: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);

/// Runs a case, unless this machine cannot.
fn run(case: impl Future<Output = ()>) {
    if let Err(refusal) = tracemill::runtime::preflight::check() {
        eprintln!("SKIPPED, nothing was tested: {refusal}");
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(2 * DEADLINE, case).await.expect("the case ends in time");
    });
}

/// Waits for a condition.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    settle(what, async || is_so().then_some(())).await;
}

/// Waits until nobody listens there.
async fn refused(address: &str) {
    settle("the port is closed", async || TcpStream::connect(address).await.err()).await;
}

/// Waits for a value.
async fn settle<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(value) = look().await {
                return value;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let found = tokio::time::timeout(DEADLINE, looking).await;
    found.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
