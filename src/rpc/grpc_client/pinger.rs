//! Client keepalive (`keepalive.time`, `.timeout`, `.permit_without_stream`): a peer that was not
//! heard of for `time` is pinged, and one that does not answer within `timeout` is gone.

use std::time::Duration;

use crate::time::Instant;

/// The keepalive of one connection.
#[derive(Debug)]
pub(super) struct Pinger {
    time: Duration,
    timeout: Duration,
    permit_without_stream: bool,
    /// The peer answered a call since the last look.
    pub(super) heard: bool,
    next: Option<Instant>,
    sent: Option<Instant>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    Nothing,
    Ping,
    End,
}

impl Pinger {
    pub(super) fn new((time, timeout, permit): (Duration, Duration, bool)) -> Self {
        let permit_without_stream = permit;
        Self { time, timeout, permit_without_stream, heard: false, next: None, sent: None }
    }

    /// Between two pings.
    pub(super) fn time(&self) -> Duration {
        self.time
    }

    /// When to look next.
    pub(super) fn deadline(&self, idle: bool) -> Option<Instant> {
        match self.sent {
            Some(sent) => Some(sent + self.timeout),
            None if idle && !self.permit_without_stream => None,
            None => self.next,
        }
    }

    /// `pinged` says that the answer of the last ping is still to come.
    pub(super) fn need(&mut self, now: Instant, idle: bool, pinged: bool) -> Need {
        if std::mem::take(&mut self.heard) || self.next.is_none() {
            self.next = Some(now + self.time);
        }
        if let Some(sent) = self.sent {
            if pinged {
                return if now >= sent + self.timeout { Need::End } else { Need::Nothing };
            }
            self.sent = None;
            self.next = Some(now + self.time);
        }
        let due = self.next.is_some_and(|at| now >= at);
        if due && (!idle || self.permit_without_stream) {
            self.sent = Some(now);
            return Need::Ping;
        }
        Need::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Instant {
        Instant(seconds * 1_000_000_000)
    }

    #[test]
    fn a_peer_is_asked_while_there_is_something_to_wait_for() {
        let keepalive = (Duration::from_secs(10), Duration::from_secs(3), false);
        let mut pinger = Pinger::new(keepalive);
        assert_eq!(pinger.deadline(false), None);
        // When, a call answered, idle, pinged; what is needed, when to look next.
        let rows = [
            (100, false, false, false, Need::Nothing, Some(110)),
            (105, true, false, false, Need::Nothing, Some(115)),
            (115, false, false, false, Need::Ping, Some(118)),
            (117, false, false, false, Need::Nothing, Some(127)),
            (130, false, true, false, Need::Nothing, None),
            (131, false, false, false, Need::Ping, Some(134)),
            (133, false, true, true, Need::Nothing, Some(134)),
            (134, false, true, true, Need::End, Some(134)),
        ];
        for (now, heard, idle, pinged, want, next) in rows {
            pinger.heard |= heard;
            assert_eq!(pinger.need(at(now), idle, pinged), want, "{now}");
            assert_eq!(pinger.deadline(idle), next.map(at), "{now}");
        }
        let mut pinger = Pinger::new((keepalive.0, keepalive.1, true));
        assert_eq!(pinger.need(at(100), true, false), Need::Nothing);
        assert_eq!(pinger.deadline(true), Some(at(110)));
        assert_eq!(pinger.need(at(110), true, false), Need::Ping);
    }
}
