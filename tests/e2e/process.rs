//! The real binary as a child process: its configuration, its log, its metrics page, its end.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::until;

/// A running router. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    files: tempfile::TempDir,
}

impl Process {
    /// Starts `tracemill --config` with this text.
    pub(crate) fn spawn(yaml: &str) -> Self {
        Self::spawn_with(yaml, &[])
    }

    /// The same, in this environment.
    fn spawn_with(yaml: &str, environment: &[(&str, &str)]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("config.yaml");
        std::fs::File::create(&path).unwrap().write_all(yaml.as_bytes()).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tracemill"))
            .arg("--config")
            .arg(&path)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stderr, lines) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { child, log, files }
    }

    /// Starts it and waits until it says that it is ready.
    pub(crate) async fn start(yaml: &str) -> Self {
        Self::start_with(yaml, &[]).await
    }

    /// The same, in this environment.
    pub(crate) async fn start_with(yaml: &str, environment: &[(&str, &str)]) -> Self {
        let mut process = Self::spawn_with(yaml, environment);
        until("the router is ready", || {
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {ended:?}\n{}\n{yaml}", process.log());
            process.log().contains("Everything is ready")
        })
        .await;
        process
    }

    /// What stands in its log up to now.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// The address of a log line such as `Starting GRPC server {"endpoint": "127.0.0.1:5"}`.
    pub(crate) fn address(&self, line: &str) -> String {
        let log = self.log();
        let found = log.lines().find(|l| l.contains(line)).unwrap_or_else(|| panic!("{log}"));
        field(found, "endpoint").unwrap().trim_matches('"').to_owned()
    }

    /// Sum of a numeric field over all log lines that have it and say `what`.
    pub(crate) fn sum(&self, what: &str, name: &str) -> u64 {
        let log = self.log();
        let lines = log.lines().filter(|l| l.contains(what));
        lines.filter_map(|l| field(l, name)?.parse::<u64>().ok()).sum()
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal("-HUP");
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// Puts another text in the place of its configuration.
    pub(crate) fn write(&self, yaml: &str) {
        std::fs::write(self.files.path().join("config.yaml"), yaml).unwrap();
    }

    /// Its exit code, once it has ended and its log is whole.
    pub(crate) async fn ended(&mut self) -> i32 {
        let mut code = None;
        until("the router ends", || {
            code = code.or_else(|| self.child.try_wait().unwrap());
            code.is_some() && Arc::strong_count(&self.log) == 1
        })
        .await;
        code.unwrap().code().expect("it was not killed by a signal")
    }

    /// A fresh look at its metrics.
    pub(crate) async fn scrape(&self) -> Metrics {
        let mut stream = TcpStream::connect(self.address("Serving metrics")).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).await.unwrap();
        assert!(page.starts_with("HTTP/1.1 200 OK"), "{page}");
        Metrics(page)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of `"name": value` in a log line.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{name}\": "))?;
    rest.split([',', '}']).next()
}

/// A page of metrics.
pub(crate) struct Metrics(pub(crate) String);

impl Metrics {
    /// Sum of the series of `name` that have all these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let labels: Vec<_> = labels.iter().map(|(k, v)| format!("{k}=\"{v}\"")).collect();
        let series = self.0.lines().filter_map(|line| line.rsplit_once(' '));
        let mine = series.filter(|(series, _)| {
            let of = series.split('{').next().unwrap_or_default();
            of.strip_suffix("_total").unwrap_or(of) == name
                && labels.iter().all(|label| series.contains(label))
        });
        mine.map(|(_, value)| value.parse::<u64>().unwrap()).sum()
    }

    /// Items of an exporter's counter `tracemill_exporter_{what}_items`, over all endpoints.
    pub(crate) fn items(&self, what: &str) -> u64 {
        self.sum(&format!("tracemill_exporter_{what}_items"), &[])
    }
}
