//! Endpoints of the store, one for each sampler: gRPC servers on a core of their own that show
//! every request to the [`Store`].

use std::cell::Cell;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::store::Store;
use crate::net::Stream;
use crate::otlp::{Signal, reply};
use crate::rpc::grpc_server::{self, Server};
use crate::rpc::service::{Call, Service};
use crate::rpc::{GrpcServerOptions, Status};
use crate::runtime::drain::Drain;
use crate::runtime::executor::{self, Seat};
use crate::runtime::lease::{Lease, Limit, Purse};
use crate::runtime::mailbox::{Receiver, Sender, mailbox};

/// Connections that may wait for the core.
const INBOX_MAX: usize = 256;
/// Memory for requests that are arriving, all endpoints together.
const MEMORY_BYTES_MAX: u64 = 256 << 20;

/// A connection, or the end.
enum Message {
    Connection { endpoint: u8, socket: TcpStream },
    Stop,
}

/// The endpoints, from outside. They end when this is dropped.
pub(super) struct Endpoints {
    store: Arc<Mutex<Store>>,
    inbox: Sender<Message>,
    /// Accepts connections for as long as it lives.
    _doors: JoinSet<()>,
}

impl Endpoints {
    /// Serves the sockets, the first of them as endpoint 0.
    pub(super) fn start(
        sockets: Vec<std::net::TcpListener>,
        store: Store,
    ) -> std::io::Result<Self> {
        let store = Arc::new(Mutex::new(store));
        let (inbox, messages) = mailbox(INBOX_MAX);
        let seat = Seat { name: "demo-endpoints".into(), cpu: None, spin: Duration::ZERO };
        let (seen, count) = (Arc::clone(&store), sockets.len());
        executor::spawn(seat, move || serve(seen, count, messages))?;
        let mut doors = JoinSet::new();
        for (endpoint, socket) in (0u8..).zip(sockets) {
            doors.spawn(accept(TcpListener::from_std(socket)?, endpoint, inbox.clone()));
        }
        Ok(Self { store, inbox, _doors: doors })
    }

    /// What has arrived.
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        // A full box means that the core has ended.
        let _ = self.inbox.send(Message::Stop);
    }
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, endpoint: u8, inbox: Sender<Message>) {
    while let Ok((socket, _)) = listener.accept().await {
        let Ok(socket) = socket.into_std() else { continue };
        if inbox.send(Message::Connection { endpoint, socket }).is_err() {
            tracing::warn!("The demonstration's store refuses a connection.");
        }
    }
}

/// The core: all endpoints, until it is told to stop.
async fn serve(store: Arc<Mutex<Store>>, count: usize, mut inbox: Receiver<Message>) {
    let memory = Purse::new(Lease::new(Limit::new(MEMORY_BYTES_MAX), 1 << 20));
    let connections = Rc::new(Cell::new(0));
    let server = |number| {
        Rc::new(Server {
            service: Endpoint { number, store: Arc::clone(&store) },
            options: GrpcServerOptions::default(),
            memory: memory.clone(),
            windows_bytes: 64 << 20,
            drain: Drain::default(),
            connections: Rc::clone(&connections),
        })
    };
    let servers: Vec<_> = (0u8..).take(count).map(server).collect();
    while let Message::Connection { endpoint, socket } = inbox.recv().await {
        let Ok(stream) = Stream::adopt(socket) else { continue };
        let server = Rc::clone(&servers[usize::from(endpoint)]);
        executor::detach(async move {
            if let Err(e) = grpc_server::serve(stream, server).await {
                tracing::debug!("A connection of the demonstration's store ended: {e}");
            }
        });
    }
}

/// One endpoint.
struct Endpoint {
    number: u8,
    store: Arc<Mutex<Store>>,
}

impl Service for Endpoint {
    fn method(&self, path: &str) -> Option<usize> {
        (path == Signal::Traces.grpc_path()).then_some(0)
    }

    fn has_service(&self, name: &str) -> bool {
        Signal::Traces.grpc_path()[1..].strip_suffix("/Export") == Some(name)
    }

    async fn call(&self, mut call: Call) -> Result<Bytes, Status> {
        lock(&self.store).request(self.number, call.message.whole());
        Ok(Bytes::from_static(reply::FULL_SUCCESS))
    }
}
