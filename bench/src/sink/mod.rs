//! `sink`: receives traces on several addresses in one thread, answers, and judges.
//!
//! Everything that the epoll turn brought is read first, then each connection that has something
//! to say writes once. It does not decode request headers: each path is answered alike.

mod connection;
mod faults;
mod judge;
mod options;
mod seen;
mod sizes;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use crate::wire::settings::Announced;
use crate::{clock, net, process};
use connection::{After, Connection, Context};
use faults::{Answer, Faults, Replies};
pub(crate) use options::Options;
use sizes::Sizes;

/// One read: large enough for several 64 KiB requests, small enough for the second-level cache.
const READ_BYTES: usize = 256 << 10;

/// Runs until told to stop, and prints the summary. Fails if a trace was split over addresses.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    options.check()?;
    if let Some(cpu) = options.cpu {
        process::pin(cpu).map_err(|e| e.to_string())?;
    }
    let stop = process::stop_flag().map_err(|e| e.to_string())?;
    let mut sink = Sink::new(options).map_err(|e| e.to_string())?;
    sink.cx.judge.sizes = options.traces_file.as_ref().map(|_| Sizes::new(options.traces_max));
    sink.announce();
    let start = clock::now();
    let end = options.duration.map_or(u64::MAX, |d| start + d.as_nanos() as u64);
    let mut events = Events::with_capacity(1024);
    let (mut second, mut spans) = (start, 0);
    loop {
        let now = clock::now();
        if now >= end || stop.load(Ordering::Relaxed) {
            break;
        }
        sink.turn(&mut events, now).map_err(|e| e.to_string())?;
        if now - second >= clock::SECOND {
            if !options.quiet && sink.cx.judge.spans_total() > spans {
                let seconds = (now - second) as f64 / 1e9;
                eprintln!("{}", sink.cx.judge.progress(spans, seconds));
            }
            second = now;
            spans = sink.cx.judge.spans_total();
        }
    }
    let seconds = (clock::now() - start) as f64 / 1e9;
    if let (Some(path), Some(sizes)) = (&options.traces_file, &sink.cx.judge.sizes) {
        sizes.write(path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    if options.json {
        println!("{}", sink.cx.judge.json(seconds));
    } else {
        print!("{}", sink.cx.judge.text(seconds));
    }
    let whole = sink.cx.judge.split_traces == 0;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An address, which may refuse for a while.
#[derive(Debug)]
enum Listening {
    Open(TcpListener),
    /// Bound, so that nobody else takes the port, but not listening.
    Refusing(socket2::Socket),
    Closed,
}

#[derive(Debug)]
struct Delayed {
    due: u64,
    token: usize,
    generation: u64,
    stream: u32,
    answer: Answer,
}

#[derive(Debug)]
struct Entry {
    connection: Connection,
    generation: u64,
    dirty: bool,
}

#[derive(Debug)]
struct Sink {
    poll: Poll,
    listeners: Vec<Listening>,
    addresses: Vec<SocketAddr>,
    connections: Vec<Option<Entry>>,
    free: Vec<usize>,
    generation: u64,
    /// Connections with unread input, and with unwritten output.
    readable: Vec<usize>,
    dirty: Vec<usize>,
    delayed: VecDeque<Delayed>,
    cx: Context,
    buffer: Vec<u8>,
    json: bool,
}

impl Sink {
    fn new(options: &Options) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for (index, &address) in options.listen.iter().enumerate() {
            let mut listener = net::listen(address)?;
            addresses.push(listener.local_addr()?);
            poll.registry().register(&mut listener, Token(index), Interest::READABLE)?;
            listeners.push(Listening::Open(listener));
        }
        let announced = Announced {
            header_table_bytes: None,
            streams_max: options.max_streams,
            stream_window: options.stream_window as u32,
            connection_window: options.connection_window as u32,
            frame_bytes_max: options.max_frame,
            header_list_bytes_max: None,
            client: false,
        };
        let names = addresses.iter().map(ToString::to_string).collect();
        let cx = Context {
            announced,
            judge: judge::Judge::new(names, options.traces_max, options.spans_max),
            faults: Faults::new(options, clock::now()),
            replies: Replies::new(options),
            pool: Vec::new(),
            later: Vec::new(),
        };
        Ok(Self {
            poll,
            listeners,
            addresses,
            connections: Vec::new(),
            free: Vec::new(),
            generation: 0,
            readable: Vec::new(),
            dirty: Vec::new(),
            delayed: VecDeque::new(),
            cx,
            buffer: vec![0; READ_BYTES.max(options.max_frame * 2)],
            json: options.json,
        })
    }

    fn announce(&self) {
        if self.json {
            let names: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
            println!("{}", serde_json::json!({ "listening": names }));
        } else {
            for address in &self.addresses {
                println!("listening on {address}");
            }
        }
        let _ = io::stdout().flush();
    }

    /// One turn: wait, read, answer what is due, write.
    fn turn(&mut self, events: &mut Events, now: u64) -> io::Result<()> {
        match self.poll.poll(events, Some(self.patience(now))) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let now = clock::now();
        if self.cx.faults.may_refuse() {
            self.refuse_or_listen(now)?;
        }
        let first = self.listeners.len();
        for event in events.iter() {
            let token = event.token().0;
            if token < first {
                self.accept(token)?;
                continue;
            }
            if event.is_readable() || event.is_read_closed() {
                self.readable.push(token - first);
            }
            if event.is_writable() {
                self.mark(token - first);
            }
        }
        self.read(now);
        self.answer_delayed(now);
        self.flush();
        Ok(())
    }

    fn patience(&self, now: u64) -> Duration {
        if !self.readable.is_empty() {
            return Duration::ZERO;
        }
        let mut wait = 100 * clock::MILLISECOND;
        if self.cx.faults.may_refuse() {
            wait = faults::FAULT_TICK;
        }
        if let Some(first) = self.delayed.front() {
            wait = wait.min(first.due.saturating_sub(now));
        }
        Duration::from_nanos(wait)
    }

    fn accept(&mut self, address: usize) -> io::Result<()> {
        loop {
            let Listening::Open(listener) = &self.listeners[address] else { return Ok(()) };
            let mut socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(e) => return Err(e),
            };
            socket.set_nodelay(true)?;
            let at = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let token = Token(self.listeners.len() + at);
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut socket, token, interest)?;
            self.generation += 1;
            self.cx.judge.tallies[address].connections += 1;
            let connection = Connection::new(socket, address, &self.cx.announced);
            let generation = self.generation;
            self.connections[at] = Some(Entry { connection, generation, dirty: false });
            self.mark(at);
        }
    }

    fn mark(&mut self, at: usize) {
        if let Some(entry) = &mut self.connections[at]
            && !entry.dirty
        {
            entry.dirty = true;
            self.dirty.push(at);
        }
    }

    fn read(&mut self, now: u64) {
        let mut ready = std::mem::take(&mut self.readable);
        ready.retain(|&at| {
            let Some(entry) = &mut self.connections[at] else { return false };
            let after = entry.connection.read(&mut self.buffer, &mut self.cx, now);
            let generation = entry.generation;
            for (due, stream, answer) in self.cx.later.drain(..) {
                self.delayed.push_back(Delayed { due, token: at, generation, stream, answer });
            }
            self.mark(at);
            if after == After::Close {
                self.close(at);
            }
            after == After::More
        });
        ready.append(&mut self.readable);
        self.readable = ready;
    }

    fn answer_delayed(&mut self, now: u64) {
        while self.delayed.front().is_some_and(|d| d.due <= now) {
            let Some(d) = self.delayed.pop_front() else { return };
            if let Some(entry) = &mut self.connections[d.token]
                && entry.generation == d.generation
            {
                entry.connection.answer(d.stream, d.answer, &self.cx);
                self.mark(d.token);
            }
        }
    }

    fn flush(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for at in dirty.drain(..) {
            if let Some(entry) = &mut self.connections[at] {
                entry.dirty = false;
                if !entry.connection.flush() {
                    self.close(at);
                }
            }
        }
        self.dirty = dirty;
    }

    fn close(&mut self, at: usize) {
        if let Some(mut entry) = self.connections[at].take() {
            let _ = self.poll.registry().deregister(&mut entry.connection.socket);
            self.free.push(at);
        }
    }

    /// Closes or opens addresses as the fault wants it at this time.
    fn refuse_or_listen(&mut self, now: u64) -> io::Result<()> {
        for index in 0..self.listeners.len() {
            let refuse = self.cx.faults.refuses(index, now);
            if refuse == matches!(self.listeners[index], Listening::Refusing(_)) {
                continue;
            }
            self.listeners[index] =
                match std::mem::replace(&mut self.listeners[index], Listening::Closed) {
                    Listening::Refusing(socket) => {
                        let mut listener = net::open(socket)?;
                        let interest = Interest::READABLE;
                        self.poll.registry().register(&mut listener, Token(index), interest)?;
                        Listening::Open(listener)
                    }
                    listening => {
                        // It goes first: no two sockets hold the port. Closing it deregisters it.
                        drop(listening);
                        self.close_all(index);
                        Listening::Refusing(net::bind(self.addresses[index])?)
                    }
                };
        }
        Ok(())
    }

    fn close_all(&mut self, address: usize) {
        for at in 0..self.connections.len() {
            if self.connections[at].as_ref().is_some_and(|e| e.connection.address == address) {
                self.close(at);
            }
        }
    }
}
