//! What is measured: the relay, tracemill or the collector, as a process of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};

use super::options::Options;
use crate::{clock, process};

/// Kinds of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Kind {
    /// Copies bytes to one backend
    Relay,
    /// `tracemill --config`, one core
    #[default]
    Tracemill,
    /// `otelcol --config`, one core
    Collector,
}

/// A process that is stopped when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Held, so that what it prints has somewhere to go.
    output: Option<BufReader<ChildStdout>>,
}

impl Running {
    /// Starts a command on one CPU: the child inherits the affinity of this thread.
    pub(crate) fn start(command: &mut Command, cpu: usize, back: usize) -> Result<Self, String> {
        process::pin(cpu).map_err(|e| e.to_string())?;
        let spawned = command.spawn();
        process::pin(back).map_err(|e| e.to_string())?;
        let program = command.get_program().to_string_lossy().into_owned();
        Ok(Self { child: spawned.map_err(|e| format!("{program}: {e}"))?, output: None })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The addresses that a `--json` command of this program says first.
    pub(crate) fn listening(&mut self) -> Result<Vec<String>, String> {
        let stdout = self.child.stdout.take().ok_or("no output")?;
        let mut reader = BufReader::new(stdout);
        let mut line = String::new();
        reader.read_line(&mut line).map_err(|e| e.to_string())?;
        let said: serde_json::Value = serde_json::from_str(&line).map_err(|e| e.to_string())?;
        let addresses = said["listening"].as_array().into_iter().flatten();
        self.output = Some(reader);
        Ok(addresses.filter_map(|a| a.as_str()).map(str::to_owned).collect())
    }

    /// Ends it, and gives the summary that it prints then.
    pub(crate) fn summary(&mut self) -> Result<serde_json::Value, String> {
        self.stop();
        let mut text = String::new();
        if let Some(output) = &mut self.output {
            output.read_to_string(&mut text).map_err(|e| e.to_string())?;
        }
        serde_json::from_str(text.trim()).map_err(|e| format!("summary: {e}: {text}"))
    }

    /// Asks it to end, and waits for a while.
    pub(crate) fn stop(&mut self) {
        if let (Some(pid), false) = (Pid::from_raw(self.child.id() as i32), self.has_ended()) {
            let _ = kill_process(pid, Signal::INT);
            let until = clock::now() + 3 * clock::SECOND;
            while clock::now() < until && !self.has_ended() {
                rest(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits without work.
#[expect(clippy::disallowed_methods, reason = "the runner waits for other processes")]
pub(crate) fn rest(time: Duration) {
    std::thread::sleep(time);
}

/// This program.
pub(crate) fn tool() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|e| e.to_string())
}

/// Starts a subject that sends to `backends`; gives it and where it listens.
pub(crate) fn start(
    options: &Options,
    kind: Kind,
    backends: &[String],
    folder: &Path,
) -> Result<(Running, String), String> {
    let (cpu, back) = (options.cpu_subject, options.cpu_load);
    if kind == Kind::Relay {
        let mut command = Command::new(tool()?);
        command.args(["relay", "--json", "--listen", "127.0.0.1:0", "--to", &backends[0]]);
        let mut running = Running::start(command.stdout(Stdio::piped()), cpu, back)?;
        let endpoint = running.listening()?.pop().ok_or("the relay does not listen")?;
        return Ok((running, endpoint));
    }
    let endpoint = SocketAddr::from(([127, 0, 0, 1], free_port()?));
    let mut command = Command::new(program(options, kind)?);
    let mut config = |name: &str, text: String| {
        let path = folder.join(name);
        command.arg("--config").arg(&path);
        fs::write(&path, text).map_err(|e| e.to_string())
    };
    config("router.yaml", router_yaml(endpoint, backends))?;
    if kind == Kind::Tracemill {
        config("tracemill.yaml", format!("tracemill:\n  cores: 1\n  cpus: [{cpu}]\n"))?;
    }
    let log = folder.join("subject.log");
    let file = fs::File::create(&log).map_err(|e| e.to_string())?;
    let twin = file.try_clone().map_err(|e| e.to_string())?;
    let mut running = Running::start(command.stdout(file).stderr(twin), cpu, back)?;
    let until = clock::now() + 15 * clock::SECOND;
    while TcpStream::connect(endpoint).is_err() {
        if clock::now() > until || running.has_ended() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("the subject does not listen on {endpoint}:\n{said}"));
        }
        rest(Duration::from_millis(10));
    }
    Ok((running, endpoint.to_string()))
}

fn program(options: &Options, kind: Kind) -> Result<PathBuf, String> {
    if let Some(program) = &options.program {
        return Ok(program.clone());
    }
    Ok(match kind {
        Kind::Collector => PathBuf::from("otelcol"),
        _ => tool()?.with_file_name("tracemill"),
    })
}

fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| e.to_string())?;
    listener.local_addr().map(|a| a.port()).map_err(|e| e.to_string())
}

/// The same file for tracemill and the collector.
fn router_yaml(endpoint: SocketAddr, backends: &[String]) -> String {
    let hostnames: String = backends.iter().map(|b| format!("          - {b}\n")).collect();
    format!(
        "receivers:
  otlp:
    protocols:
      grpc:
        endpoint: {endpoint}
exporters:
  load_balancing:
    routing_key: traceID
    protocol:
      otlp:
        compression: none
        tls:
          insecure: true
    resolver:
      static:
        hostnames:
{hostnames}service:
  telemetry:
    logs:
      level: error
    metrics:
      level: none
  pipelines:
    traces:
      receivers: [otlp]
      exporters: [load_balancing]
"
    )
}
