//! Whole connections: any bytes to a real server over a socket pair, whose other end is then
//! closed for writing. The server must answer in its protocol, or not at all, and must end.

use std::cell::Cell;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::net::Stream;
use crate::otlp::{self, Index, Signal};
use crate::rpc::service::{Call, Service};
use crate::rpc::{Code, Cors, GrpcServerOptions, HttpServerOptions, Status};
use crate::rpc::{grpc_server, http_server};
use crate::runtime::drain::Drain;
use crate::runtime::executor::{Seat, spawn};
use crate::runtime::lease::{Lease, Limit, Purse};

/// Longer than any time limit that a server keeps with a peer that has said all it will say.
const END_WITHIN: Duration = Duration::from_secs(5);
const MEMORY_BYTES: u64 = 64 << 20;
/// Small, so that bombs are tried.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// A connection to the HTTP port.
///
/// # Panics
/// If the answer is none of HTTP/1, or the server does not end.
pub fn http(data: &[u8]) {
    static DOOR: OnceLock<Door> = OnceLock::new();
    let answer = DOOR.get_or_init(|| Door::open(serve_http)).visit(data);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
}

/// A connection to the gRPC port.
///
/// # Panics
/// If the answer does not begin with the server's SETTINGS, or the server does not end.
pub fn grpc(data: &[u8]) {
    static DOOR: OnceLock<Door> = OnceLock::new();
    let answer = DOOR.get_or_init(|| Door::open(serve_grpc)).visit(data);
    assert!(answer.is_empty() || answer.get(3) == Some(&4), "{answer:?}");
}

/// The way to a server on a thread of its own, one connection at a time.
struct Door(Mutex<SyncSender<UnixStream>>);

impl Door {
    fn open<F, Fut>(server: F) -> Self
    where
        F: FnOnce(Receiver<UnixStream>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let (send, connections) = sync_channel(0);
        let seat = Seat { name: "fuzzed".into(), cpu: None, spin: Duration::ZERO };
        spawn(seat, move || server(connections)).expect("a thread");
        Self(Mutex::new(send))
    }

    /// What the server answers to `data`.
    fn visit(&self, data: &[u8]) -> Vec<u8> {
        let (mut ours, theirs) = UnixStream::pair().expect("two sockets");
        ours.set_read_timeout(Some(END_WITHIN)).expect("an option");
        ours.set_write_timeout(Some(END_WITHIN)).expect("an option");
        let door = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        door.send(theirs).expect("the server lives");
        // A server that has ended takes nothing more.
        let _ = ours.write_all(data);
        let _ = ours.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        match ours.read_to_end(&mut answer) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                panic!("it does not end: {answer:?}")
            }
            // A reset is an end, too.
            _ => answer,
        }
    }
}

async fn serve_http(connections: Receiver<UnixStream>) {
    let cors = Cors::new(&["http://*.example".into()], &["x-a".into()], &[], 60);
    let options = HttpServerOptions {
        body_bytes_max: MESSAGE_BYTES_MAX,
        cors,
        ..HttpServerOptions::default()
    };
    let server = Rc::new(http_server::HttpServer {
        service: Taker,
        options,
        memory: purse(),
        drain: Drain::default(),
        connections: Rc::new(Cell::new(0)),
    });
    // Waiting here stops the core, which has nothing else to do.
    for connection in connections {
        let stream = Stream::adopt(connection).expect("a socket");
        // What the peer did wrong is not our failure.
        let _ = http_server::serve(stream, Rc::clone(&server)).await;
        assert_eq!((server.connections.get(), server.memory.used()), (0, 0), "all is given back");
    }
}

async fn serve_grpc(connections: Receiver<UnixStream>) {
    let options =
        GrpcServerOptions { recv_bytes_max: MESSAGE_BYTES_MAX, ..GrpcServerOptions::default() };
    let server = Rc::new(grpc_server::Server {
        service: Taker,
        options,
        memory: purse(),
        windows_bytes: MEMORY_BYTES,
        drain: Drain::default(),
        connections: Rc::new(Cell::new(0)),
    });
    for connection in connections {
        let stream = Stream::adopt(connection).expect("a socket");
        let _ = grpc_server::serve(stream, Rc::clone(&server)).await;
        assert_eq!((server.connections.get(), server.memory.used()), (0, 0), "all is given back");
    }
}

fn purse() -> Purse {
    Purse::new(Lease::new(Limit::new(MEMORY_BYTES), 1))
}

/// Takes requests that are well formed.
struct Taker;

impl Service for Taker {
    fn method(&self, path: &str) -> Option<usize> {
        Signal::ALL.iter().position(|signal| signal.grpc_path() == path)
    }

    fn has_service(&self, _name: &str) -> bool {
        true
    }

    fn of_json(&self, method: usize, text: &[u8]) -> Result<Vec<u8>, String> {
        let mut message = Vec::new();
        let read = otlp::json::decode_first(Signal::ALL[method], text, &mut message);
        read.map(|()| message).map_err(|e| e.to_string())
    }

    async fn call(&self, mut call: Call) -> Result<Bytes, Status> {
        let scanned = otlp::scan(Signal::ALL[call.method], call.message.whole(), &mut Index::new());
        let bad = |e: otlp::Error| Status::new(Code::InvalidArgument, e.to_string());
        scanned.map(|()| Bytes::new()).map_err(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::preflight;

    #[test]
    fn servers_answer_or_end_whatever_they_are_sent() {
        if preflight::check().is_err() {
            eprintln!("SKIPPED: io_uring is not to be had here");
            return;
        }
        let request = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
            content-length: 2\r\n\r\n{}";
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        for whole in [&request[..], preface] {
            for end in 0..=whole.len() {
                http(&whole[..end]);
                grpc(&whole[..end]);
            }
        }
    }
}
