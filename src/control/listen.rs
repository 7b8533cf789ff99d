//! Sockets that are listened on, and the loops that hand their connections to the cores. A socket
//! is closed when the last configuration that has it takes no more: until then the kernel lets
//! clients in, and nobody would hear them.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::JoinSet;

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
/// How many that wait are taken from a socket at its end, whoever else still comes.
const BACKLOG: usize = 4096;

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
pub(super) fn listen(plan: &Plan, before: Vec<Gate>) -> Result<Vec<Gate>, StartError> {
    let mut all = Vec::new();
    // Each once: with port 0 several are written alike.
    let mut open = before;
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

    /// A connection that the kernel has completed already.
    fn waiting(&self) -> std::io::Result<Accepted> {
        Ok(match self {
            Self::Tcp(socket) => TcpStream::from(SockRef::from(socket).accept()?.0).into(),
            Self::Unix { socket, .. } => UnixStream::from(SockRef::from(socket).accept()?.0).into(),
        })
    }
}

/// The loops that take the connections of one configuration.
#[derive(Debug)]
pub(super) struct Accepting {
    loops: JoinSet<()>,
    /// They go on as long as it is there.
    open: watch::Sender<()>,
}

impl Accepting {
    /// Takes connections at `gates` for `cores`.
    pub(super) fn start(gates: &[Gate], cores: &[Doorway]) -> Self {
        let (open, is_open) = watch::channel(());
        let each = gates.iter().enumerate();
        let loops = each.map(|(at, gate)| {
            accept(Arc::clone(&gate.socket), Cores { at, cores: cores.to_vec() }, is_open.clone())
        });
        Self { loops: loops.collect(), open }
    }

    /// Takes no more. Whoever was taken has a core then, and a socket is closed unless somebody
    /// else has it.
    pub(super) async fn end(self) {
        drop(self.open);
        self.loops.join_all().await;
    }
}

async fn accept(socket: Arc<Socket>, cores: Cores, mut is_open: watch::Receiver<()>) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = is_open.changed() => break,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok(connection) => cores.hand(connection).await,
            Err(e) => {
                tracing::warn!("A connection cannot be accepted: {e}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Closing a socket resets whoever the kernel let in while we did not look.
    let Some(last) = Arc::into_inner(socket) else { return };
    for connection in std::iter::from_fn(|| last.waiting().ok()).take(BACKLOG) {
        cores.hand(connection).await;
    }
}

/// Where the connections of one socket go.
struct Cores {
    /// Its position among the entrances of the plan.
    at: usize,
    cores: Vec<Doorway>,
}

impl Cores {
    /// Hands a connection to the core with the lowest busy share, then the fewest connections.
    /// Connections live long, so this is where skew is avoided or made.
    async fn hand(&self, socket: Accepted) {
        let least = |load: &Load| {
            // Tenths of the tick: differences below are noise.
            (load.busy_nanos.load(Relaxed) / 100_000_000, load.connections.load(Relaxed))
        };
        let Doorway { inbox, load } = loop {
            let ready = self.cores.iter().filter(|d| d.inbox.has_room());
            match ready.min_by_key(|d| least(&d.load)) {
                Some(core) => break core,
                // More connections wait in the kernel's backlog.
                None => tokio::time::sleep(INBOX_PAUSE).await,
            }
        };
        load.connections.fetch_add(1, Relaxed);
        if inbox.send(Message::Connection { socket, listener: self.at }).is_err() {
            load.connections.fetch_sub(1, Relaxed);
            tracing::warn!("A connection is refused: the core has not taken the last {INBOX_MAX}.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::mailbox::{Receiver, mailbox};

    fn gate() -> Gate {
        let (endpoint, transport) = ("127.0.0.1:0".to_owned(), Transport::Tcp);
        let socket = listener::listen(&endpoint, transport).expect("a free port");
        let address = socket.address().expect("bound");
        let socket = Arc::new(Socket::new(socket).expect("a runtime"));
        Gate { entrance: Entrance::Grpc(0), address, endpoint, transport, socket }
    }

    fn core() -> (Doorway, Receiver<Message>) {
        let (inbox, messages) = mailbox(INBOX_MAX);
        (Doorway { inbox, load: Arc::default() }, messages)
    }

    #[tokio::test]
    async fn who_was_let_in_by_the_kernel_is_served_and_then_the_port_is_closed() {
        let (gate, (core, mut messages)) = (gate(), core());
        let address = gate.address.tcp().expect("TCP");
        let _clients = [(); 3].map(|()| TcpStream::connect(address).expect("a backlog"));
        let accepting = Accepting::start(std::slice::from_ref(&gate), std::slice::from_ref(&core));
        drop(gate);
        accepting.end().await;
        TcpStream::connect(address).expect_err("nobody listens");
        assert_eq!(core.load.connections.load(Relaxed), 3);
        for _ in 0..3 {
            assert!(matches!(messages.recv().await, Message::Connection { listener: 0, .. }));
        }
    }

    #[tokio::test]
    async fn a_socket_that_another_configuration_has_stays_with_who_waits_there() {
        let (gate, (core, _messages)) = (gate(), core());
        let _client = TcpStream::connect(gate.address.tcp().expect("TCP")).expect("a backlog");
        Accepting::start(std::slice::from_ref(&gate), std::slice::from_ref(&core)).end().await;
        assert_eq!(core.load.connections.load(Relaxed), 0);
        let last = Accepting::start(&[gate], std::slice::from_ref(&core));
        last.end().await;
        assert_eq!(core.load.connections.load(Relaxed), 1);
    }
}
