//! ROLE: `tracemill adopt`. Divides a collector's configuration between tracemill and a collector
//! beside it (the companion), joined by OTLP on loopback, and says in words what is where.
//!
//! Every component stands in the file where its pipelines are; which those are is settled in
//! `homes`, cut in `split`, written in `write`. Whether something runs here is the loader's own
//! verdict. Both files hold what the user wrote, before substitution.
//!
//! Nothing is written unless tracemill's half loads. Comments of the user's are not kept, and how
//! the two processes are started and supervised is not decided here.

use std::fmt;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::config::components::{Component, Section};
use crate::config::examine::Verdict;
use crate::config::tree::Value;
use crate::config::{self, Env, Examined, Machine, Report, Request, Severity};

mod companion;
mod homes;
mod ports;
mod split;
mod tell;
mod write;

pub use split::File;

use companion::Changes;
use homes::Homes;
use ports::Ports;
use split::Split;
use write::Parts;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The configuration.
    pub config: Request,
    /// The folder for both files; it is made if it is missing.
    pub out: String,
    /// Overwrites files that are there.
    pub force: bool,
}

/// What became of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The files and their texts.
    pub files: Vec<(File, String)>,
    /// What is where, in words.
    pub told: String,
    /// Warnings about the configuration.
    pub warnings: Vec<String>,
}

/// Why nothing is written.
#[derive(Debug)]
pub enum Refusal {
    /// It is wrong wherever it runs.
    Wrong(Report),
    /// It neither balances nor samples.
    NothingOfOurs(Vec<String>),
    /// What balances or samples is itself beyond tracemill: `id: what`.
    Ours(Vec<String>),
    /// A whole section comes from one variable.
    Substituted(&'static str),
    /// A half does not load: a fault of tracemill's.
    Half(Report),
    /// A file is there.
    Exists(PathBuf),
    /// A file cannot be read or written.
    Io(PathBuf, io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(report) => {
                write!(f, "{report}\nerror: nothing was written: this has to be right first")
            }
            Self::NothingOfOurs(lacks) => {
                write!(
                    f,
                    "error: nothing was written: no pipeline has a load_balancing exporter or a \
                     tail_sampling processor, so nothing here is for tracemill; leave it with the \
                     collector. tracemill does not have:"
                )?;
                lacks.iter().try_for_each(|lack| write!(f, "\n    {lack}"))
            }
            Self::Ours(lacks) => {
                write!(
                    f,
                    "error: nothing was written: this cannot be divided, because what tracemill is \
                     to do has something that it does not have:"
                )?;
                lacks.iter().try_for_each(|lack| write!(f, "\n    {lack}"))
            }
            Self::Substituted(section) => write!(
                f,
                "error: nothing was written: all of {section} comes from one variable, and dividing \
                 it would write its value into the files; write the section out, with variables \
                 in its values"
            ),
            Self::Half(report) => write!(
                f,
                "{report}\nerror: nothing was written: tracemill.yaml would not be valid, which is \
                 a fault of `tracemill adopt`"
            ),
            Self::Exists(path) => write!(
                f,
                "error: nothing was written: {} is there; --force overwrites it",
                path.display()
            ),
            Self::Io(path, e) => write!(f, "error: {}: {e}", path.display()),
        }
    }
}

/// Divides, writes both files and says so on standard output.
#[must_use]
pub fn run(options: &Options) -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    let adopted = adopt(&options.config, &env, &Machine::read()).and_then(|adopted| {
        put(&adopted, Path::new(&options.out), options.force)?;
        Ok(adopted)
    });
    match adopted {
        Ok(adopted) => {
            for warning in &adopted.warnings {
                eprintln!("{warning}");
            }
            let text = format!("{}{}", adopted.told, tell::starts(&adopted, &options.out));
            // A reader that has gone away is no error.
            _ = io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(refusal) => {
            eprintln!("{refusal}");
            ExitCode::FAILURE
        }
    }
}

/// Divides a configuration, and writes nothing.
///
/// # Errors
/// Why it cannot be divided.
pub fn adopt(request: &Request, env: Env<'_>, machine: &Machine) -> Result<Adopted, Refusal> {
    let examined = config::examine(request, env, machine).map_err(Refusal::Wrong)?;
    let name = name(request);
    let warnings = examined.warnings.iter().map(ToString::to_string).collect();
    if examined.plan.is_some() {
        let files = vec![(File::Here, whole(request, &examined, &name)?)];
        return Ok(Adopted { files, told: tell::whole(&name), warnings });
    }
    check(&examined)?;
    let homes = Homes::new(&examined);
    let mut ports = Ports::new(&examined.expanded, &companion::DEFAULT_PORTS);
    let split = Split::new(&examined, &homes, &mut ports);
    let changes = Changes::new(&examined, &mut ports);
    let parts = Parts { examined: &examined, split: &split, changes: &changes };
    let alone = split.pipes.iter().all(|pipe| pipe.file == File::Here);
    let mut files =
        vec![(File::Here, parts.yaml(File::Here, &tell::head(&name, &split, File::Here)))];
    if !alone {
        let head = tell::head(&name, &split, File::There);
        files.push((File::There, parts.yaml(File::There, &head)));
    }
    let request = Request {
        configs: vec![format!("yaml:{}", files[0].1)],
        sets: Vec::new(),
        feature_gates: request.feature_gates.clone(),
    };
    let half = config::load_unplugged(&request, env, machine);
    half.map_err(|report| {
        let errors = report.notices.into_iter().filter(|n| n.severity == Severity::Error);
        Refusal::Half(Report { notices: errors.collect() })
    })?;
    let told = tell::divided(&name, &parts, &homes);
    Ok(Adopted { files, told, warnings })
}

/// Whether there is something to divide.
fn check(examined: &Examined) -> Result<(), Refusal> {
    let is_ours = |v: &Verdict| {
        matches!(v.component, Some(Component::TailSampling | Component::LoadBalancing))
    };
    let in_use = || examined.components.iter().filter(|(_, v)| v.in_use);
    let lacking = |ours: bool| {
        in_use()
            .filter(|(_, v)| is_ours(v) == ours)
            .filter_map(|((section, id), v)| {
                let lack = v.lack.as_ref()?;
                Some(format!("{} {id}: {lack}", section.noun()))
            })
            .collect::<Vec<_>>()
    };
    for section in Section::ALL {
        let is_map = |root: &config::tree::Map| {
            root.get(section.key()).is_some_and(|n| matches!(n.value, Value::Map(_)))
        };
        if is_map(&examined.expanded) && !is_map(&examined.raw) {
            return Err(Refusal::Substituted(section.key()));
        }
    }
    let ours = lacking(true);
    if !ours.is_empty() {
        return Err(Refusal::Ours(ours));
    }
    if !in_use().any(|(_, v)| is_ours(v)) {
        return Err(Refusal::NothingOfOurs(lacking(false)));
    }
    Ok(())
}

/// The name of what is divided, for words: a file without its folder.
fn name(request: &Request) -> String {
    let names = request.configs.iter().map(|uri| {
        match uri.split_once(':') {
            Some((scheme, _)) if matches!(scheme, "yaml" | "env") => return scheme.to_owned(),
            _ => {}
        }
        let path = uri.strip_prefix("file:").unwrap_or(uri);
        let file = Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
        file.unwrap_or_else(|| path.to_owned())
    });
    names.collect::<Vec<_>>().join(" + ")
}

/// A configuration that needs no companion: the file as it is, or what several come to.
fn whole(request: &Request, examined: &Examined, name: &str) -> Result<String, Refusal> {
    if let ([uri], []) = (&request.configs[..], &request.sets[..])
        && !matches!(uri.split_once(':'), Some(("env" | "yaml", _)))
    {
        let path = uri.strip_prefix("file:").unwrap_or(uri);
        return fs::read_to_string(path).map_err(|e| Refusal::Io(path.into(), e));
    }
    let root =
        config::tree::Node::new(config::report::At::default(), Value::Map(examined.raw.clone()));
    let yaml = config::print::yaml(&config::print::Out::written(&root));
    Ok(format!("# {name}, as tracemill runs it: tracemill --config tracemill.yaml\n\n{yaml}"))
}

/// Writes all files or none.
fn put(adopted: &Adopted, folder: &Path, force: bool) -> Result<(), Refusal> {
    let paths: Vec<PathBuf> = adopted.files.iter().map(|(f, _)| folder.join(f.name())).collect();
    if let Some(there) = paths.iter().find(|path| !force && path.exists()) {
        return Err(Refusal::Exists(there.clone()));
    }
    fs::create_dir_all(folder).map_err(|e| Refusal::Io(folder.to_owned(), e))?;
    for (path, (_, text)) in paths.iter().zip(&adopted.files) {
        fs::write(path, text).map_err(|e| Refusal::Io(path.clone(), e))?;
    }
    Ok(())
}
