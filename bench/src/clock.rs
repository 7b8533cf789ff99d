//! The only reader of OS time in this tool: monotonic nanoseconds, and their offset to the wall.

use rustix::time::{ClockId, clock_gettime};

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Monotonic nanoseconds.
pub(crate) fn now() -> u64 {
    read(ClockId::Monotonic)
}

/// What to add to [`now`] to get nanoseconds since 1970. Read once per process: two processes on
/// one machine then agree to within microseconds, and a step of the wall clock changes nothing.
pub(crate) fn wall_offset() -> u64 {
    read(ClockId::Realtime) - now()
}

/// Nanoseconds since 1970, for names and seeds.
pub(crate) fn wall() -> u64 {
    read(ClockId::Realtime)
}

pub(crate) const MILLISECOND: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;
