//! Files of recorded requests: OTLP/JSON lines, or protobuf with four bytes of length in front, as
//! the collector's file exporter writes them; frames may be zstd.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;

use super::Order;
use crate::otlp::value::{Field, Fields};
use crate::otlp::{self, Index, Signal, json, span};

/// Longest line or message.
const RECORD_BYTES_MAX: u64 = 256 << 20;
/// So many mistakes are told one by one.
const WARNINGS_MAX: u64 = 10;
/// How a zstd frame begins.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Field of a span: `end_time_unix_nano`.
const END: u32 = 8;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One OTLP/JSON request per line.
    Json,
    /// Four bytes of length, big endian, then a request.
    Proto,
}

/// Told, counted and passed over.
pub(super) struct Warnings<'a> {
    warn: &'a mut dyn FnMut(&str),
    /// Lines and messages that are no requests.
    broken: u64,
    /// Requests without spans.
    empty: u64,
}

impl<'a> Warnings<'a> {
    pub(super) fn new(warn: &'a mut dyn FnMut(&str)) -> Self {
        Self { warn, broken: 0, empty: 0 }
    }

    fn broken(&mut self, place: &str, what: &str) {
        self.broken += 1;
        if self.broken <= WARNINGS_MAX {
            (self.warn)(&format!("{place}: warning: passed over: {what}"));
        } else if self.broken == WARNINGS_MAX + 1 {
            (self.warn)("warning: more is passed over; the sum follows");
        }
    }

    /// Lines for the report.
    pub(super) fn summary(&self) -> String {
        let mut out = String::new();
        if self.broken > 0 {
            out.push_str(&format!("passed over: {} that could not be read\n", self.broken));
        }
        if self.empty > 0 {
            out.push_str(&format!("passed over: {} without spans\n", self.empty));
        }
        out
    }
}

/// One file.
struct Input {
    path: String,
    file: File,
    format: Format,
    is_regular: bool,
}

/// A line or message in its file.
#[derive(Clone, Copy)]
struct Record {
    offset: u64,
    /// Bytes, at most [`RECORD_BYTES_MAX`].
    length: u32,
    /// From 1.
    number: u32,
}

/// A record, and when it arrives.
struct Entry {
    at: u64,
    record: Record,
    input: u32,
}

/// All files.
pub(super) struct Inputs {
    all: Vec<Input>,
    /// The request at hand.
    body: Vec<u8>,
    index: Index,
}

/// Takes a request and when it arrives, in nanoseconds since 1970; an error ends the replay.
pub(super) type Take<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), Stop>;

/// Why a request is not taken.
pub(super) enum Stop {
    /// It is malformed; the replay goes on.
    Malformed(otlp::Error),
    /// The replay is over.
    Over(String),
}

impl From<String> for Stop {
    fn from(what: String) -> Self {
        Self::Over(what)
    }
}

impl Inputs {
    /// Opens all files before anything is read.
    pub(super) fn open(paths: &[String], format: Option<Format>) -> Result<Self, String> {
        let open = |path: &String| {
            Input::open(path, format).map_err(|e| format!("cannot read {path}: {e}"))
        };
        let all = paths.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { all, body: Vec::new(), index: Index::new() })
    }

    /// Gives every request to `take`, in order.
    pub(super) fn each(
        &mut self,
        order: Order,
        warnings: &mut Warnings<'_>,
        take: Take<'_>,
    ) -> Result<(), String> {
        match order {
            Order::File => self.in_order_of_files(warnings, take),
            Order::Arrival => self.in_order_of_arrival(warnings, take),
        }
    }

    fn in_order_of_files(
        &mut self,
        warnings: &mut Warnings<'_>,
        take: Take<'_>,
    ) -> Result<(), String> {
        let Self { all, body, index } = self;
        let mut last = None;
        for input in all {
            input.records(warnings, |record, bytes, warnings| {
                let place = input.place(record);
                let Some(at) = arrival(input.format, bytes, body, index, &place, warnings) else {
                    return Ok(());
                };
                // Until the first span with an end there is no time.
                let at = last.unwrap_or(0).max(at);
                last = Some(at);
                pass(take(at, body), &place, warnings)
            })?;
        }
        Ok(())
    }

    fn in_order_of_arrival(
        &mut self,
        warnings: &mut Warnings<'_>,
        take: Take<'_>,
    ) -> Result<(), String> {
        let Self { all, body, index } = self;
        if let Some(input) = all.iter().find(|input| !input.is_regular) {
            let path = &input.path;
            return Err(format!("{path} can be read only once: use --order file"));
        }
        let mut entries = Vec::new();
        for (number, input) in (0..).zip(&*all) {
            let mut last = 0;
            input.records(warnings, |record, bytes, warnings| {
                let place = input.place(record);
                if let Some(at) = arrival(input.format, bytes, body, index, &place, warnings) {
                    // Spans without an end arrive with those before them.
                    last = if at == 0 { last } else { at };
                    entries.push(Entry { at: last, record, input: number });
                }
                Ok(())
            })?;
        }
        // Stable: what arrives at one time stays in the order of the files.
        entries.sort_by_key(|entry| entry.at);
        let begin = entries.iter().map(|entry| entry.at).find(|at| *at > 0).unwrap_or(0);
        let mut bytes = Vec::new();
        for Entry { at, record, input } in entries {
            let input = &all[input as usize];
            bytes.resize(record.length as usize, 0);
            let again = input.file.read_exact_at(&mut bytes, record.offset);
            again.map_err(|e| format!("cannot read {} again: {e}", input.path))?;
            let place = input.place(record);
            body.clear();
            if let Err(what) = decode(input.format, &bytes, body) {
                return Err(format!("{place}: it has changed while it was read: {what}"));
            }
            pass(take(at.max(begin), body), &place, warnings)?;
        }
        Ok(())
    }
}

fn pass(taken: Result<(), Stop>, place: &str, warnings: &mut Warnings<'_>) -> Result<(), String> {
    match taken {
        Ok(()) => Ok(()),
        Err(Stop::Over(what)) => Err(what),
        Err(Stop::Malformed(what)) => {
            warnings.broken(place, &what.to_string());
            Ok(())
        }
    }
}

/// Decodes a record into `body` and says when it arrives: 0 if no span has an end. None for what
/// is passed over.
fn arrival(
    format: Format,
    bytes: &[u8],
    body: &mut Vec<u8>,
    index: &mut Index,
    place: &str,
    warnings: &mut Warnings<'_>,
) -> Option<u64> {
    body.clear();
    let read = decode(format, bytes, body)
        .and_then(|()| otlp::scan(Signal::Traces, body, index).map_err(|e| e.to_string()));
    if let Err(what) = read {
        warnings.broken(place, &what);
        return None;
    }
    if index.items().is_empty() {
        warnings.empty += 1;
        return None;
    }
    let ends = index.items().iter().flat_map(|item| {
        let span = span::content(body, item.field).of(body);
        Fields::of(span).filter_map(|field| match field {
            (END, Field::Fixed64(end)) => Some(end),
            _ => None,
        })
    });
    ends.max()
}

fn decode(format: Format, bytes: &[u8], body: &mut Vec<u8>) -> Result<(), String> {
    let unpacked;
    let bytes = if format == Format::Proto && bytes.starts_with(&ZSTD) {
        let mut out = Vec::new();
        let decoder = zstd::Decoder::new(bytes).map_err(|e| e.to_string())?;
        let limited = decoder.take(RECORD_BYTES_MAX + 1).read_to_end(&mut out);
        limited.map_err(|e| format!("zstd: {e}"))?;
        if out.len() as u64 > RECORD_BYTES_MAX {
            return Err(too_long());
        }
        unpacked = out;
        &unpacked
    } else {
        bytes
    };
    if format == Format::Json || bytes.first() == Some(&b'{') {
        return json::decode(Signal::Traces, bytes, body).map_err(|e| e.to_string());
    }
    body.extend_from_slice(bytes);
    Ok(())
}

fn too_long() -> String {
    format!("longer than {} MiB", RECORD_BYTES_MAX >> 20)
}

impl Input {
    fn open(path: &str, format: Option<Format>) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        let is_regular = metadata.is_file();
        let mut first = [0];
        let format = match format {
            Some(format) => format,
            // As a length, '{' would be 2 GiB.
            None if is_regular => match file.read_at(&mut first, 0)? {
                0 => Format::Json,
                _ if b"{ \t\r\n".contains(&first[0]) => Format::Json,
                _ => Format::Proto,
            },
            None => {
                let what = "it is no regular file, so its format must be told: --format";
                return Err(io::Error::other(what));
            }
        };
        Ok(Self { path: path.to_owned(), file, format, is_regular })
    }

    fn place(&self, record: Record) -> String {
        match self.format {
            Format::Json => format!("{}:{}", self.path, record.number),
            Format::Proto => {
                format!("{}: message {} at byte {}", self.path, record.number, record.offset)
            }
        }
    }

    /// Gives each record to `take`. What cannot be a record is told and passed over.
    fn records(
        &self,
        warnings: &mut Warnings<'_>,
        mut take: impl FnMut(Record, &[u8], &mut Warnings<'_>) -> Result<(), String>,
    ) -> Result<(), String> {
        let fail = |e: io::Error| format!("cannot read {}: {e}", self.path);
        let mut reader = BufReader::with_capacity(1 << 20, &self.file);
        let (mut bytes, mut offset, mut number) = (Vec::new(), 0, 0_u32);
        loop {
            bytes.clear();
            number = number.saturating_add(1);
            let start = match self.format {
                Format::Json => {
                    let mut limited = reader.by_ref().take(RECORD_BYTES_MAX);
                    limited.read_until(b'\n', &mut bytes).map_err(fail)?;
                    0
                }
                Format::Proto => match self.frame(&mut reader, &mut bytes).map_err(fail)? {
                    Ok(()) => 4,
                    Err(what) => {
                        let record = Record { offset, length: 0, number };
                        warnings.broken(&self.place(record), &what);
                        return Ok(());
                    }
                },
            };
            let length = u32::try_from(bytes.len()).expect("records have a limit");
            let record = Record { offset: offset + start, length, number };
            offset += start + u64::from(length);
            if bytes.is_empty()
                && (self.format == Format::Json || at_end(&mut reader).map_err(fail)?)
            {
                return Ok(());
            }
            let is_cut = u64::from(length) == RECORD_BYTES_MAX && !bytes.ends_with(b"\n");
            if self.format == Format::Json && is_cut {
                warnings.broken(&self.place(record), &too_long());
                offset += skip_line(&mut reader).map_err(fail)?;
            } else if !bytes.trim_ascii().is_empty() {
                take(record, &bytes, warnings)?;
            }
        }
    }

    /// The next message. An empty one also at the end of the file. The inner error says why there
    /// can be no further one.
    fn frame(
        &self,
        reader: &mut BufReader<&File>,
        bytes: &mut Vec<u8>,
    ) -> io::Result<Result<(), String>> {
        let mut length = [0; 4];
        let got = read_some(reader, &mut length)?;
        if got == 0 {
            return Ok(Ok(()));
        }
        let length = u64::from(u32::from_be_bytes(length));
        if got < 4 {
            return Ok(Err("the file ends inside a length".into()));
        }
        if length > RECORD_BYTES_MAX {
            let what = format!("a length of {length}, {}: is the format right?", too_long());
            return Ok(Err(what));
        }
        reader.by_ref().take(length).read_to_end(bytes)?;
        let got = bytes.len() as u64;
        if got < length {
            return Ok(Err(format!("the file ends after {got} of {length} bytes")));
        }
        Ok(Ok(()))
    }
}

fn at_end(reader: &mut BufReader<&File>) -> io::Result<bool> {
    Ok(reader.fill_buf()?.is_empty())
}

fn read_some(reader: &mut BufReader<&File>, out: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < out.len() {
        match reader.read(&mut out[got..])? {
            0 => break,
            n => got += n,
        }
    }
    Ok(got)
}

/// Passes over the rest of a line; its bytes.
fn skip_line(reader: &mut BufReader<&File>) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let n = end.unwrap_or(buffer.len());
        reader.consume(n);
        skipped += n as u64;
        if end.is_some() || n == 0 {
            return Ok(skipped);
        }
    }
}
