//! Server keepalive (otlp 2.3): a peer that was silent for `time` is pinged, and one that is silent
//! for `timeout` more is gone. Any byte of the peer's counts as a sign of life.

use std::time::Duration;

use super::options::ServerKeepalive;
use crate::time::Instant;

/// As in grpc-go, and so in the collector, unless configured.
const TIME: Duration = Duration::from_secs(2 * 60 * 60);
const TIMEOUT: Duration = Duration::from_secs(20);
/// grpc-go pings no more often.
const TIME_MIN: Duration = Duration::from_secs(1);

/// The pulse of one connection.
#[derive(Debug)]
pub(super) struct Pulse {
    time: Duration,
    timeout: Duration,
    bytes: u64,
    heard: Instant,
    asked: Option<Instant>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Ping,
    End,
}

impl Pulse {
    pub(super) fn new(keepalive: &ServerKeepalive, now: Instant) -> Self {
        let time = keepalive.time.unwrap_or(TIME).max(TIME_MIN);
        let timeout = keepalive.timeout.unwrap_or(TIMEOUT);
        Self { time, timeout, bytes: 0, heard: now, asked: None }
    }

    /// When to look next.
    pub(super) fn deadline(&self) -> Instant {
        self.asked.map_or(self.heard + self.time, |asked| asked + self.timeout)
    }

    /// `bytes` have come so far: what is to be done.
    pub(super) fn look(&mut self, now: Instant, bytes: u64) -> Need {
        let need = self.need(now, bytes);
        if need == Need::Ping {
            self.asked = Some(now);
        }
        need
    }

    fn need(&mut self, now: Instant, bytes: u64) -> Need {
        if bytes != self.bytes {
            (self.bytes, self.heard, self.asked) = (bytes, now, None);
        }
        match self.asked {
            Some(asked) if now >= asked + self.timeout => Need::End,
            None if now >= self.heard + self.time => Need::Ping,
            _ => Need::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    #[test]
    fn a_silent_peer_is_asked_and_then_given_up() {
        let seconds = |n| Some(Duration::from_secs(n));
        let keepalive =
            ServerKeepalive { time: seconds(10), timeout: seconds(3), ..Default::default() };
        let mut pulse = Pulse::new(&keepalive, at(100));
        // When, bytes so far, what is needed, when to look next.
        let rows = [
            (101, 50, Need::Nothing, 111),
            (105, 60, Need::Nothing, 115),
            (115, 60, Need::Ping, 118),
            (116, 77, Need::Nothing, 126),
            (126, 77, Need::Ping, 129),
            (128, 77, Need::Nothing, 129),
            (129, 77, Need::End, 129),
        ];
        for (now, bytes, want, next) in rows {
            assert_eq!(pulse.look(at(now), bytes), want, "{now}");
            assert_eq!(pulse.deadline(), at(next), "{now}");
        }
    }

    #[test]
    fn unset_it_is_the_collectors() {
        let pulse = Pulse::new(&ServerKeepalive::default(), at(1));
        assert_eq!((pulse.time, pulse.timeout), (TIME, TIMEOUT));
        let often = ServerKeepalive { time: Some(Duration::from_millis(1)), ..Default::default() };
        assert_eq!(Pulse::new(&often, at(1)).time, TIME_MIN);
    }
}
