//! The handshakes. A step of one costs up to a millisecond of CPU (an RSA signature). So those of a
//! core have a budget: when it is spent they stand in line until the core has looked at its sockets
//! and everybody else had a turn. The oldest handshake under way is given up for a new one where
//! there are too many, so that peers that connect and say nothing cannot keep others out. How long
//! one may take is its caller's business.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;

use super::session::{Session, Side};
use super::{ClientTls, ServerTls};
use crate::net::Stream;
use crate::runtime::timer::Timeout;
use crate::runtime::{clock, executor};
use crate::time::Instant;

/// CPU time that handshakes take before others get their turn.
const BUDGET: Duration = Duration::from_micros(300);
/// How long a client that was refused may take to read why.
const LINGER: Duration = Duration::from_millis(500);
/// Handshakes under way on one core.
const UNDER_WAY_MAX: usize = 1024;

/// The server's handshake on a connection that was accepted. Drop it when it takes too long.
///
/// # Errors
/// Whatever the peer does wrong, in words for the log.
pub async fn accept(stream: Stream, tls: &ServerTls) -> io::Result<Stream> {
    let config = tls.0.config.load_full();
    let side = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
    let shaken = shake(&stream, Session::new(Side::Server(side))).await;
    if shaken.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::InvalidData) {
        // Closing at once would reset the connection if the client has sent more, as with TLS 1.3
        // it has, and the reset overtakes the alert.
        let _ = Timeout::new(LINGER, stream.hang_up()).await;
    }
    shaken.map(|()| stream)
}

/// The client's handshake on a connection that was made to `host`. Drop it when it takes too long.
///
/// # Errors
/// Whatever the peer does wrong, in words for the log; also a peer that does not agree on what is
/// spoken inside (grpc-go asks for as much).
pub async fn connect(stream: Stream, host: &str, tls: &ClientTls) -> io::Result<Stream> {
    let name = tls.name().unwrap_or(host);
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    let server = ServerName::try_from(bare.to_owned()).map_err(|_| {
        let what = format!("tls: \"{name}\" is no name that a certificate can have");
        io::Error::new(io::ErrorKind::InvalidInput, what)
    })?;
    let config = tls.shared.config.load_full();
    let side = UnbufferedClientConnection::new(Arc::clone(&config), server);
    let side = side.map_err(io::Error::other)?;
    shake(&stream, Session::new(Side::Client(side))).await?;
    let wanted = &tls.shared.protocols;
    if stream.protocol().is_none() && wanted.iter().all(|p| *p == super::Protocol::Http2) {
        let what = "tls: cannot check peer: missing selected ALPN property";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(stream)
}

async fn shake(stream: &Stream, session: Session) -> io::Result<()> {
    stream.seal_with(session);
    let mut place = Place::take();
    poll_fn(|cx| {
        if place.is_lost(cx) {
            let what = "tls: given up for newer handshakes: too many are under way";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, what)));
        }
        let shaken = stream.shake(cx, |cx| place.may_work(cx));
        place.has_worked();
        shaken
    })
    .await
}

/// What is spent, who waits, and who is under way at all.
#[derive(Default)]
struct Turns {
    next: u64,
    under_way: BTreeMap<u64, Option<Waker>>,
    spent: Duration,
    paused: bool,
    waiting: VecDeque<(u64, Waker)>,
}

thread_local! {
    static TURNS: RefCell<Turns> = RefCell::default();
}

impl Turns {
    /// One may work, and wakes the next when it has.
    fn wake_next(&mut self) {
        if !self.paused
            && let Some((_, next)) = self.waiting.pop_front()
        {
            next.wake();
        }
    }

    /// Adds the time of a step; true if the budget is spent, so that there must be a pause.
    fn spend(&mut self, time: Duration) -> bool {
        self.spent += time;
        let pause = self.spent >= BUDGET && !self.paused;
        self.paused |= pause;
        self.wake_next();
        pause
    }

    fn resume(&mut self) {
        (self.spent, self.paused) = (Duration::ZERO, false);
        self.wake_next();
    }
}

/// A handshake's place among those of its core.
struct Place {
    number: u64,
    /// When the step began that is being done.
    works_since: Option<Instant>,
}

impl Place {
    fn take() -> Self {
        TURNS.with_borrow_mut(|turns| {
            if turns.under_way.len() >= UNDER_WAY_MAX
                && let Some((_, Some(oldest))) = turns.under_way.pop_first()
            {
                oldest.wake();
            }
            turns.next += 1;
            turns.under_way.insert(turns.next, None);
            Self { number: turns.next, works_since: None }
        })
    }

    /// Whether it was given up for another.
    fn is_lost(&self, cx: &mut Context<'_>) -> bool {
        TURNS.with_borrow_mut(|turns| match turns.under_way.get_mut(&self.number) {
            None => true,
            Some(waker) => {
                if !waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
                    *waker = Some(cx.waker().clone());
                }
                false
            }
        })
    }

    /// Asks for a turn, or for one more.
    fn may_work(&mut self, cx: &mut Context<'_>) -> bool {
        self.has_worked();
        let may = TURNS.with_borrow_mut(|turns| {
            if turns.paused && !turns.waiting.iter().any(|(number, _)| *number == self.number) {
                turns.waiting.push_back((self.number, cx.waker().clone()));
            }
            !turns.paused
        });
        self.works_since = may.then(clock::now);
        may
    }

    /// The step is over, if there was one. A timer comes after the core has looked at its sockets.
    fn has_worked(&mut self) {
        let Some(since) = self.works_since.take() else { return };
        let time = clock::now().since(since);
        if TURNS.with_borrow_mut(|turns| turns.spend(time)) {
            executor::detach(async {
                executor::rest().await;
                TURNS.with_borrow_mut(Turns::resume);
            });
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TURNS.with_borrow_mut(|turns| {
            turns.under_way.remove(&self.number);
            turns.waiting.retain(|(number, _)| *number != self.number);
            // It may have been woken for a turn that it does not take.
            turns.wake_next();
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_that_is_spent_stops_all_until_the_pause_is_over() {
        let mut turns = Turns::default();
        let waker = Waker::noop();
        assert!(!turns.spend(BUDGET / 2));
        assert!(turns.spend(BUDGET / 2) && turns.paused);
        assert!(!turns.spend(BUDGET), "there is one pause at a time");
        turns.waiting.extend([(1, waker.clone()), (2, waker.clone())]);
        turns.wake_next();
        assert_eq!(turns.waiting.len(), 2);
        turns.resume();
        assert_eq!(turns.waiting.len(), 1, "one at a time");
        assert!(!turns.spend(BUDGET / 2));
        assert_eq!(turns.waiting.len(), 0, "which wakes the next");
    }
}
