//! `relay`: copies bytes between a client's connection and one of its own to a target.
//!
//! What it costs is the floor of what any hop can cost that receives and sends over TCP: one read
//! and one write per turn, nothing is looked at. A direction that cannot write stops reading.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::{args, clock, net, process, report};

/// Copy bytes between connections: the least that a hop can cost.
///
/// Ends at SIGINT, SIGTERM or after --for, and prints what it copied and its own CPU time.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Address to listen on; port 0 takes a free one. The bound address is printed
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// Where the bytes go
    #[arg(long, value_name = "HOST:PORT")]
    to: String,
    /// End after this time
    #[arg(long = "for", value_parser = args::duration, value_name = "TIME")]
    duration: Option<Duration>,
    /// Run on this CPU only
    #[arg(long, value_name = "CPU")]
    cpu: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// One read.
const READ_BYTES: usize = 256 << 10;

/// Runs until told to stop.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    if let Some(cpu) = options.cpu {
        process::pin(cpu).map_err(|e| e.to_string())?;
    }
    let stop = process::stop_flag().map_err(|e| e.to_string())?;
    let target = net::resolve(&options.to).map_err(|e| e.to_string())?;
    let mut relay = Relay::new(options.listen, target).map_err(|e| e.to_string())?;
    let bound = relay.listener.local_addr().map_err(|e| e.to_string())?;
    if options.json {
        println!("{}", serde_json::json!({ "listening": [bound.to_string()] }));
    } else {
        println!("listening on {bound}");
    }
    let _ = io::stdout().flush();
    let start = clock::now();
    let end = options.duration.map_or(u64::MAX, |d| start + d.as_nanos() as u64);
    let mut events = Events::with_capacity(1024);
    while clock::now() < end && !stop.load(Ordering::Relaxed) {
        relay.turn(&mut events).map_err(|e| e.to_string())?;
    }
    let seconds = (clock::now() - start) as f64 / 1e9;
    let cpu = process::cpu_ns(std::process::id()).map_err(|e| e.to_string())?;
    if options.json {
        let summary = serde_json::json!({
            "seconds": seconds, "bytes": relay.bytes, "connections": relay.accepted, "cpu_ns": cpu,
        });
        println!("{summary}");
    } else {
        println!(
            "{:.1} MiB over {} connections in {seconds:.1} s, CPU {} ({:.1} ns per KiB)",
            relay.bytes as f64 / 1048576.0,
            relay.accepted,
            report::time(cpu),
            cpu as f64 / (relay.bytes as f64 / 1024.0).max(1.0),
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// One direction of a pair: from the socket of this index to the other.
#[derive(Debug, Default)]
struct Direction {
    /// Read but not yet written.
    pending: Vec<u8>,
    written: usize,
    /// The reading side has ended, and the writing side has been told.
    ended: bool,
    closed: bool,
}

#[derive(Debug)]
struct Pair {
    /// The client's socket, the target's socket.
    sockets: [TcpStream; 2],
    /// From client to target, from target to client.
    directions: [Direction; 2],
}

#[derive(Debug)]
struct Relay {
    poll: Poll,
    listener: TcpListener,
    target: SocketAddr,
    pairs: Vec<Option<Pair>>,
    free: Vec<usize>,
    /// Pairs and directions that may have more to read.
    ready: Vec<(usize, usize)>,
    buffer: Vec<u8>,
    bytes: u64,
    accepted: u64,
}

const LISTENER: Token = Token(usize::MAX - 1);

impl Relay {
    fn new(address: SocketAddr, target: SocketAddr) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut listener = net::listen(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            target,
            pairs: Vec::new(),
            free: Vec::new(),
            ready: Vec::new(),
            buffer: vec![0; READ_BYTES],
            bytes: 0,
            accepted: 0,
        })
    }

    fn turn(&mut self, events: &mut Events) -> io::Result<()> {
        let wait = if self.ready.is_empty() { 100 } else { 0 };
        match self.poll.poll(events, Some(Duration::from_millis(wait))) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let mut ready = std::mem::take(&mut self.ready);
        for event in events.iter() {
            if event.token() == LISTENER {
                self.accept()?;
                continue;
            }
            let (pair, side) = (event.token().0 / 2, event.token().0 % 2);
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                ready.push((pair, side));
            }
            if event.is_writable() {
                ready.push((pair, 1 - side));
            }
        }
        for (pair, from) in ready.drain(..) {
            match self.copy(pair, from) {
                Ok(true) => self.ready.push((pair, from)),
                Ok(false) => {}
                Err(_) => self.close(pair),
            }
        }
        // Keeps the allocation of whichever list is the larger.
        if self.ready.is_empty() {
            self.ready = ready;
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut client = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            let Ok(mut target) = TcpStream::connect(self.target) else { continue };
            client.set_nodelay(true)?;
            target.set_nodelay(true)?;
            let at = self.free.pop().unwrap_or_else(|| {
                self.pairs.push(None);
                self.pairs.len() - 1
            });
            let both = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut client, Token(2 * at), both)?;
            self.poll.registry().register(&mut target, Token(2 * at + 1), both)?;
            self.pairs[at] = Some(Pair {
                sockets: [client, target],
                directions: [Direction::default(), Direction::default()],
            });
            self.accepted += 1;
        }
    }

    /// One write of what is pending, or one read and one write. True if there may be more.
    fn copy(&mut self, at: usize, from: usize) -> io::Result<bool> {
        let Some(pair) = &mut self.pairs[at] else { return Ok(false) };
        let [client, target] = &mut pair.sockets;
        let (source, sink) = if from == 0 { (client, target) } else { (target, client) };
        let direction = &mut pair.directions[from];
        if !direction.pending.is_empty() {
            let n = write_some(sink, &direction.pending[direction.written..])?;
            direction.written += n;
            if direction.written < direction.pending.len() {
                return Ok(false);
            }
            direction.pending.clear();
            direction.written = 0;
        }
        let mut more = false;
        if !direction.ended {
            match source.read(&mut self.buffer) {
                Ok(0) => direction.ended = true,
                Ok(n) => {
                    self.bytes += n as u64;
                    let written = write_some(sink, &self.buffer[..n])?;
                    direction.pending.extend_from_slice(&self.buffer[written..n]);
                    more = written == n && n == self.buffer.len();
                }
                Err(e) if would_block(&e) => {}
                Err(e) => return Err(e),
            }
        }
        if direction.ended && direction.pending.is_empty() && !direction.closed {
            sink.shutdown(std::net::Shutdown::Write)?;
            direction.closed = true;
        }
        if pair.directions.iter().all(|d| d.closed) {
            self.close(at);
        }
        Ok(more)
    }

    fn close(&mut self, at: usize) {
        if let Some(mut pair) = self.pairs[at].take() {
            for socket in &mut pair.sockets {
                let _ = self.poll.registry().deregister(socket);
            }
            self.free.push(at);
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    // A socket that is still connecting is not ready either.
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::NotConnected
    )
}

/// Writes what the socket takes now.
fn write_some(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match socket.write(&bytes[written..]) {
            Ok(n) => written += n,
            Err(e) if would_block(&e) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(written)
}
