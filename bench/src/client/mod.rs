//! `run`: sends requests and measures the replies.
//!
//! One thread. Each turn reads what has come, ends and begins calls, then every connection with
//! something to say writes once. In the open loop a timer wakes it when the next request is due;
//! a request that finds no free stream waits, and its latency counts from when it was due.

mod bodies;
mod connection;
mod ledger;
mod options;
mod pace;
mod reply;
mod stats;
mod template;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use crate::wire::frame::{FRAME_BYTES_DEFAULT, FRAME_BYTES_MAX};
use crate::wire::grpc::PREFIX_BYTES;
use crate::wire::hpack::{Block, Header, Name};
use crate::{clock, net, process};
use bodies::{Bodies, Request};
use connection::{After, Connection, Context};
use ledger::Ledger;
pub(crate) use options::Options;
use options::Retry;
use pace::{Pace, Timer};
use stats::{Mark, Outcome, Stats};

/// Runs as the options say and prints the summary. Fails if nothing was answered OK.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    options.check()?;
    if let Some(cpu) = options.cpu {
        process::pin(cpu).map_err(|e| e.to_string())?;
    }
    let target = net::resolve(&options.endpoint).map_err(|e| e.to_string())?;
    let stop = process::stop_flag().map_err(|e| e.to_string())?;
    let mut load = Load::new(options, target, stop)?;
    load.run().map_err(|e| e.to_string())?;
    if let (Some(path), Some(ledger)) = (&options.traces_file, &load.ledger) {
        let written = ledger.write(&mut load.cx.bodies, path);
        written.map_err(|e| format!("{}: {e}", path.display()))?;
    }
    if options.json {
        let mut json = load.stats.json();
        json["span_bytes_mean"] = load.cx.bodies.span_bytes_mean().into();
        println!("{json}");
    } else {
        print!("{}", load.stats.text());
    }
    let worked = load.stats.ok.requests > 0 || options.idle;
    Ok(if worked { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One message of each body that the requests cycle through, and its spans.
pub(crate) fn messages(options: &Options) -> Result<Vec<(Vec<u8>, u64)>, String> {
    let mut bodies = Bodies::new(options, 1, clock::wall_offset())?;
    let mut message = |number| {
        let buffer =
            bodies.take(&Request { number, intended: clock::now(), late_of: None, attempt: 0 });
        (bodies.bytes(buffer)[PREFIX_BYTES..].to_vec(), bodies.spans(number))
    };
    Ok((0..options.bodies as u64).map(&mut message).collect())
}

/// A place for a connection, and when to try again if there is none.
#[derive(Debug)]
struct Place {
    connection: Option<Connection>,
    dirty: bool,
    wants: bool,
    retry_at: u64,
    backoff: u64,
}

const TIMER: Token = Token(usize::MAX - 1);
/// One read; replies are small.
const READ_BYTES: usize = 64 << 10;
/// Between tries to connect: the first and the longest wait.
const BACKOFF_FIRST: u64 = 50 * clock::MILLISECOND;
const BACKOFF_MAX: u64 = clock::SECOND;
/// How long the start of the schedule waits for all connections.
const CONNECT_PATIENCE: u64 = 5 * clock::SECOND;

#[derive(Debug)]
struct Load<'a> {
    options: &'a Options,
    target: SocketAddr,
    stop: Arc<AtomicBool>,
    poll: Poll,
    timer: Timer,
    places: Vec<Place>,
    /// Places with unread input, unwritten output, free streams.
    readable: Vec<usize>,
    dirty: Vec<usize>,
    wanting: Vec<usize>,
    /// Where the open loop looks first for a free stream.
    next_place: usize,
    open: usize,
    in_flight: usize,
    cx: Context,
    pace: Pace,
    stats: Stats,
    ledger: Option<Ledger>,
    /// Requests begun, repetitions not counted.
    begun: u64,
    buffer: Vec<u8>,
    next_sweep: u64,
    /// Latency is that of requests that were due from here on.
    measured_from: u64,
    ending: bool,
}

impl<'a> Load<'a> {
    fn new(
        options: &'a Options,
        target: SocketAddr,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, String> {
        let seed = options.seed.unwrap_or_else(clock::wall);
        let bodies = Bodies::new(options, seed, clock::wall_offset())?;
        let poll = Poll::new().map_err(|e| e.to_string())?;
        let timer = Timer::new().map_err(|e| e.to_string())?;
        poll.registry()
            .register(&mut SourceFd(&timer.as_raw_fd()), TIMER, Interest::READABLE)
            .map_err(|e| e.to_string())?;
        let place =
            || Place { connection: None, dirty: false, wants: false, retry_at: 0, backoff: 0 };
        Ok(Self {
            target,
            stop,
            poll,
            timer,
            places: (0..options.connections).map(|_| place()).collect(),
            readable: Vec::new(),
            dirty: Vec::new(),
            wanting: Vec::new(),
            next_place: 0,
            open: 0,
            in_flight: 0,
            pace: Pace::new(options.rate, bodies.spans_mean(), options.late_by),
            cx: Context {
                bodies,
                headers: request_headers(options),
                frame_bytes_max: if options.max_frame {
                    FRAME_BYTES_MAX
                } else {
                    FRAME_BYTES_DEFAULT
                },
                ended: Vec::new(),
            },
            stats: Stats::new(),
            ledger: options.traces_file.as_ref().map(|_| Ledger::default()),
            begun: 0,
            buffer: vec![0; READ_BYTES],
            next_sweep: 0,
            measured_from: u64::MAX,
            ending: false,
            options,
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let patience = clock::now() + CONNECT_PATIENCE;
        while self.open < self.places.len() && clock::now() < patience && !self.stopped() {
            self.turn(&mut events, false)?;
        }
        let start = clock::now();
        self.pace.start(start);
        let from = start + self.options.warm_up.as_nanos() as u64;
        let until = from + self.options.duration.as_nanos() as u64;
        self.measured_from = from;
        for at in 0..self.places.len() {
            self.want(at);
        }
        let mut second = self.mark(start);
        let mut measured = (from == start).then_some(second);
        // A receiver that has greeted may have nothing more to say that would wake a turn.
        self.send(start)?;
        loop {
            let now = clock::now();
            if now >= from && measured.is_none() {
                measured = Some(self.mark(now));
            }
            if now >= until || self.stopped() || self.all_done() {
                break;
            }
            if now - second.at >= clock::SECOND {
                if !self.options.quiet {
                    eprintln!("{}", self.stats.progress(&second, now, self.in_flight));
                }
                second = self.mark(now);
            }
            self.turn(&mut events, true)?;
        }
        self.stats.end = self.mark(clock::now());
        self.stats.begin = measured.unwrap_or(self.stats.end);
        self.finish(&mut events)
    }

    /// Waits for the replies that are still to come. What was due in the measured time and has no
    /// reply by then counts with its wait: leaving out the slowest would flatter the receiver.
    fn finish(&mut self, events: &mut Events) -> io::Result<()> {
        self.ending = true;
        self.stats.not_sent = self.pace.backlog(self.stats.end.at, self.left());
        let until = clock::now() + self.options.drain.as_nanos() as u64;
        while self.in_flight > 0 && clock::now() < until {
            self.turn(events, false)?;
        }
        for at in 0..self.places.len() {
            if let Some(mut connection) = self.places[at].connection.take() {
                connection.abandon(&mut self.cx);
            }
        }
        let now = clock::now();
        let ended = std::mem::take(&mut self.cx.ended).into_iter().map(|(request, _)| request);
        for request in ended.chain(self.pace.take_retries()) {
            self.stats.leave(self.cx.bodies.spans(request.number));
            self.give_up(request.intended, now);
        }
        for _ in 0..self.stats.not_sent {
            let due = self.pace.skip();
            self.give_up(due, now);
        }
        Ok(())
    }

    /// Counts a request that was never answered.
    fn give_up(&mut self, due: u64, now: u64) {
        self.stats.gave_up(now - due, due >= self.measured_from);
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn left(&self) -> u64 {
        self.options.requests.map_or(u64::MAX, |n| n.saturating_sub(self.begun))
    }

    fn all_done(&self) -> bool {
        self.left() == 0 && self.in_flight == 0 && !self.pace.has_retries()
    }

    fn mark(&self, at: u64) -> Mark {
        Mark {
            at,
            ok: self.stats.ok,
            bytes: self.stats.bytes,
            watched_cpu: self.options.watch.and_then(|pid| process::cpu_ns(pid).ok()),
            watched_rss: self.options.watch.and_then(|pid| process::rss_bytes(pid).ok()),
            own_cpu: process::cpu_ns(std::process::id()).unwrap_or(0),
        }
    }

    /// One turn; requests begin only if `sending`.
    fn turn(&mut self, events: &mut Events, sending: bool) -> io::Result<()> {
        let wait =
            if self.readable.is_empty() { Duration::from_millis(20) } else { Duration::ZERO };
        match self.poll.poll(events, Some(wait)) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        let now = clock::now();
        for event in events.iter() {
            if event.token() == TIMER {
                self.timer.clear();
                continue;
            }
            let at = event.token().0;
            if event.is_writable() || event.is_error() {
                self.writable(at, now);
            }
            if event.is_readable() || event.is_read_closed() {
                self.readable.push(at);
            }
        }
        self.read(now);
        if now >= self.next_sweep {
            self.sweep(now);
        }
        if sending {
            self.send(now)?;
        } else {
            self.flush(now);
        }
        Ok(())
    }

    /// Begins what may begin, and writes.
    fn send(&mut self, now: u64) -> io::Result<()> {
        if !self.options.idle {
            self.begin(now)?;
        }
        self.flush(now);
        Ok(())
    }

    fn writable(&mut self, at: usize, now: u64) {
        let Some(connection) = &mut self.places[at].connection else { return };
        match connection.on_writable() {
            After::Close(reason) => self.close(at, &reason, now),
            _ => self.touch(at),
        }
    }

    fn read(&mut self, now: u64) {
        let mut ready = std::mem::take(&mut self.readable);
        ready.retain(|&at| {
            let Some(connection) = &mut self.places[at].connection else { return false };
            let was_open = connection.is_open();
            let after = connection.read(&mut self.buffer, &mut self.cx);
            if connection.is_open() && !was_open {
                self.open += 1;
                self.places[at].backoff = 0;
            }
            self.settle(now);
            self.touch(at);
            self.want(at);
            match after {
                After::Close(reason) => {
                    self.close(at, &reason, now);
                    false
                }
                other => other == After::More,
            }
        });
        ready.append(&mut self.readable);
        self.readable = ready;
    }

    /// Counts the calls that ended.
    fn settle(&mut self, now: u64) {
        let mut ended = std::mem::take(&mut self.cx.ended);
        for (request, outcome) in ended.drain(..) {
            self.in_flight -= 1;
            self.settle_one(request, outcome, now);
        }
        self.cx.ended = ended;
    }

    fn settle_one(&mut self, request: Request, outcome: Outcome, now: u64) {
        let spans = self.cx.bodies.spans(request.number);
        let measured = request.intended >= self.measured_from;
        let sdk = self.options.retry == Retry::Sdk;
        match outcome {
            Outcome::Ok { rejected } => {
                let bytes = self.cx.bodies.message_bytes(request.number);
                self.stats.ok(spans, bytes, rejected);
                if let (Some(ledger), None | Some(0)) = (&mut self.ledger, rejected) {
                    ledger.note(request.number);
                }
                self.stats.took(now - request.intended, measured);
            }
            Outcome::Unprocessed => {
                self.stats.unprocessed += 1;
                self.pace.retry(request, now);
            }
            // An SDK sees UNAVAILABLE, and sends again what may have arrived.
            Outcome::Lost if sdk && self.pace.back_off(request, now) => self.stats.retries += 1,
            Outcome::Lost => {
                self.stats.lose(spans);
                self.stats.gave_up(now - request.intended, measured);
            }
            Outcome::Status { code, retry_info, message } => {
                let again = sdk && crate::wire::grpc::may_retry(code, retry_info);
                if again && self.pace.back_off(request, now) {
                    self.stats.retries += 1;
                    return;
                }
                self.stats.status(code, spans, &message);
                self.stats.took(now - request.intended, measured);
            }
        }
    }

    /// Begins what is due and finds a free stream.
    fn begin(&mut self, now: u64) -> io::Result<()> {
        let streams = self.options.streams();
        if self.pace.is_open_loop() || self.pace.has_retries() {
            while self.pace.is_due(now, self.left()) {
                let Some(at) = self.free_place(streams) else { break };
                self.begin_on(at, now);
            }
            if let Some(due) = self.pace.next_due(self.left()) {
                self.timer.set(due, now)?;
            }
        }
        if self.pace.is_open_loop() {
            self.wanting.clear();
            return Ok(());
        }
        let mut wanting = std::mem::take(&mut self.wanting);
        for at in wanting.drain(..) {
            self.places[at].wants = false;
            while self.left() > 0
                && self.places[at].connection.as_ref().is_some_and(|c| c.capacity(streams) > 0)
            {
                self.begin_on(at, now);
            }
        }
        self.wanting = wanting;
        Ok(())
    }

    fn free_place(&mut self, streams: usize) -> Option<usize> {
        let n = self.places.len();
        for step in 0..n {
            let at = (self.next_place + step) % n;
            if self.places[at].connection.as_ref().is_some_and(|c| c.capacity(streams) > 0) {
                self.next_place = (at + 1) % n;
                return Some(at);
            }
        }
        None
    }

    fn begin_on(&mut self, at: usize, now: u64) {
        let request = self.pace.next(now, self.begun);
        if request.number == self.begun {
            self.begun += 1;
            self.stats.begin_request(self.cx.bodies.spans(request.number));
        }
        let timeout = self.options.timeout.as_nanos() as u64;
        let deadline = if timeout == 0 { u64::MAX } else { now + timeout };
        if let Some(connection) = &mut self.places[at].connection {
            connection.begin(request, deadline);
            self.in_flight += 1;
        }
        self.touch(at);
    }

    /// Notes that a connection has something to write.
    fn touch(&mut self, at: usize) {
        if !std::mem::replace(&mut self.places[at].dirty, true) {
            self.dirty.push(at);
        }
    }

    /// Notes that a connection may have a free stream.
    fn want(&mut self, at: usize) {
        if !std::mem::replace(&mut self.places[at].wants, true) {
            self.wanting.push(at);
        }
    }

    fn flush(&mut self, now: u64) {
        let mut dirty = std::mem::take(&mut self.dirty);
        for at in dirty.drain(..) {
            self.places[at].dirty = false;
            if let Some(connection) = &mut self.places[at].connection
                && let After::Close(reason) = connection.flush(&mut self.cx)
            {
                self.close(at, &reason, now);
            }
        }
        self.dirty.append(&mut dirty);
    }

    /// What need not be done every turn: connecting, giving up calls.
    fn sweep(&mut self, now: u64) {
        let timeout = self.options.timeout.as_nanos() as u64;
        let often = (timeout / 20).clamp(5 * clock::MILLISECOND, 100 * clock::MILLISECOND);
        self.next_sweep = now + often.min(20 * clock::MILLISECOND);
        for at in 0..self.places.len() {
            if let Some(connection) = &mut self.places[at].connection {
                connection.expire(now, &mut self.cx);
                if !self.cx.ended.is_empty() {
                    self.settle(now);
                    self.touch(at);
                    self.want(at);
                }
            } else if now >= self.places[at].retry_at && !self.ending {
                self.connect(at, now);
            }
        }
    }

    fn connect(&mut self, at: usize, now: u64) {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let connected = TcpStream::connect(self.target).and_then(|mut socket| {
            socket.set_nodelay(true)?;
            self.poll.registry().register(&mut socket, Token(at), interest)?;
            Ok(socket)
        });
        match connected {
            Ok(socket) => self.places[at].connection = Some(Connection::new(socket)),
            Err(e) => self.failed(at, &e.to_string(), now),
        }
    }

    fn failed(&mut self, at: usize, reason: &str, now: u64) {
        self.stats.connect_failures += 1;
        self.stats.reason(&format!("connect: {reason}"));
        let place = &mut self.places[at];
        place.backoff = (place.backoff * 2).clamp(BACKOFF_FIRST, BACKOFF_MAX);
        place.retry_at = now + place.backoff;
    }

    fn close(&mut self, at: usize, reason: &str, now: u64) {
        let Some(mut connection) = self.places[at].connection.take() else { return };
        let _ = self.poll.registry().deregister(&mut connection.socket);
        if !connection.is_connected() {
            self.failed(at, reason, now);
            return;
        }
        connection.abandon(&mut self.cx);
        self.settle(now);
        if let Some(goaway) = &connection.goaway {
            self.stats.goaways += 1;
            self.stats.reason(goaway);
        }
        if !reason.is_empty() {
            self.stats.reason(&format!("connection: {reason}"));
        }
        self.stats.reconnects += 1;
        let place = &mut self.places[at];
        // At once the first time, then with a growing wait until it is open again.
        place.retry_at = now + place.backoff;
        place.backoff = (place.backoff * 2).clamp(BACKOFF_FIRST, BACKOFF_MAX);
    }
}

/// The headers of each request, in grpc-go's order (otlp 2.4).
fn request_headers(options: &Options) -> Block {
    let authority = options.endpoint.trim_start_matches("http://");
    let path = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
    let agent = concat!("tracemill-load/", env!("CARGO_PKG_VERSION"));
    let indexed = |name, value: &str| Header::Indexed(name, value.as_bytes().to_vec());
    let mut headers = vec![
        Header::Static(3), // :method POST
        Header::Static(6), // :scheme http
        indexed(Name::Static(4), path),
        indexed(Name::Static(1), authority),
        indexed(Name::Static(31), "application/grpc"),
        indexed(Name::Static(58), agent),
        indexed(Name::New("te"), "trailers"),
    ];
    if let Some(encoding) = options.compression.encoding() {
        headers.push(indexed(Name::New("grpc-encoding"), encoding));
    }
    if !options.timeout.is_zero() {
        // SDKs send another value each time, so it does not enter the table.
        let millis = format!("{}m", options.timeout.as_millis().clamp(1, 99_999_999));
        headers.push(Header::Literal(Name::New("grpc-timeout"), millis.into_bytes()));
    }
    for (name, value) in &options.header {
        // Few, and as long-lived as the process.
        let name: &'static str = name.clone().leak();
        headers.push(indexed(Name::New(name), value));
    }
    Block::new(&headers, 0)
}
