//! The only reader of the OS clocks. A core reads it once per wake-up and passes `now` on.

#![expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]

use std::sync::OnceLock;
use std::time::{Instant as OsInstant, SystemTime, UNIX_EPOCH};

use crate::time::{Instant, nanos};

/// Monotonic time since the first call in this process.
#[must_use]
pub fn now() -> Instant {
    static START: OnceLock<OsInstant> = OnceLock::new();
    let start = *START.get_or_init(OsInstant::now);
    // Start at one second, so that `now - 1 s` is a time and not zero.
    Instant(1_000_000_000 + nanos(start.elapsed()))
}

/// Wall time.
#[must_use]
pub fn wall() -> SystemTime {
    SystemTime::now()
}

/// Wall time, in nanoseconds since 1970.
#[must_use]
pub fn unix_nanos() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, nanos)
}

/// CPU time that the calling thread has used, in nanoseconds.
#[must_use]
#[expect(unsafe_code, reason = "std has no per-thread CPU clock")]
pub fn thread_cpu_nanos() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid, exclusive pointer for the whole call; the clock id is a constant
    // that every Linux knows, and a failure leaves `ts` as it was (zero).
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut ts) };
    u64::try_from(ts.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(ts.tv_nsec).unwrap_or(0)
}
