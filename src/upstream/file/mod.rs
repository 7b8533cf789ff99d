//! The `file` exporter: requests to one file, as OTLP/JSON lines or as protobuf messages with their
//! length in front, in the collector's form (v0.161).
//!
//! ```text
//! every core ─ Room ─▶ one queue, bounded in bytes ─▶ one thread: json ▸ zstd ▸ disk
//! ```
//! A data core copies the request once and goes on; it never touches the disk. Whoever finds no
//! room in the queue learns it before anything is copied. What the disk does not take is lost,
//! counted and told: waiting for it would lose more.
#![forbid(unsafe_code)]

mod disk;
mod json;
mod writer;

use std::time::Duration;

pub use json::{TooDeep, line};
pub use writer::{Room, Sink, Writer};

/// Settings of one `file` exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `path`, relative to the working directory.
    pub path: String,
    /// `format`.
    pub format: Format,
    /// `append`: keep what the file holds. A file that rotates is always appended to.
    pub append: bool,
    /// `rotation`; `None` for one file without end.
    pub rotation: Option<Rotation>,
    /// `compression: zstd` with its level: each message is a frame with its length in front.
    pub zstd_level: Option<i32>,
    /// `flush_interval`: how long a message may stay in memory.
    pub flush_interval: Duration,
    /// `create_directory` with `directory_permissions`.
    pub directory_mode: Option<u32>,
}

/// `file.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One request per line.
    Json,
    /// Four bytes of length, big endian, then the request as it came.
    Proto,
}

/// `file.rotation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Size at which a file is put aside.
    pub bytes_max: u64,
    /// `max_days`: older ones are removed; 0 keeps them.
    pub days_max: u64,
    /// `max_backups`: so many are kept; 0 keeps all.
    pub backups_max: usize,
}
