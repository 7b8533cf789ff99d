//! Where a configuration comes from: the `--config` URIs and `--set`, merged in order into one tree
//! (configs 2).

use std::fs::File;
use std::io::Read;

use super::expand::Env;
use super::report::{At, Log, quote};
use super::tree::{self, Map, Node, Value};
use super::{Request, shape};

/// Bytes of one source.
const SOURCE_BYTES_MAX: usize = 4 << 20;
/// `--config` and `--set` together.
const SOURCES_MAX: usize = 1_000;

/// Reads and merges everything that `request` names. `None` if a source cannot be read at all; the
/// reasons are in `log`.
pub fn merged(request: &Request, env: Env<'_>, log: &mut Log) -> Option<Map> {
    let root = At::default();
    if request.configs.is_empty() {
        log.error(root, "", "no configuration: --config FILE is missing", None);
        return None;
    }
    if request.configs.len() + request.sets.len() > SOURCES_MAX {
        log.error(root, "", format!("more than {SOURCES_MAX} --config and --set"), None);
        return None;
    }
    let mut out = Map::default();
    let mut complete = true;
    for uri in &request.configs {
        match config(uri, env, log) {
            Some(map) => out.merge(map),
            None => complete = false,
        }
    }
    for set in &request.sets {
        match self::set(set, log) {
            Some(map) => out.merge(map),
            None => complete = false,
        }
    }
    complete.then_some(out)
}

/// One `--config`.
fn config(uri: &str, env: Env<'_>, log: &mut Log) -> Option<Map> {
    let (scheme, rest) = match uri.split_once(':') {
        // As in the collector: one letter and a colon is a path.
        Some((scheme, rest)) if scheme.len() > 1 => (scheme, rest),
        _ => ("file", uri),
    };
    let source = log.add_source(if scheme == "file" { rest } else { uri }, scheme == "file");
    let at = At { source, line: 0, column: 0 };
    let text = match scheme {
        "file" => match read(rest) {
            Ok(text) => text,
            Err(what) => {
                log.error(at, "", what, None);
                return None;
            }
        },
        "yaml" => rest.to_owned(),
        "env" => {
            let (name, default) = match rest.split_once(":-") {
                Some((name, default)) => (name, Some(default.to_owned())),
                None => (rest, None),
            };
            match env(name).or(default) {
                Some(text) => text,
                None => {
                    log.error(at, "", format!("variable {} is not set", quote(name)), None);
                    return None;
                }
            }
        }
        "http" | "https" => {
            let what = "configurations are not fetched over the network in this release";
            log.error(at, "", what, Some("fetch it first, then --config FILE".into()));
            return None;
        }
        other => {
            let what = format!("scheme {} is not supported (file, env, yaml)", quote(other));
            log.error(at, "", what, None);
            return None;
        }
    };
    parse(&text, source, log)
}

/// One file beside the configuration that is written in the same language: its map, expanded.
/// `None` if it is none; the reasons are in `log`.
pub fn file(path: &str, env: Env<'_>, log: &mut Log) -> Option<Node> {
    let source = log.add_source(path, true);
    let at = At { source, line: 0, column: 0 };
    let document = match read(path) {
        Ok(text) => tree::parse(&text, source),
        Err(what) => {
            log.error(at, "", what, None);
            return None;
        }
    };
    let mut root = match document {
        Ok(document) => document.root,
        Err(e) => {
            log.error(e.at, "", e.what, None);
            return None;
        }
    };
    if let Value::Map(map) = root.value {
        root.value = Value::Map(map.unflatten());
    }
    super::expand::expand(&mut root, env, log);
    (!log.has_errors()).then_some(root)
}

/// One `--set a.b=value`: dots part the key, the value is YAML.
fn set(set: &str, log: &mut Log) -> Option<Map> {
    let source = log.add_source(format!("--set {set}"), false);
    let Some((key, value)) = set.split_once('=') else {
        let at = At { source, line: 0, column: 0 };
        log.error(at, "", "no equal sign", Some("--set processors.batch.timeout=2s".into()));
        return None;
    };
    let text = format!("{}: {}", key.replace('.', "::").trim(), value.trim());
    parse(&text, source, log)
}

fn parse(text: &str, source: u16, log: &Log) -> Option<Map> {
    let document = match tree::parse(text, source) {
        Ok(document) => document,
        Err(e) => {
            log.error(e.at, "", e.what, None);
            return None;
        }
    };
    if let Some(at) = document.rest {
        let what =
            "a further document begins here; only the first one is read, as in the collector";
        log.warn(at, "", what, None);
    }
    let Node { at, value, .. } = document.root;
    let map = match value {
        Value::Map(map) => map.unflatten(),
        Value::Null => Map::default(),
        _ => {
            let what = "the root must be a map of sections (receivers, exporters, service, ...)";
            log.error(at, "", what, None);
            return None;
        }
    };
    if let Some((at, what, right)) = shape::foreign(&map, log, source) {
        log.error(at, "", what, Some(right));
        return None;
    }
    Some(map)
}

fn read(path: &str) -> Result<String, String> {
    let fail = |e: std::io::Error| format!("cannot read {}: {e}", quote(path));
    let file = File::open(path).map_err(fail)?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(SOURCE_BYTES_MAX).unwrap_or(u64::MAX);
    file.take(limit + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() > SOURCE_BYTES_MAX {
        return Err(format!("larger than {} MiB", SOURCE_BYTES_MAX >> 20));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8 text".into())
}
