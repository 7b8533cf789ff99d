//! Log lines in the two shapes of the collector: `console` and `json`.
//!
//! Code logs with the macros of `tracing`; field names with dots
//! (`otelcol.component.id = "otlp"`) stand in the line as written. A line is made on the thread
//! that logs and handed to a writer thread through a bounded buffer: when that is full the line
//! is dropped and counted, so logging never blocks a core. Lines of libraries pass from `warn` on.
//!
//! Unlike the collector's, lines of level `error` carry no stack trace and equal lines are not
//! thinned out here: the code that may repeat itself asks a [`Quiet`](super::Quiet).

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;

use super::options::{LogLevel, Options};

/// Lines that wait for the writer thread; more are dropped.
const LINES_MAX: usize = 8192;

/// Longest value of a field that is written whole, in bytes; peers choose some of them.
const VALUE_BYTES_MAX: usize = 4096;

/// Target of messages that are texts of several lines: the console shows them as they are.
pub const TEXT: &str = "tracemill::text";

/// Why logging cannot start.
#[derive(Debug)]
pub enum Error {
    /// A file of `output_paths` cannot be opened.
    Open {
        /// As written.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// Logging has been started in this process before.
    Started,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, source } => {
                write!(f, "service::telemetry::logs::output_paths: cannot open {path}: {source}")
            }
            Self::Started => write!(f, "logging was started twice"),
        }
    }
}

impl std::error::Error for Error {}

/// Logging of the process. Dropping it writes what waits (for a second at most), so it is dropped
/// before the process exits.
#[derive(Debug)]
pub struct Log {
    lost: Lost,
    _guard: WorkerGuard,
}

impl Log {
    /// Starts logging for the whole process. `wall` reads the clock of the lines' time stamps.
    pub fn start(options: &Options, wall: fn() -> SystemTime) -> Result<Self, Error> {
        let outputs = options.log_output_paths.iter().map(|path| open(path));
        let (writer, log) = Self::to(outputs.collect::<Result<_, _>>()?);
        tracing::subscriber::set_global_default(subscriber(options, wall, writer))
            .map_err(|_| Error::Started)?;
        Ok(log)
    }

    /// A writer that never waits and the thread behind it.
    fn to(outputs: Vec<Box<dyn Write + Send>>) -> (NonBlocking, Self) {
        let failed = Arc::new(AtomicU64::new(0));
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(LINES_MAX)
            .lossy(true)
            .thread_name("tracemill-log")
            .finish(Outputs { outputs, failed: Arc::clone(&failed) });
        let lost = Lost { dropped: writer.error_counter(), failed };
        (writer, Self { lost, _guard: guard })
    }

    /// Counts lines that were never written.
    #[must_use]
    pub fn lost(&self) -> Lost {
        self.lost.clone()
    }
}

/// Lines dropped since the start.
#[derive(Clone, Debug)]
pub struct Lost {
    dropped: ErrorCounter,
    failed: Arc<AtomicU64>,
}

impl Lost {
    /// Lines that found no room in the buffer, plus lines that an output refused.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.dropped.dropped_lines() as u64 + self.failed.load(Ordering::Relaxed)
    }
}

/// zap's output paths: two names, else a file that is appended to.
fn open(path: &str) -> Result<Box<dyn Write + Send>, Error> {
    match path {
        "stderr" => Ok(Box::new(io::stderr())),
        "stdout" => Ok(Box::new(io::stdout())),
        _ => {
            let file = PathBuf::from(path.strip_prefix("file://").unwrap_or(path));
            let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
            let file = file.map_err(|source| Error::Open { path: path.to_owned(), source })?;
            Ok(Box::new(file))
        }
    }
}

/// All outputs, on the writer thread. One that fails does not keep lines from the others.
struct Outputs {
    outputs: Vec<Box<dyn Write + Send>>,
    failed: Arc<AtomicU64>,
}

impl Write for Outputs {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        for output in &mut self.outputs {
            if output.write_all(line).is_err() {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        for output in &mut self.outputs {
            let _ = output.flush();
        }
        Ok(())
    }
}

fn subscriber<W>(
    options: &Options,
    wall: fn() -> SystemTime,
    writer: W,
) -> impl Subscriber + Send + Sync + 'static
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let level = match options.log_level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // A peer that breaks HTTP/2 would fill the log: what it costs is counted elsewhere.
        .with_target("h2", LevelFilter::ERROR)
        .with_target(env!("CARGO_PKG_NAME"), level);
    let layer = tracing_subscriber::fmt::layer()
        .event_format(Format::new(options, wall))
        .with_writer(writer);
    tracing_subscriber::registry().with(targets).with(layer)
}

/// How a line looks.
struct Format {
    json: bool,
    caller: bool,
    /// Initial fields and the resource, which stand before the fields of each line.
    constant: String,
    wall: fn() -> SystemTime,
}

impl Format {
    fn new(options: &Options, wall: fn() -> SystemTime) -> Self {
        let json = options.log_json;
        let mut constant = Fields::new(json);
        for (name, value) in sorted(&options.log_initial_fields) {
            constant.text(name, value);
        }
        if !options.resource.is_empty() {
            let mut resource = Fields::new(json);
            for (name, value) in sorted(&options.resource) {
                resource.text(name, value);
            }
            constant.raw("resource", format_args!("{{{}}}", resource.text));
        }
        Self { json, caller: options.log_caller, constant: constant.text, wall }
    }
}

fn sorted(pairs: &[(String, String)]) -> Vec<&(String, String)> {
    let mut pairs: Vec<_> = pairs.iter().collect();
    pairs.sort();
    pairs
}

impl<S, N> FormatEvent<S, N> for Format
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut line: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields { text: self.constant.clone(), ..Fields::new(self.json) };
        event.record(&mut fields);
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let ts = super::stamp::millis((self.wall)());
        let Fields { text, message, .. } = fields;
        let caller = Caller(event.metadata().file(), event.metadata().line());
        if self.json {
            let message = serde_json::Value::from(message);
            write!(line, r#"{{"level":"{level}","ts":"{ts}""#)?;
            if self.caller {
                write!(line, r#","caller":"{caller}""#)?;
            }
            write!(line, r#","msg":{message}"#)?;
            if !text.is_empty() {
                write!(line, ",{text}")?;
            }
            return writeln!(line, "}}");
        }
        write!(line, "{ts}\t{level}\t")?;
        if self.caller {
            write!(line, "{caller}\t")?;
        }
        for c in message.chars() {
            // A line is one line, and its columns are those of the format.
            if c.is_control() && event.metadata().target() != TEXT {
                write!(line, "{}", c.escape_default())?;
            } else {
                line.write_char(c)?;
            }
        }
        if !text.is_empty() {
            write!(line, "\t{{{text}}}")?;
        }
        writeln!(line)
    }
}

/// `dir/file.rs:12`, as short as the collector's.
struct Caller(Option<&'static str>, Option<u32>);

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.unwrap_or("undefined");
        let slashes = file.rmatch_indices('/').nth(1);
        let file = slashes.map_or(file, |(at, _)| &file[at + 1..]);
        write!(f, "{file}:{}", self.1.unwrap_or(0))
    }
}

/// The inside of a JSON object, with zap's blanks in console lines and none in json lines.
struct Fields {
    json: bool,
    text: String,
    message: String,
}

impl Fields {
    const fn new(json: bool) -> Self {
        Self { json, text: String::new(), message: String::new() }
    }

    fn raw(&mut self, name: &str, value: impl fmt::Display) {
        let (comma, colon) = if self.json { (",", ":") } else { (", ", ": ") };
        let comma = if self.text.is_empty() { "" } else { comma };
        let name = serde_json::Value::from(name);
        let _ = write!(self.text, "{comma}{name}{colon}{value}");
    }

    fn text(&mut self, name: &str, value: &str) {
        let end = value.floor_char_boundary(VALUE_BYTES_MAX);
        let mut kept = value[..end].to_owned();
        if end < value.len() {
            kept.push('…');
        }
        self.raw(name, serde_json::Value::from(kept));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let value = format!("{value:?}");
        self.record_str(field, &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else {
            self.text(field.name(), value);
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.raw(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.raw(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.raw(field.name(), value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.raw(field.name(), value);
        } else {
            self.text(field.name(), &value.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::telemetry::options::MetricsLevel;

    fn options(log_json: bool) -> Options {
        let pair = |(k, v): (&str, &str)| (k.to_owned(), v.to_owned());
        Options {
            metrics: Vec::new(),
            metrics_level: MetricsLevel::Normal,
            log_level: LogLevel::Info,
            log_json,
            log_caller: true,
            log_output_paths: Vec::new(),
            log_initial_fields: vec![pair(("zone", "a1")), pair(("abc", "2"))],
            resource: vec![pair(("service.name", "peer")), pair(("service.instance.id", "7"))],
        }
    }

    fn wall() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_347_549_095)
    }

    fn lines(options: &Options, logging: impl FnOnce()) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Sink(Arc::clone(&written));
        tracing::subscriber::with_default(subscriber(options, wall, move || sink.clone()), logging);
        let written = written.lock().unwrap().clone();
        String::from_utf8(written).unwrap()
    }

    #[derive(Clone)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(line);
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn say() {
        tracing::info!(
            otelcol.component.id = "otlp",
            endpoint = %"[::1]:4317",
            dropped_items = 3_u64,
            offset = -1,
            share = 0.5,
            nan = f64::NAN,
            last = true,
            "resource logs" = "a \"b\"\n",
            "Starting {} server",
            "GRPC"
        );
    }

    #[test]
    fn console_lines_look_like_the_collectors() {
        let text = lines(&options(false), say);
        let (head, fields) = text.split_once("Starting").unwrap();
        let head: Vec<&str> = head.split('\t').collect();
        assert_eq!(head[..2], ["2026-11-22T11:39:09.095Z", "info"]);
        assert!(head[2].starts_with("telemetry/log.rs:"), "{}", head[2]);
        assert_eq!(
            fields,
            " GRPC server\t{\"abc\": \"2\", \"zone\": \"a1\", \"resource\": \
             {\"service.instance.id\": \"7\", \"service.name\": \"peer\"}, \
             \"otelcol.component.id\": \"otlp\", \"endpoint\": \"[::1]:4317\", \
             \"dropped_items\": 3, \"offset\": -1, \"share\": 0.5, \"nan\": \"NaN\", \
             \"last\": true, \"resource logs\": \"a \\\"b\\\"\\n\"}\n"
        );
    }

    #[test]
    fn json_lines_parse_and_keep_the_collectors_order_of_keys() {
        let text = lines(&options(true), say);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["level"], "info");
        assert_eq!(value["ts"], "2026-11-22T11:39:09.095Z");
        assert_eq!(value["msg"], "Starting GRPC server");
        assert_eq!(value["resource"]["service.name"], "peer");
        assert_eq!(value["otelcol.component.id"], "otlp");
        assert_eq!(value["resource logs"], "a \"b\"\n");
        let keys = ["level", "ts", "caller", "msg", "abc", "zone", "resource", "otelcol.component"];
        let at = keys.map(|key| text.find(&format!("\"{key}")).unwrap());
        assert!(at.is_sorted(), "{text}");
    }

    #[test]
    fn lines_need_not_name_their_caller() {
        let bare = |json| Options {
            log_caller: false,
            log_initial_fields: Vec::new(),
            resource: Vec::new(),
            ..options(json)
        };
        let line = lines(&bare(false), || tracing::warn!("odd"));
        assert_eq!(line, "2026-11-22T11:39:09.095Z\twarn\todd\n");
        let line = lines(&bare(true), || tracing::warn!("odd"));
        assert_eq!(
            line,
            "{\"level\":\"warn\",\"ts\":\"2026-11-22T11:39:09.095Z\",\"msg\":\"odd\"}\n"
        );
    }

    #[test]
    fn a_line_without_fields_ends_with_its_message() {
        let mut options = options(false);
        options.log_initial_fields.clear();
        options.resource.clear();
        let text = lines(&options, || tracing::warn!("two\nlines"));
        assert!(text.starts_with("2026-11-22T11:39:09.095Z\twarn\ttelemetry/log.rs:"), "{text}");
        assert!(text.ends_with("\ttwo\\nlines\n"), "{text}");

        let text = lines(&options, || tracing::warn!(target: TEXT, "two\nlines"));
        assert!(text.ends_with("\ttwo\nlines\n"), "{text}");
        options.log_json = true;
        let text = lines(&options, || tracing::error!("two\nlines"));
        assert!(text.ends_with(",\"msg\":\"two\\nlines\"}\n"), "{text}");
    }

    #[test]
    fn levels_filter_ours_and_libraries_speak_from_warn_on() {
        for (level, want) in [
            (LogLevel::Debug, "debug info warn error lib-warn"),
            (LogLevel::Info, "info warn error lib-warn"),
            (LogLevel::Warn, "warn error lib-warn"),
            (LogLevel::Error, "error"),
        ] {
            let options = Options { log_level: level, ..options(false) };
            let text = lines(&options, || {
                tracing::debug!("debug");
                tracing::info!("info");
                tracing::warn!("warn");
                tracing::error!("error");
                tracing::info!(target: "library", "lib-info");
                tracing::warn!(target: "library", "lib-warn");
            });
            let said: Vec<_> = text.lines().map(|l| l.split('\t').nth(3).unwrap()).collect();
            assert_eq!(said.join(" "), want, "{level:?}");
        }
    }

    #[test]
    fn a_long_value_is_cut_at_a_character() {
        let long = "é".repeat(VALUE_BYTES_MAX);
        let text = lines(&options(false), || tracing::info!(long, "cut"));
        assert!(text.contains("é…\""), "marked as cut");
        assert!(text.len() < VALUE_BYTES_MAX + 500);
    }

    #[test]
    fn lines_reach_files_when_the_log_is_dropped_and_bad_paths_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.log");
        let mut options = options(false);
        options.log_output_paths = vec![path.to_str().unwrap().to_owned()];
        let log = Log::start(&options, wall).unwrap();
        let lost = log.lost();
        say();
        drop(log);
        assert!(std::fs::read_to_string(&path).unwrap().contains("Starting GRPC server"));
        assert_eq!(lost.lines(), 0);
        assert!(matches!(Log::start(&options, wall), Err(Error::Started)));
        options.log_output_paths = vec!["/nowhere/at/all.log".to_owned()];
        let error = Log::start(&options, wall).unwrap_err().to_string();
        let want = "service::telemetry::logs::output_paths: cannot open /nowhere/at/all.log: ";
        assert!(error.starts_with(want), "{error}");
    }

    /// An output that takes nothing until its gate is dropped, then fails.
    struct Stuck(std::sync::mpsc::Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_output_costs_lines_and_never_the_thread_that_logs() {
        let (gate, stuck) = std::sync::mpsc::channel();
        let (writer, log) = Log::to(vec![Box::new(Stuck(stuck))]);
        let lost = log.lost();
        tracing::subscriber::with_default(subscriber(&options(false), wall, writer), || {
            // One is in the writer's hands at most, the others find the buffer full.
            for _ in 0..LINES_MAX + 11 {
                tracing::info!("line");
            }
        });
        let dropped = lost.lines();
        assert!((10..=11).contains(&dropped), "{dropped}");
        drop(gate);
        drop(log);
        assert_eq!(lost.lines(), LINES_MAX as u64 + 11, "failed lines are lost too");
    }
}
