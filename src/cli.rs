//! The command line: what is asked for, and the commands that only look at a configuration.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{self, Loaded, Machine, Request, Severity};
use crate::{adopt, replay};

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Show both tiers at work in one process, for this long.
    Demo {
        /// How long traffic is sent.
        duration: Duration,
        /// Spans per second; `None` takes what suits the machine.
        rate: Option<u32>,
    },
    /// Run a configuration.
    Run(Request),
    /// Only look at a configuration; [`inspect`] does it.
    Inspect(Inspection),
    /// Divide a configuration between tracemill and a collector beside it.
    Adopt(adopt::Options),
    /// Run the policy tests of these files.
    Test(Vec<String>),
    /// Run recorded traffic through the policies of a configuration.
    Replay(replay::Options),
}

/// A command that needs no cores.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inspection {
    /// Say what is wrong with a configuration.
    Validate(Request),
    /// Print a configuration as it takes effect.
    PrintConfig(Request),
    /// List the components.
    Components,
}

#[derive(Debug, Parser)]
#[command(
    name = "tracemill",
    version,
    about = "Tail sampling for OpenTelemetry: routes each trace whole to one sampler, and samples it.",
    long_about = "Tail sampling for OpenTelemetry: routes each trace whole to one sampler, and samples \
                  it.\n\n\
        It reads the configuration of an OpenTelemetry Collector (otlp receivers, memory_limiter, \
        batch and tail_sampling processors, load_balancing, otlp_grpc, file, debug and nop \
        exporters) and does the same with it, on the same backends. Without arguments it shows \
        itself at work: traffic, router, samplers and store in one process, on loopback, for ten \
        seconds.",
    after_help = "Examples:\n  \
        tracemill                                    the demonstration\n  \
        tracemill --config router.yaml               run, as the collector would\n  \
        tracemill --config router.yaml --config tracemill.yaml   own settings in a second file\n  \
        tracemill validate --config router.yaml      everything that is wrong, with its lines\n  \
        tracemill adopt --config all.yaml --out two  our part, and one for a collector beside it\n  \
        tracemill test sampler_test.yaml             policies, tried on traces that a file names\n  \
        tracemill replay --config sampler.yaml --input traces.json   and on recorded ones",
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(subcommand)]
    command: Option<Subcommands>,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Show both tiers at work: traffic, router, two samplers and a store in one process.
    ///
    /// Once a second a table, at the end the proof: no trace was split, each verdict is that of a
    /// naive judge, what is kept arrived whole and once. Exit code 1 if the proof fails.
    Demo {
        /// How long to send traffic.
        #[arg(long = "for", value_name = "DURATION", default_value = "10s")]
        #[arg(allow_hyphen_values = true)]
        #[arg(value_parser = demo_duration)]
        duration: Duration,
        /// Spans per second [default: 50000 for each CPU, at most 100000]
        #[arg(long, value_name = "SPANS", value_parser = clap::value_parser!(u32).range(1..))]
        rate: Option<u32>,
    },
    /// Say everything that is wrong with a configuration, with file, line and key.
    ///
    /// Nothing is printed if it is right. Exit code 1 if it is not.
    Validate(ConfigArguments),
    /// Print a configuration as it takes effect: merged, expanded, with every default.
    ///
    /// The output is YAML that can be loaded again, once the values of headers and the password of
    /// a proxy, which are not shown, are put back.
    PrintConfig(ConfigArguments),
    /// List the components that a configuration can name.
    Components,
    /// Divide a configuration that tracemill cannot run whole: its part, and a collector's.
    ///
    /// Writes tracemill.yaml and, if one is needed, collector.yaml, joined by OTLP on loopback, and
    /// says what is where and why. Exit code 1, and nothing written, if it cannot be divided.
    Adopt {
        #[command(flatten)]
        config: ConfigArguments,
        /// The folder for both files.
        #[arg(long, value_name = "DIR")]
        out: String,
        /// Overwrite files that are there.
        #[arg(long)]
        force: bool,
    },
    /// Test sampling policies as unit tests do: traces and the verdicts that are expected.
    ///
    /// Prints a table. Exit code 1 if a verdict differs, 2 if a file cannot be read.
    #[command(after_long_help = TEST_HELP)]
    Test {
        /// Policy tests, in YAML.
        #[arg(value_name = "FILE", required = true)]
        files: Vec<String>,
    },
    /// Run recorded OTLP through the sampling policies of a configuration, in simulated time.
    ///
    /// Says what would be kept, by which policy, and how much per second. A request arrives when
    /// its latest span ends. Lines that cannot be read are told and passed over; exit code 1 if
    /// nothing can be read.
    Replay(ReplayArguments),
}

#[derive(Args, Debug)]
struct ReplayArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// What the collector's file exporter wrote: JSON lines or length-prefixed protobuf.
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    input: Vec<String>,
    /// What the files hold [default: by the first byte of each]
    #[arg(long)]
    format: Option<FormatName>,
    /// By the latest end of a span (the files are read twice), or as in the files.
    #[arg(long, default_value = "arrival")]
    order: OrderName,
    /// Writes the verdict of each trace as a line of JSON; - is standard output.
    #[arg(long, value_name = "FILE")]
    verdicts: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    Json,
    Proto,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OrderName {
    Arrival,
    File,
}

impl From<ReplayArguments> for replay::Options {
    fn from(a: ReplayArguments) -> Self {
        Self {
            config: a.config.into(),
            inputs: a.input,
            format: a.format.map(|format| match format {
                FormatName::Json => replay::Format::Json,
                FormatName::Proto => replay::Format::Proto,
            }),
            order: match a.order {
                OrderName::Arrival => replay::Order::Arrival,
                OrderName::File => replay::Order::File,
            },
            verdicts: a.verdicts,
        }
    }
}

/// The format of policy tests.
const TEST_HELP: &str = "\
A file of policy tests:

  config: sampler.yaml        # a collector configuration, from the directory of this file
  processor: tail_sampling/a  # which one, if it has several
  # instead of config: a tail_sampling block, or a whole configuration (processors: ...)
  feature_gates: a,-b         # as on the command line
  together: false             # true: one sampler for all traces, so that they share limits
  traces:
    - name: errors are kept           # also gives the trace id; trace_id: sets one
      expect: sampled                 # or not_sampled, dropped, too_large, evicted
      policy: errors                  # the policy that decides; leave it out for any
      service: cart                   # of all its spans, as resource and arrives_ms
      spans: [{status: ERROR}]

A span, with its defaults:

  name: ''            attributes: {}      kind: internal      status: unset
  service: ''         resource: {}        scope: ''           status_message: ''
  start_ms: 0         duration_ms: 1      trace_state: ''     flags: 0
  parent: the first span; none for a root, remote for one outside of the trace
  events: []          each {name, at_ms, attributes}
  arrives_ms: 0       request: 0          spans of one time and number come together
  count: 1            so many spans like this";

#[derive(Args, Debug, Default)]
struct ConfigArguments {
    /// Configuration: a path, file:path, env:NAME, or yaml:a::b: value; several are merged.
    #[arg(long, value_name = "FILE")]
    config: Vec<String>,
    /// Sets one key on top, e.g. --set processors.batch.timeout=2s.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The collector's feature gates, e.g. a,-b. Those of tail_sampling work.
    #[arg(long, value_name = "GATES", allow_hyphen_values = true)]
    feature_gates: Vec<String>,
}

impl From<ConfigArguments> for Request {
    fn from(a: ConfigArguments) -> Self {
        Self { configs: a.config, sets: a.set, feature_gates: a.feature_gates }
    }
}

/// Reads the arguments, program name first. `--help`, `--version` and mistakes end the process.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Command {
    match try_parse(arguments) {
        Ok(command) => command,
        Err(e) => e.exit(),
    }
}

fn try_parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let Arguments { config, command } = Arguments::try_parse_from(arguments)?;
    Ok(match command {
        Some(Subcommands::Demo { duration, rate }) => Command::Demo { duration, rate },
        Some(Subcommands::Validate(config)) => {
            Command::Inspect(Inspection::Validate(config.into()))
        }
        Some(Subcommands::PrintConfig(config)) => {
            Command::Inspect(Inspection::PrintConfig(config.into()))
        }
        Some(Subcommands::Components) => Command::Inspect(Inspection::Components),
        Some(Subcommands::Adopt { config, out, force }) => {
            Command::Adopt(adopt::Options { config: config.into(), out, force })
        }
        Some(Subcommands::Test { files }) => Command::Test(files),
        Some(Subcommands::Replay(arguments)) => Command::Replay(arguments.into()),
        None => match Request::from(config) {
            request if request == Request::default() => {
                Command::Demo { duration: Duration::from_secs(10), rate: None }
            }
            request => Command::Run(request),
        },
    })
}

/// Does what `inspection` asks for. Errors and warnings go to standard error.
#[must_use]
pub fn inspect(inspection: &Inspection) -> ExitCode {
    let shown = match inspection {
        Inspection::Components => Ok(config::components()),
        Inspection::Validate(request) => load(request).map(|_| String::new()),
        Inspection::PrintConfig(request) => load(request).map(|l| config::print_config(&l)),
    };
    match shown {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// Reads a configuration from this process's environment.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(request: &Request) -> Result<Loaded, config::Report> {
    let env = |name: &str| std::env::var(name).ok();
    config::load(request, &env, &Machine::read())
}

/// [`read`]; warnings and errors go to standard error, notes are left to the caller.
///
/// # Errors
/// The exit code, after the errors were written.
pub fn load(request: &Request) -> Result<Loaded, ExitCode> {
    tell(read(request))
}

/// The same for what is going to run: warnings are left to the caller, too, whose log has the form
/// and the outputs that the configuration asks for.
///
/// # Errors
/// As [`load`].
pub fn load_to_run(request: &Request) -> Result<Loaded, ExitCode> {
    read(request).map_err(|report| refuse(&report))
}

/// As [`load`] for what opens no socket, so that certificates and keys may be missing.
///
/// # Errors
/// As [`load`].
pub fn load_unplugged(request: &Request) -> Result<Loaded, ExitCode> {
    let env = |name: &str| std::env::var(name).ok();
    tell(config::load_unplugged(request, &env, &Machine::read()))
}

fn tell(loaded: Result<Loaded, config::Report>) -> Result<Loaded, ExitCode> {
    match loaded {
        Ok(loaded) => {
            for notice in loaded.notices.iter().filter(|n| n.severity == Severity::Warning) {
                eprintln!("{notice}");
            }
            Ok(loaded)
        }
        Err(report) => Err(refuse(&report)),
    }
}

fn refuse(report: &config::Report) -> ExitCode {
    eprintln!("{report}");
    ExitCode::FAILURE
}

/// Writes to standard output; a reader that has gone away is no error.
fn print(text: &str) {
    use std::io::Write;
    _ = std::io::stdout().write_all(text.as_bytes());
}

fn duration(text: &str) -> Result<Duration, String> {
    match config::duration(text) {
        Ok(nanos) => u64::try_from(nanos)
            .map(Duration::from_nanos)
            .map_err(|_| "must not be negative".into()),
        Err(e) => Err(format!("{text:?} {}, write for example 10s", e.words())),
    }
}

fn demo_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        short if short < Duration::from_secs(1) => {
            Err(format!("{text:?} is too short to show anything, write at least 1s"))
        }
        long => Ok(long),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parsed(line: &str) -> Result<Command, clap::Error> {
        try_parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_definition_holds_together() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn arguments_say_which_command_is_meant() {
        let request = |configs: &[&str]| Request {
            configs: configs.iter().map(|c| (*c).to_owned()).collect(),
            ..Request::default()
        };
        let seconds = |s| Command::Demo { duration: Duration::from_secs(s), rate: None };
        let rows = [
            ("tracemill", seconds(10)),
            ("tracemill demo --for 90s", seconds(90)),
            (
                "tracemill demo --rate 7",
                Command::Demo { duration: Duration::from_secs(10), rate: Some(7) },
            ),
            ("tracemill --config a --config=b", Command::Run(request(&["a", "b"]))),
            (
                "tracemill validate --config a",
                Command::Inspect(Inspection::Validate(request(&["a"]))),
            ),
            (
                "tracemill print-config --config a",
                Command::Inspect(Inspection::PrintConfig(request(&["a"]))),
            ),
            (
                "tracemill adopt --config a --out b --force",
                Command::Adopt(adopt::Options {
                    config: request(&["a"]),
                    out: "b".into(),
                    force: true,
                }),
            ),
            ("tracemill components", Command::Inspect(Inspection::Components)),
            ("tracemill test a b", Command::Test(vec!["a".into(), "b".into()])),
            (
                "tracemill replay --config a --input b c --input d --order file --format proto",
                Command::Replay(replay::Options {
                    config: request(&["a"]),
                    inputs: vec!["b".into(), "c".into(), "d".into()],
                    format: Some(replay::Format::Proto),
                    order: replay::Order::File,
                    verdicts: None,
                }),
            ),
        ];
        for (line, want) in rows {
            assert_eq!(parsed(line).unwrap(), want, "{line}");
        }
        let all = parsed("tracemill --config a --set b.c=d --feature-gates -x,y").unwrap();
        let want = Request {
            configs: vec!["a".into()],
            sets: vec!["b.c=d".into()],
            feature_gates: vec!["-x,y".into()],
        };
        assert_eq!(all, Command::Run(want));
        for line in [
            "tracemill demo --for 10",
            "tracemill demo --for 0s",
            "tracemill demo --for 999ms",
            "tracemill demo --rate 0",
            "tracemill nonsense",
            "tracemill test",
            "tracemill adopt --config a",
            "tracemill replay --config a",
            "tracemill --confg a",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
