//! The collector's YAML → a typed, checked [`Plan`] made of every room's options.
//!
//! ```text
//! --config, --set ─▶ source ─▶ tree ─▶ expand ─▶ assemble (service, components/, engine) ─▶ Plan
//!                                                   └─ read: types, defaults, unknown keys
//! ```
//! A configuration that runs on the collector means the same here, or is refused with its line: it
//! is never half understood. Errors are gathered, so that one run shows all of them. What the
//! collector only finds at start (ports, addresses) is found here. Old forms are accepted with the
//! new form written out. The loader reads files, certificates among them, and nothing else: it
//! opens no socket and resolves no name.

pub mod assemble;
pub mod components;
pub mod engine;
pub mod examine;
pub mod expand;
pub mod gates;
pub mod ids;
pub mod machine;
pub mod plan;
pub mod print;
pub mod read;
pub mod report;
pub mod scalar;
pub mod scope;
pub mod service;
pub mod shape;
pub mod source;
pub mod splice;
pub mod telemetry;
pub mod tree;

pub use examine::{Examined, examine};
pub use expand::Env;
pub use machine::Machine;
pub use plan::Plan;
pub use report::{Notice, Report, Severity};
pub use scalar::{DurationError, duration, show_duration};

use report::{At, Log};
use tree::{Node, Value};

/// What the command line asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `--config`, in order: a path, `file:path`, `env:NAME` or `yaml:a::b: v`.
    pub configs: Vec<String>,
    /// `--set`, in order: `a.b=value`.
    pub sets: Vec<String>,
    /// `--feature-gates`: `a,-b,+c`.
    pub feature_gates: Vec<String>,
}

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What to run.
    pub plan: Plan,
    /// Warnings, then notes.
    pub notices: Vec<Notice>,
    effective: print::Out,
}

/// Reads a configuration. `env` looks up environment variables.
///
/// # Errors
/// Everything that is wrong with it, and the warnings that came along.
pub fn load(request: &Request, env: Env<'_>, machine: &Machine) -> Result<Loaded, Report> {
    load_with(Log::default(), request, env, machine)
}

/// The same for what opens no socket: certificates and keys may be missing.
///
/// # Errors
/// As [`load`].
pub fn load_unplugged(
    request: &Request,
    env: Env<'_>,
    machine: &Machine,
) -> Result<Loaded, Report> {
    let mut log = Log::default();
    log.leave_files();
    load_with(log, request, env, machine)
}

fn load_with(
    mut log: Log,
    request: &Request,
    env: Env<'_>,
    machine: &Machine,
) -> Result<Loaded, Report> {
    let gates = gates::read(&request.feature_gates, &mut log);
    let Some(map) = source::merged(request, env, &mut log) else {
        return Err(Report { notices: log.into_notices() });
    };
    let mut root = Node::new(At::default(), Value::Map(map));
    expand::expand(&mut root, env, &log);
    // A value that could not be expanded would look wrong everywhere else, too.
    if log.has_errors() {
        return Err(Report { notices: log.into_notices() });
    }
    let map = match root.value {
        Value::Map(map) => map,
        _ => tree::Map::default(),
    };
    let (plan, effective) = assemble::plan(&map, machine, gates, &log);
    let failed = log.has_errors();
    let mut notices = log.into_notices();
    if failed {
        notices.retain(|n| n.severity != Severity::Note);
        return Err(Report { notices });
    }
    Ok(Loaded { plan, notices, effective })
}

/// The configuration as it took effect, with every default and without secrets, as YAML.
#[must_use]
pub fn print_config(loaded: &Loaded) -> String {
    print::yaml(&loaded.effective)
}

/// The components that tracemill has.
#[must_use]
pub fn components() -> String {
    components::list()
}

/// The README's table of components.
#[must_use]
pub fn component_table() -> String {
    components::elsewhere::table()
}
