//! The program that is judged: its configuration, its ports, its end.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::cases::Case;
use crate::configuration::Wiring;
use crate::sink::{Sink, own_address};

const LOOK: Duration = Duration::from_millis(10);

/// What runs.
pub(crate) struct Program {
    pub(crate) bin: PathBuf,
    /// It does not know the key `tracemill`.
    pub(crate) is_collector: bool,
}

/// A running program. Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    receiver: String,
    metrics: String,
    log: Arc<Mutex<Vec<u8>>>,
    _files: tempfile::TempDir,
}

impl Process {
    pub(crate) fn start(program: &Program, case: &Case, sink: &Sink) -> Self {
        let host = own_address().to_string();
        let [receiver_port, metrics_port] = free_ports(&host);
        let receiver = format!("{host}:{receiver_port}");
        let wiring = Wiring {
            block: &case.block,
            batch: case.batch,
            receiver: &receiver,
            sink: &sink.address(),
            metrics: case.scrape.then_some((host.as_str(), metrics_port)),
            exporter: "otlp",
        };
        let engine = (!program.is_collector).then(|| engine(case));
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("config.yaml");
        std::fs::write(&path, wiring.text(engine.as_ref())).unwrap();
        let mut command = Command::new(&program.bin);
        command.arg("--config").arg(&path);
        if !case.gates.is_empty() {
            command.arg(format!("--feature-gates={}", case.gates.join(",")));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (mut stderr, kept) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = stderr.read(&mut chunk) {
                kept.lock().unwrap().extend_from_slice(&chunk[..n]);
            }
        });
        let metrics = format!("{host}:{metrics_port}");
        Self { child, receiver, metrics, log, _files: files }
    }

    /// `host:port` of its receiver.
    pub(crate) fn receiver(&self) -> &str {
        &self.receiver
    }

    /// The end of its log, indented.
    pub(crate) fn log(&self) -> String {
        let log = self.log.lock().unwrap();
        let text = String::from_utf8_lossy(&log);
        let last: Vec<_> = text.lines().rev().take(3).map(|line| format!("  | {line}\n")).collect();
        last.into_iter().rev().collect()
    }

    /// Waits until it listens.
    pub(crate) async fn is_ready(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        while TcpStream::connect(&self.receiver).await.is_err() {
            if let Some(status) = self.child.try_wait().unwrap() {
                tokio::time::sleep(5 * LOOK).await;
                return Err(format!("  it ended, {status}\n{}", self.log()));
            }
            if Instant::now() > end {
                return Err(format!("  it does not listen\n{}", self.log()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// It must end by itself, and say that it failed.
    pub(crate) async fn refuses(&mut self, time: Duration) -> Result<(), String> {
        match self.ended(time).await {
            Some(status) if status.success() => Err("  it ended without an error".to_owned()),
            Some(_) => Ok(()),
            None => Err(format!("  it runs although it should refuse\n{}", self.log())),
        }
    }

    /// SIGTERM must end it.
    pub(crate) async fn terminates(&mut self, time: Duration) -> Result<(), String> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        match self.ended(time).await {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("  it ended, {status}\n{}", self.log())),
            None => Err(format!("  SIGTERM does not end it\n{}", self.log())),
        }
    }

    async fn ended(&mut self, time: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + time;
        loop {
            let status = self.child.try_wait().unwrap();
            if status.is_some() || Instant::now() > end {
                return status;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A look at its metrics: `name{labels}` → value, labels sorted, those of the scope left out.
    pub(crate) async fn samples(&self) -> Result<BTreeMap<String, f64>, String> {
        let mut stream = TcpStream::connect(&self.metrics).await.map_err(|e| e.to_string())?;
        let head = b"GET /metrics HTTP/1.0\r\nhost: x\r\n\r\n";
        stream.write_all(head).await.map_err(|e| e.to_string())?;
        let mut page = String::new();
        stream.read_to_string(&mut page).await.map_err(|e| e.to_string())?;
        Ok(page.lines().filter_map(sample).collect())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As many data cores as there are, but where a request waits for room on the core that it came to.
fn engine(case: &Case) -> Value {
    let mut engine = json!({"pin": false, "spin": "0s", "memory_limit_mib": 200});
    if case.block.to_string().contains("block_on_overflow") {
        engine["cores"] = json!(1);
    }
    engine
}

fn free_ports(host: &str) -> [u16; 2] {
    let bound = [(); 2].map(|()| std::net::TcpListener::bind((host, 0)).unwrap());
    bound.map(|listener| listener.local_addr().unwrap().port())
}

/// A line of the page, unless it is a comment.
fn sample(line: &str) -> Option<(String, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    if line.starts_with('#') {
        return None;
    }
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.trim_end_matches('}');
    let mut labels: Vec<_> = labels.split("\",").map(|label| label.trim_end_matches('"')).collect();
    labels.retain(|label| !label.is_empty() && !label.starts_with("otel_scope_"));
    labels.sort_unstable();
    let labels: Vec<_> = labels.iter().map(|label| format!("{label}\"")).collect();
    let labels = labels.join(",");
    let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
    Some((format!("{name}{labels}"), value.parse().ok()?))
}
