//! The `file` exporter: its lines are those of the collector, and what it is given is written or
//! counted.
//!
//! `tests/vectors/file/` holds requests with every field and odd values, and what the collector
//! v0.161 wrote of them.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;
use tracemill::otlp::Signal;
use tracemill::upstream::file::{Format, Options, Writer, line};
use tracemill::upstream::stats::Loss;

const WAIT: Duration = Duration::from_secs(10);

fn vector(signal: Signal, extension: &str) -> Vec<u8> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/file");
    fs::read(directory.join(format!("{}.{extension}", signal.name()))).unwrap()
}

fn options(path: PathBuf) -> Options {
    Options {
        path: path.into_os_string().into_string().unwrap(),
        format: Format::Json,
        append: false,
        rotation: None,
        zstd_level: None,
        flush_interval: Duration::from_secs(1),
        directory_mode: None,
    }
}

/// Writes every vector and closes; gives the file.
fn written(options: &Options) -> Vec<u8> {
    let writer = Writer::start("file", options, 1 << 20).unwrap();
    for signal in Signal::ALL {
        assert!(writer.sink().offer(signal, &vector(signal, "bin"), 5));
    }
    assert_eq!(writer.close(WAIT), 0);
    fs::read(&options.path).unwrap()
}

/// Messages behind their lengths.
fn messages(mut file: &[u8]) -> Vec<&[u8]> {
    let mut all = Vec::new();
    while let Some((length, rest)) = file.split_first_chunk() {
        let (message, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        all.push(message);
        file = rest;
    }
    all
}

#[test]
fn lines_are_byte_for_byte_those_of_the_collector() {
    for signal in Signal::ALL {
        let mut out = Vec::new();
        line(signal, &vector(signal, "bin"), &mut out).unwrap();
        out.push(b'\n');
        let (got, want) = (String::from_utf8(out).unwrap(), vector(signal, "json"));
        assert_eq!(got, String::from_utf8(want).unwrap(), "{}", signal.name());
    }
}

#[test]
fn each_form_of_a_file_holds_what_came() {
    let dir = tempfile::tempdir().unwrap();
    let json = options(dir.path().join("a.json"));
    let lines = Signal::ALL.map(|signal| vector(signal, "json"));
    assert_eq!(written(&json), lines.concat());

    let requests = Signal::ALL.map(|signal| vector(signal, "bin"));
    let proto = Options { format: Format::Proto, ..options(dir.path().join("a.pb")) };
    assert_eq!(messages(&written(&proto)), requests);

    let zstd = Options { zstd_level: Some(3), ..options(dir.path().join("a.zst")) };
    for (frame, line) in messages(&written(&zstd)).into_iter().zip(lines) {
        let text = zstd::bulk::decompress(frame, 1 << 20).unwrap();
        assert_eq!(text, line[..line.len() - 1]);
    }
}

#[test]
fn what_the_disk_does_not_take_is_counted() {
    let options =
        Options { flush_interval: Duration::from_millis(1), ..options("/dev/full".into()) };
    let writer = Writer::start("file", &options, 1 << 20).unwrap();
    let sink = writer.sink();
    assert!(sink.offer(Signal::Traces, b"", 5));
    assert!(sink.offer(Signal::Logs, &nested(), 2));
    // Closing would take the counters along.
    let stats = |signal| writer.stats(signal);
    while stats(Signal::Traces).1 + stats(Signal::Logs).1 > 0 {
        std::thread::yield_now();
    }
    assert_eq!(stats(Signal::Traces).0.losses[&Loss::Unwritten], 5);
    assert_eq!(stats(Signal::Logs).0.losses[&Loss::Unencodable], 2);
    assert_eq!(writer.close(WAIT), 0);
}

/// ResourceLogs{resource{attributes{value{array_value{values{array_value{…
fn nested() -> Vec<u8> {
    let field = |number: u8, content: &[u8]| {
        let mut length = content.len();
        let mut out = vec![number << 3 | 2];
        while length > 0x7f {
            out.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
            length >>= 7;
        }
        out.push(u8::try_from(length).unwrap());
        [out, content.to_vec()].concat()
    };
    let value = (0..200).fold(field(1, b"x"), |value, _| field(5, &field(1, &value)));
    [2, 1, 1, 1].into_iter().fold(value, |inner, number| field(number, &inner))
}

#[test]
fn a_full_queue_says_so_before_anything_is_copied() {
    let dir = tempfile::tempdir().unwrap();
    let writer = Writer::start("file", &options(dir.path().join("a")), 1000).unwrap();
    let sink = writer.sink();
    let room = sink.room(5000).expect("an empty queue takes a request of any size");
    assert!(sink.room(1).is_none());
    assert!(!sink.offer(Signal::Logs, b"", 1));
    drop(room);
    let rooms: Vec<_> = (0..10).filter_map(|_| sink.room(300)).collect();
    assert_eq!(rooms.len(), 2);
    drop(rooms);
    assert_eq!(writer.stats(Signal::Logs).0.offered, 0);
    assert_eq!(writer.close(WAIT), 0);
}

proptest! {
    #[test]
    fn damaged_requests_become_json_all_the_same(
        signal in 0..3_usize,
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let signal = Signal::ALL[signal];
        let mut body = vector(signal, "bin");
        for (at, byte) in cuts {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let mut out = Vec::new();
        if line(signal, &body, &mut out).is_ok() {
            let text = String::from_utf8_lossy(&out);
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
            prop_assert!(!out.contains(&b'\n'));
        }
    }
}
