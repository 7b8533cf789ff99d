//! Sockets that are listened on, and the loop that hands their connections to the cores.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};

use super::fault::StartError;
use super::{Doorway, INBOX_MAX, Load};
use crate::config::Plan;
use crate::net::listener::{self, Address, Listener, SocketFile};
use crate::net::options::Transport;
use crate::net::socket::Accepted;
use crate::router::blueprint::{Entrance, entrances};
use crate::router::core::Message;

/// Wait after an accept that failed (most often: too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long connections wait at least if no core takes them as fast as they come.
const INBOX_PAUSE: Duration = Duration::from_millis(1);

/// One socket of a configuration.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) entrance: Entrance,
    /// With the port that was really bound.
    pub(super) address: Address,
    endpoint: String,
    transport: Transport,
    socket: Arc<Socket>,
}

/// Listens where the plan says. What `before` listens on already is taken over, so that no
/// connection is refused in between.
pub(super) fn listen(plan: &Plan, before: &[Gate]) -> Result<Vec<Gate>, StartError> {
    let mut all = Vec::new();
    // Each once: with port 0 several are written alike.
    let mut open: Vec<Gate> = before.to_vec();
    for entrance in entrances(plan) {
        let receiver = &plan.receivers[entrance.receiver()];
        let place = match entrance {
            Entrance::Grpc(_) => receiver.grpc.as_ref().map(|o| (&o.endpoint, o.transport)),
            Entrance::Http(_) => receiver.http.as_ref().map(|o| (&o.endpoint, o.transport)),
        };
        let (endpoint, transport) = place.expect("an entrance has options");
        let same = |gate: &Gate| gate.endpoint == *endpoint && gate.transport == transport;
        if let Some(at) = open.iter().position(same) {
            all.push(Gate { entrance, ..open.remove(at) });
            continue;
        }
        let broken = |e: std::io::Error| StartError::Core(e.to_string());
        let socket = listener::listen(endpoint, transport)
            .map_err(|cause| StartError::Listen { receiver: receiver.id.clone(), cause })?;
        let address = socket.address().map_err(broken)?;
        let socket = Arc::new(Socket::new(socket).map_err(broken)?);
        all.push(Gate { entrance, address, endpoint: endpoint.clone(), transport, socket });
    }
    Ok(all)
}

/// A listener as the control thread's executor has it.
#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix { socket: UnixListener, _file: SocketFile },
}

impl Socket {
    fn new(listener: Listener) -> std::io::Result<Self> {
        Ok(match listener {
            Listener::Tcp(socket) => Self::Tcp(TcpListener::from_std(socket)?),
            Listener::Unix(socket, file) => {
                Self::Unix { socket: UnixListener::from_std(socket)?, _file: file }
            }
        })
    }

    async fn accept(&self) -> std::io::Result<Accepted> {
        match self {
            Self::Tcp(socket) => Ok(socket.accept().await?.0.into_std()?.into()),
            Self::Unix { socket, .. } => Ok(socket.accept().await?.0.into_std()?.into()),
        }
    }
}

/// Hands each connection to the core with the lowest busy share, then the fewest connections.
/// Connections live long, so this is where skew is avoided or made.
pub(super) async fn accept(gate: Gate, at: usize, cores: Vec<Doorway>) {
    loop {
        let socket = match gate.socket.accept().await {
            Ok(socket) => socket,
            Err(e) => {
                tracing::warn!("A connection cannot be accepted: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let least = |load: &Load| {
            // Tenths of the tick: differences below are noise.
            (load.busy_nanos.load(Relaxed) / 100_000_000, load.connections.load(Relaxed))
        };
        let Doorway { inbox, load } = loop {
            let ready = cores.iter().filter(|d| d.inbox.has_room());
            match ready.min_by_key(|d| least(&d.load)) {
                Some(core) => break core,
                // More connections wait in the kernel's backlog.
                None => tokio::time::sleep(INBOX_PAUSE).await,
            }
        };
        load.connections.fetch_add(1, Relaxed);
        if inbox.send(Message::Connection { socket, listener: at }).is_err() {
            load.connections.fetch_sub(1, Relaxed);
            tracing::warn!("A connection is refused: the core has not taken the last {INBOX_MAX}.");
        }
    }
}
