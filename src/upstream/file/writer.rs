//! The queue between cores and disk, and the thread behind it.
//!
//! `offered = sent + lost + held`, per signal. An item is sent when the file system has taken its
//! bytes. The queue is bounded in bytes: a [`Room`] is had before a request is copied.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};

use super::disk::Disk;
use super::{Format, Options, json};
use crate::otlp::Signal;
use crate::runtime::clock;
use crate::telemetry::Quiet;
use crate::upstream::stats::{Loss, Stats};

/// What an entry of the queue costs besides its bytes.
const ENTRY_BYTES: u64 = 128;
/// A failing disk is told of this often.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// A `file` exporter of the process: its thread and its queue.
#[derive(Debug)]
pub struct Writer {
    sink: Sink,
    thread: thread::JoinHandle<()>,
    /// Nothing is sent: the thread ends when this end is dropped, and drops the other's.
    closing: Sender<()>,
    ended: Receiver<()>,
}

/// A core's way into the queue.
#[derive(Clone, Debug)]
pub struct Sink {
    entries: Sender<Entry>,
    shared: Arc<Shared>,
}

/// Room in the queue for one request; given back if it is not used.
#[derive(Debug)]
pub struct Room {
    sink: Sink,
    held: Held,
}

#[derive(Debug)]
struct Entry {
    signal: Signal,
    items: u64,
    body: Box<[u8]>,
    _held: Held,
}

/// Bytes of the queue in use, until it is dropped.
#[derive(Debug)]
struct Held {
    shared: Arc<Shared>,
    bytes: u64,
}

#[derive(Debug)]
struct Shared {
    exporter: String,
    path: String,
    bytes: AtomicU64,
    bytes_max: u64,
    counts: [Counts; 3],
}

#[derive(Debug, Default)]
struct Counts {
    offered: AtomicU64,
    sent: AtomicU64,
    unwritten: AtomicU64,
    unencodable: AtomicU64,
}

impl Writer {
    /// Opens the file and starts the thread. `bytes_max`: what may wait for the disk.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not started.
    pub fn start(exporter: &str, options: &Options, bytes_max: u64) -> io::Result<Self> {
        let disk = Disk::open(options)?;
        let shared = Arc::new(Shared {
            exporter: exporter.to_owned(),
            path: options.path.clone(),
            bytes: AtomicU64::new(0),
            bytes_max,
            counts: Default::default(),
        });
        let (entries, queue) = channel::unbounded();
        let (closing, closed) = channel::bounded(0);
        let (ending, ended) = channel::bounded(0);
        let work = Work {
            disk,
            format: options.format,
            zstd_level: options.zstd_level,
            shared: Arc::clone(&shared),
            gathered: [0; 3],
            quiet: Quiet::new(TOLD_EVERY),
            message: Vec::new(),
        };
        let interval = options.flush_interval;
        let run = move || {
            let _ending: Sender<()> = ending;
            work.run(&queue, &closed, interval);
        };
        let thread = thread::Builder::new().name("file".into()).spawn(run)?;
        Ok(Self { sink: Sink { entries, shared }, thread, closing, ended })
    }

    /// For a core.
    #[must_use]
    pub fn sink(&self) -> Sink {
        self.sink.clone()
    }

    /// Component id and path.
    #[must_use]
    pub fn target(&self) -> (&str, &str) {
        (&self.sink.shared.exporter, &self.sink.shared.path)
    }

    /// What was counted, and items that are held.
    #[must_use]
    pub fn stats(&self, signal: Signal) -> (Stats, u64) {
        self.sink.shared.stats(signal)
    }

    /// Writes what is in the queue, for at most `wait`, and ends. Nothing may be put in any more.
    /// Returns items that were not written.
    #[must_use]
    pub fn close(self, wait: Duration) -> u64 {
        let shared = Arc::clone(&self.sink.shared);
        drop(self.closing);
        match self.ended.recv_timeout(wait) {
            Err(channel::RecvTimeoutError::Timeout) => {}
            // A panic would have ended the process already.
            _ => _ = self.thread.join(),
        }
        Signal::ALL.into_iter().map(|signal| shared.stats(signal).1).sum()
    }
}

impl Sink {
    /// Room for a request of `bytes`, if there is any. An empty queue takes a request of any size.
    #[must_use]
    pub fn room(&self, bytes: usize) -> Option<Room> {
        let bytes = bytes as u64 + ENTRY_BYTES;
        let max = self.shared.bytes_max;
        let fits = |used: u64| (used == 0 || used + bytes <= max).then_some(used + bytes);
        self.shared.bytes.fetch_update(Relaxed, Relaxed, fits).ok()?;
        let held = Held { shared: Arc::clone(&self.shared), bytes };
        Some(Room { sink: self.clone(), held })
    }

    /// Room and use of it in one: false if there is no room.
    #[must_use]
    pub fn offer(&self, signal: Signal, body: &[u8], items: u64) -> bool {
        self.room(body.len()).map(|room| room.put(signal, body, items)).is_some()
    }
}

impl Room {
    /// Hands the request over. `body` is not larger than what the room was asked for.
    pub fn put(self, signal: Signal, body: &[u8], items: u64) {
        let Self { sink: Sink { entries, shared }, held } = self;
        shared.counts[signal as usize].offered.fetch_add(items, Relaxed);
        let entry = Entry { signal, items, body: body.into(), _held: held };
        if entries.send(entry).is_err() {
            // The thread has ended: only a panic does that, and that ends the process.
            shared.lose(signal, items);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.bytes.fetch_sub(self.bytes, Relaxed);
    }
}

impl Shared {
    fn lose(&self, signal: Signal, items: u64) {
        self.counts[signal as usize].unwritten.fetch_add(items, Relaxed);
    }

    fn stats(&self, signal: Signal) -> (Stats, u64) {
        let counts = &self.counts[signal as usize];
        // Outcomes before offers, so that none is seen without its offer.
        let [sent, unwritten, unencodable] =
            [&counts.sent, &counts.unwritten, &counts.unencodable].map(|n| n.load(Relaxed));
        let offered = counts.offered.load(Relaxed);
        let mut stats = Stats { offered, sent, ..Stats::default() };
        stats.lose(Loss::Unwritten, unwritten);
        stats.lose(Loss::Unencodable, unencodable);
        let held = offered.saturating_sub(sent + unwritten + unencodable);
        (stats, held)
    }
}

/// What the thread works with.
struct Work {
    disk: Disk,
    format: Format,
    zstd_level: Option<i32>,
    shared: Arc<Shared>,
    /// Items in the disk's buffer, by signal.
    gathered: [u64; 3],
    quiet: Quiet,
    message: Vec<u8>,
}

impl Work {
    fn run(mut self, queue: &Receiver<Entry>, closed: &Receiver<()>, flush_interval: Duration) {
        let ticks = channel::tick(flush_interval);
        loop {
            channel::select! {
                recv(queue) -> entry => match entry {
                    Ok(entry) => self.take(&entry),
                    Err(_) => break,
                },
                recv(ticks) -> _ => self.flush(),
                recv(closed) -> _ => break,
            }
        }
        for entry in queue.try_iter() {
            self.take(&entry);
        }
        self.flush();
    }

    fn take(&mut self, entry: &Entry) {
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        match self.encode(entry, &mut message) {
            Ok(()) => self.write(entry, &message),
            Err(why) => {
                let counts = &self.shared.counts[entry.signal as usize];
                counts.unencodable.fetch_add(entry.items, Relaxed);
                self.tell(entry.items, &why);
            }
        }
        message.shrink_to(entry.body.len().max(1 << 20));
        self.message = message;
    }

    /// The message as it stands in the file.
    fn encode(&self, entry: &Entry, out: &mut Vec<u8>) -> Result<(), String> {
        let framed = self.format == Format::Proto || self.zstd_level.is_some();
        if framed {
            out.extend_from_slice(&[0; 4]);
        }
        match self.format {
            Format::Proto => out.extend_from_slice(&entry.body),
            Format::Json => json::line(entry.signal, &entry.body, out)
                .map_err(|json::TooDeep| "the request is nested too deeply".to_owned())?,
        }
        if let Some(level) = self.zstd_level {
            let frame = zstd::bulk::compress(&out[4..], level).map_err(|e| e.to_string())?;
            out.truncate(4);
            out.extend_from_slice(&frame);
        }
        if framed {
            let length = u32::try_from(out.len() - 4).map_err(|e| e.to_string())?;
            out[..4].copy_from_slice(&length.to_be_bytes());
        } else {
            out.push(b'\n');
        }
        Ok(())
    }

    fn write(&mut self, entry: &Entry, message: &[u8]) {
        if self.disk.is_due(message.len()) {
            self.flush();
        }
        if let Err(e) = self.disk.push(message, clock::wall()) {
            self.tell(0, &format!("the file cannot be rotated: {e}"));
        }
        self.gathered[entry.signal as usize] += entry.items;
    }

    fn flush(&mut self) {
        let written = self.disk.flush();
        let gathered = std::mem::take(&mut self.gathered);
        for (signal, items) in Signal::ALL.into_iter().zip(gathered) {
            match &written {
                Ok(()) => _ = self.shared.counts[signal as usize].sent.fetch_add(items, Relaxed),
                Err(_) => self.shared.lose(signal, items),
            }
        }
        if let Err(e) = written {
            self.tell(gathered.iter().sum(), &e.to_string());
        }
    }

    fn tell(&mut self, dropped_items: u64, why: &str) {
        if let Some(suppressed) = self.quiet.admit(clock::now()) {
            tracing::error!(
                otelcol.component.id = %self.shared.exporter,
                otelcol.component.kind = "exporter",
                path = %self.shared.path,
                dropped_items,
                suppressed,
                "Exporting failed: {why}"
            );
        }
    }
}
