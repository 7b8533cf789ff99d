//! The handshakes. Those of one core take turns: a step costs up to a millisecond of CPU (an RSA
//! signature), so between two steps every other task of the core gets its own turn. The oldest
//! handshake under way is given up for a new one where there are too many, so that peers that
//! connect and say nothing cannot keep others out. How long one may take is its caller's business.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;

use super::session::{Session, Side};
use super::{ClientTls, ServerTls};
use crate::net::Stream;

/// Handshakes under way on one core.
const UNDER_WAY_MAX: usize = 1024;

/// The server's handshake on a connection that was accepted. Drop it when it takes too long.
///
/// # Errors
/// Whatever the peer does wrong, in words for the log.
pub async fn accept(stream: Stream, tls: &ServerTls) -> io::Result<Stream> {
    let config = tls.0.config.load_full();
    let side = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
    shake(stream, Session::new(Side::Server(side))).await
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
    let stream = shake(stream, Session::new(Side::Client(side))).await?;
    let wanted = &tls.shared.protocols;
    if stream.protocol().is_none() && wanted.iter().all(|p| *p == super::Protocol::Http2) {
        let what = "tls: cannot check peer: missing selected ALPN property";
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(stream)
}

async fn shake(stream: Stream, session: Session) -> io::Result<Stream> {
    stream.seal_with(session);
    let mut place = Place::take();
    poll_fn(|cx| {
        if place.is_lost(cx) {
            let what = "tls: given up for newer handshakes: too many are under way";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, what)));
        }
        place.end_turn(cx);
        stream.shake(cx, |cx| place.may_work(cx))
    })
    .await?;
    Ok(stream)
}

/// Who works, who waits, and who is under way at all.
#[derive(Default)]
struct Turns {
    next: u64,
    under_way: BTreeMap<u64, Option<Waker>>,
    working: Option<u64>,
    waiting: VecDeque<(u64, Waker)>,
}

thread_local! {
    static TURNS: RefCell<Turns> = RefCell::default();
}

/// A handshake's place among those of its core.
struct Place {
    number: u64,
    granted: bool,
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
            Self { number: turns.next, granted: false }
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

    /// Asks for the turn. One that was granted lasts for one step; the task is woken to end it.
    fn may_work(&mut self, cx: &mut Context<'_>) -> bool {
        self.granted = TURNS.with_borrow_mut(|turns| {
            if turns.working.is_none() {
                turns.working = Some(self.number);
                cx.waker().wake_by_ref();
                return true;
            }
            if !turns.waiting.iter().any(|(number, _)| *number == self.number) {
                turns.waiting.push_back((self.number, cx.waker().clone()));
            }
            false
        });
        self.granted
    }

    /// Everybody else had a turn of the core since the step: the next handshake may work.
    fn end_turn(&mut self, _cx: &mut Context<'_>) {
        if std::mem::take(&mut self.granted) {
            self.pass_on();
        }
    }

    fn pass_on(&self) {
        TURNS.with_borrow_mut(|turns| {
            if turns.working == Some(self.number) {
                turns.working = None;
                if let Some((_, next)) = turns.waiting.pop_front() {
                    next.wake();
                }
            }
        });
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        TURNS.with_borrow_mut(|turns| {
            turns.under_way.remove(&self.number);
            turns.waiting.retain(|(number, _)| *number != self.number);
        });
        self.pass_on();
    }
}
