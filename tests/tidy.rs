//! The architecture and the habits, read off the sources.
//!
//! Rooms are the top-level modules of `src/`. An **arrow** is a path from one room into another
//! (`crate::otlp::Signal` in `rpc/options.rs` leads from `rpc` to `otlp`). The table [`ROOMS`] says
//! which arrows may exist, top to bottom, so there is no cycle; where a room is part pure and
//! part I/O, [`PURE_FILES`] says which of its files are pure. A new arrow fails here: move the
//! shared type down, and change the table only when the architecture itself changes.
//!
//! Code at the end of a file, from `#[cfg(test)]` on, may name anything. What this does not see:
//! arrows made by macros, by glob imports of another room's re-exports, and through other crates.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

#[path = "tidy/source.rs"]
mod source;

use source::{Source, says, sources};

/// What a room is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Roles, configuration and rooms that speak to the world.
    Rim,
    /// No I/O, no clock, no randomness, no async, no unsafe.
    Pure,
}
use Kind::{Pure, Rim};

/// Rooms from the top of the building to its ground, and what each may name. Whatever a room may
/// name stands below it, which [`no_arrow_leads_upwards`] checks.
const ROOMS: &[(&str, Kind, &[&str])] = &[
    ("main", Rim, &["adopt", "cli", "control", "demo", "policy_test", "replay"]),
    // roles
    ("cli", Rim, &["adopt", "replay", "config"]),
    ("adopt", Rim, &["config", "otlp"]),
    ("policy_test", Rim, &["config", "sample", "otlp"]),
    ("replay", Rim, &["config", "sample", "otlp"]),
    (
        "demo",
        Rim,
        &[
            "control",
            "router",
            "sampler",
            "testing",
            "config",
            "rpc",
            "net",
            "runtime",
            "sample",
            "route",
            "otlp",
            "telemetry",
            "time",
        ],
    ),
    (
        "control",
        Rim,
        &[
            "router",
            "sampler",
            "config",
            "sample",
            "upstream",
            "rpc",
            "net",
            "runtime",
            "route",
            "otlp",
            "telemetry",
            "time",
        ],
    ),
    (
        "router",
        Rim,
        &[
            "sampler",
            "config",
            "upstream",
            "rpc",
            "net",
            "runtime",
            "sample",
            "route",
            "otlp",
            "telemetry",
            "time",
        ],
    ),
    ("sampler", Rim, &["rpc", "runtime", "sample", "otlp", "telemetry", "time"]),
    // beside the building: workloads for tests, benches and the demo
    // Servers and sockets for the fuzz targets of whole connections.
    ("testing", Rim, &["rpc", "net", "runtime", "sample", "route", "otlp", "time"]),
    ("config", Rim, &["upstream", "rpc", "net", "runtime", "sample", "route", "otlp", "telemetry"]),
    // rooms that speak to the world
    ("upstream", Rim, &["rpc", "net", "runtime", "route", "otlp", "telemetry", "time"]),
    ("rpc", Rim, &["net", "runtime", "http2", "time"]),
    ("net", Rim, &["runtime", "time"]),
    ("runtime", Rim, &["time"]),
    // pure rooms
    ("sample", Pure, &["memory", "otlp", "telemetry", "time"]),
    ("route", Pure, &["otlp"]),
    ("otlp", Pure, &[]),
    ("http2", Pure, &[]),
    // leaves
    ("telemetry", Rim, &["time"]),
    ("memory", Rim, &[]),
    ("time", Pure, &[]),
];

/// Single files that may do what their room may not: `(file, room)`.
const EXCEPTIONS: &[(&str, &str)] = &[
    // the paths of the three signals
    ("rpc/options.rs", "otlp"),
];

/// The pure files of rooms that also do I/O. They may name pure rooms, each other and
/// [`PLAIN_FILES`].
const PURE_FILES: &[&str] = &[
    "upstream/backoff.rs",
    "upstream/batch.rs",
    "upstream/file/json.rs",
    "upstream/link.rs",
    "upstream/options.rs",
    "upstream/place.rs",
    "upstream/queue.rs",
    "upstream/queue/failure.rs",
    "upstream/replies.rs",
    "upstream/spare.rs",
    "upstream/stats.rs",
    "net/options.rs",
    "net/tls/options.rs",
    "rpc/auth.rs",
    "rpc/auth/htpasswd.rs",
    "rpc/codec.rs",
    "rpc/cors.rs",
    "rpc/frame.rs",
    "rpc/http_reply.rs",
    "rpc/metadata.rs",
    "rpc/options.rs",
    "rpc/proxy.rs",
    "rpc/secret.rs",
    "rpc/status.rs",
    "runtime/options.rs",
    "telemetry/histogram.rs",
    "telemetry/quiet.rs",
];

/// Files that a pure file may name although they are not pure themselves: a lease counts in an
/// atomic that all cores share, yet it asks nobody and waits for nothing; the names of metrics are
/// constants that stand beside the page that shows them; a hint to the CPU changes nothing.
const PLAIN_FILES: &[&str] = &["runtime/lease.rs", "telemetry/names.rs", "memory.rs"];

/// Crates that only some rooms or files know, so that they can be replaced behind them.
const CRATES: &[(&str, &[&str])] = &[
    ("glommio", &["runtime/"]),
    ("io_uring", &["runtime/"]),
    ("h2", &["rpc/"]),
    ("rustls", &["net/tls/", "upstream/resolve/"]),
    ("webpki", &["net/tls/"]),
    ("x509_parser", &["net/tls/"]),
    ("rustls_native_certs", &["net/tls/"]),
    ("arc_swap", &["net/tls/"]),
    ("hyper", &["rpc/", "telemetry/http.rs"]),
    ("bcrypt", &["rpc/auth/"]),
    ("http_body_util", &["rpc/", "telemetry/http.rs", "upstream/resolve/https.rs"]),
    ("saphyr_parser", &["config/"]),
    ("clap", &["cli.rs"]),
    ("serde_core", &["otlp/json.rs"]),
    ("prometheus", &["telemetry/page.rs"]),
    ("tracing_subscriber", &["telemetry/log.rs"]),
    // only where a request is decoded to be looked at
    ("prost", &["upstream/debug/", "sample/mark.rs", "testing/"]),
    ("opentelemetry_proto", &["upstream/debug/", "sample/mark.rs", "testing/"]),
    ("hickory_resolver", &["upstream/resolve/dns.rs"]),
    ("hyper_rustls", &["upstream/resolve/https.rs"]),
    ("reqsign_aws_v4", &["upstream/resolve/cloud_map.rs"]),
    ("reqsign_core", &["upstream/resolve/cloud_map.rs"]),
    ("kube", &["upstream/resolve/k8s.rs"]),
    ("k8s_openapi", &["upstream/resolve/k8s.rs"]),
    ("anyhow", &[]),
    ("rand", &[]),
];

/// The only readers of the operating system's clocks.
const CLOCKS: &[&str] =
    &["src/runtime/clock.rs", "bench/src/clock.rs", "benches/bytes.rs", "benches/shard.rs"];
const CLOCK_READS: &[&str] = &["Instant::now", "SystemTime::now", "now_utc", "clock_gettime"];

/// What a pure file says nothing of.
const IMPURE: &[&str] = &[
    "async",
    "await",
    "unsafe",
    "std::fs",
    "std::net",
    "std::env",
    "std::thread",
    "std::process",
    "RandomState",
    "tokio",
    "libc",
    "println",
    "eprintln",
];

const BANNED: &[(&str, &str)] = &[
    ("todo!", "finish it, or list it in the README as missing"),
    ("unimplemented!", "finish it, or refuse it by name"),
    ("dbg!", "remove it"),
    ("Box<dyn Error", "an enum says whose fault it is"),
    ("Box<dyn std::error::Error", "an enum says whose fault it is"),
];
/// Names that say nothing, at the end of a type's.
const EMPTY_TYPE_NAMES: &[&str] = &["manager", "handler", "helper", "utils"];
/// Names that say nothing, as a file's.
const EMPTY_FILE_NAMES: &[&str] =
    &["manager", "handler", "helper", "helpers", "util", "utils", "common", "shared", "misc"];

const LINES_MAX: usize = 700;
const LINES_GOOD: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

fn is_pure(source: &Source) -> bool {
    source.room().is_some_and(|room| kind(room) == Some(Pure))
        || source.in_src().is_some_and(|path| PURE_FILES.contains(&path))
}

fn kind(room: &str) -> Option<Kind> {
    ROOMS.iter().find(|(name, ..)| *name == room).map(|(_, kind, _)| *kind)
}

/// Collects complaints and fails with all of them.
#[derive(Default)]
struct Complaints(String);

impl Complaints {
    fn add(&mut self, place: &str, line: usize, what: &str) {
        writeln!(self.0, "  {place}:{line}: {what}").unwrap();
    }

    fn check(self) {
        assert!(self.0.is_empty(), "not tidy:\n{}", self.0);
    }
}

#[test]
fn no_arrow_leads_upwards() {
    for (at, (room, _, may)) in ROOMS.iter().enumerate() {
        for target in *may {
            assert!(
                ROOMS[at + 1..].iter().any(|(below, ..)| below == target),
                "{room} may name {target}, which is not below it",
            );
        }
    }
    for (data_path, _, may) in ROOMS.iter().filter(|(room, ..)| *room != "demo") {
        assert!(!may.contains(&"testing"), "{data_path} may not name testing");
    }
}

#[test]
fn rooms_name_only_what_the_table_allows() {
    let mut complaints = Complaints::default();
    for source in sources() {
        let (Some(room), Some(file)) = (source.room(), source.in_src()) else { continue };
        let Some((_, _, may)) = ROOMS.iter().find(|(name, ..)| *name == room) else {
            complaints.add(&source.path, 1, &format!("room `{room}` is not in the table"));
            continue;
        };
        for (line, path) in source.paths() {
            let target = path.get(1).map_or("", String::as_str);
            if path[0] == "super" || target == room || kind(target).is_none() {
                continue;
            }
            if !may.contains(&target) && !EXCEPTIONS.contains(&(file, target)) {
                complaints.add(&source.path, line, &format!("new arrow {room} → {target}"));
            }
        }
    }
    complaints.check();
}

/// The file that `path`, met in `from`, leads to, re-exports of its `mod.rs` followed.
fn file_of(from: &str, path: &[String], by_path: &BTreeMap<&str, &Source>) -> Option<String> {
    let mut dir: Vec<&str> = from.trim_end_matches(".rs").split('/').collect();
    if dir.last() == Some(&"mod") {
        dir.pop();
    }
    let mut names = path.iter().map(String::as_str).peekable();
    if names.next_if(|&n| n != "super").is_some() {
        dir.clear();
    }
    while names.next_if_eq(&"super").is_some() {
        dir.pop();
    }
    for name in names {
        let module = dir.join("/");
        let own = [format!("{module}/{name}.rs"), format!("{module}/{name}/mod.rs")];
        let top = [format!("{name}.rs"), format!("{name}/mod.rs")];
        let inner = if dir.is_empty() { &top } else { &own };
        if inner.iter().any(|f| by_path.contains_key(f.as_str())) {
            dir.push(name);
            continue;
        }
        // an item: re-exported by this module, or its own
        let index = by_path.get(format!("{module}/mod.rs").as_str());
        let export = index.and_then(|index| {
            index.code.lines().find(|l| l.starts_with("pub use ") && says(l, name))
        });
        dir.extend(export.map(|l| l["pub use ".len()..].split("::").next().unwrap()));
        break;
    }
    let module = dir.join("/");
    [format!("{module}.rs"), format!("{module}/mod.rs")]
        .into_iter()
        .find(|f| by_path.contains_key(f.as_str()))
}

#[test]
fn pure_files_name_only_pure_files() {
    let sources = sources();
    let by_path: BTreeMap<&str, &Source> =
        sources.iter().filter_map(|s| Some((s.in_src()?, s))).collect();
    let mut complaints = Complaints::default();
    for file in PURE_FILES.iter().chain(PLAIN_FILES) {
        assert!(by_path.contains_key(file), "{file} is in the table and not in the tree");
    }
    for source in sources.iter().filter(|s| is_pure(s)) {
        let from = source.in_src().unwrap();
        for (line, path) in source.paths() {
            let Some(to) = file_of(from, &path, &by_path) else { continue };
            let same_room = by_path[to.as_str()].room() == source.room();
            let index = same_room && to.ends_with("mod.rs");
            if !is_pure(by_path[to.as_str()]) && !PLAIN_FILES.contains(&to.as_str()) && !index {
                let what = format!("pure, and names {} of {to}", path.join("::"));
                complaints.add(&source.path, line, &what);
            }
        }
        for (number, line) in source.code.lines().enumerate() {
            let line = line.replace("forbid(unsafe_code)", "");
            for word in IMPURE.iter().filter(|word| says(&line, word)) {
                complaints.add(&source.path, number + 1, &format!("pure, and says `{word}`"));
            }
        }
    }
    complaints.check();
}

#[test]
fn pure_rooms_forbid_unsafe_code() {
    let sources = sources();
    for (room, _, _) in ROOMS.iter().filter(|(_, kind, _)| *kind == Pure) {
        let top = [format!("src/{room}.rs"), format!("src/{room}/mod.rs")];
        let source = sources.iter().find(|s| top.contains(&s.path)).unwrap();
        assert!(source.code.contains("#![forbid(unsafe_code)]"), "{} must forbid it", source.path);
    }
}

#[test]
fn only_the_clock_reads_the_clock() {
    let mut complaints = Complaints::default();
    for source in sources() {
        let ours = source.in_src().is_some() || source.path.starts_with("bench");
        if !ours || source.path.contains("/tests/") || CLOCKS.contains(&source.path.as_str()) {
            continue;
        }
        for (number, line) in source.code.lines().enumerate() {
            for read in CLOCK_READS.iter().filter(|read| line.contains(**read)) {
                complaints.add(&source.path, number + 1, &format!("{read}: take `now` instead"));
            }
        }
    }
    complaints.check();
}

#[test]
fn crates_stay_behind_their_rooms() {
    let mut complaints = Complaints::default();
    for source in sources() {
        let Some(file) = source.in_src() else { continue };
        for (name, rooms) in CRATES {
            let path = format!("{name}::");
            let used = |line: &str| {
                line.match_indices(&path).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
                })
            };
            if rooms.iter().any(|room| file.starts_with(room)) {
                continue;
            }
            for (number, line) in source.code.lines().enumerate().filter(|(_, l)| used(l)) {
                let what = format!("`{name}` is not known here: {}", line.trim());
                complaints.add(&source.path, number + 1, &what);
            }
        }
    }
    complaints.check();
}

#[test]
fn files_are_short_documented_and_free_of_banned_words() {
    let mut complaints = Complaints::default();
    for source in sources() {
        let path = &source.path;
        let tests = source.code.is_empty();
        if !tests && !source.text.trim_start().starts_with("//!") {
            complaints.add(path, 1, "a file opens with what it does (`//!`)");
        }
        let lines = source.code.lines().count();
        if lines > LINES_MAX {
            complaints.add(path, lines, &format!("{lines} lines without tests, of {LINES_MAX}"));
        } else if lines > LINES_GOOD {
            println!("{path}: {lines} lines without tests, {LINES_GOOD} would be good");
        }
        for (number, line) in source.text.lines().enumerate() {
            // a text may be as wide as it likes
            let literal = line.contains('"') || line.ends_with('\\');
            if line.chars().count() > COLUMNS_MAX && !literal {
                complaints.add(path, number + 1, &format!("more than {COLUMNS_MAX} columns"));
            }
        }
        for (number, line) in source.code.lines().enumerate() {
            for (word, instead) in BANNED.iter().filter(|(word, _)| line.contains(word)) {
                complaints.add(path, number + 1, &format!("`{word}`: {instead}"));
            }
            let declared = ["struct ", "enum ", "trait "].iter().find_map(|k| line.split_once(k));
            let name = declared.map_or("", |(_, rest)| rest).split(['<', ' ', '(', ';']).next();
            let name = name.unwrap().to_lowercase();
            if let Some(empty) = EMPTY_TYPE_NAMES.iter().find(|n| name.ends_with(**n)) {
                complaints.add(path, number + 1, &format!("`{empty}` names nothing"));
            }
        }
        let stem = path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
        if EMPTY_FILE_NAMES.contains(&stem.rsplit('/').next().unwrap()) {
            complaints.add(path, 1, "the file's name says nothing");
        }
    }
    complaints.check();
}

#[test]
fn functions_fit_on_a_screen() {
    let mut complaints = Complaints::default();
    for source in sources() {
        let lines: Vec<&str> = source.code.lines().collect();
        for (start, line) in lines.iter().enumerate().filter(|(_, l)| says(l, "fn")) {
            let indent = &line[..line.len() - line.trim_start().len()];
            let end = format!("{indent}}}");
            let declared = line.trim_end().ends_with([';', '}']);
            let found = lines[start..].iter().position(|l| *l == end);
            let Some(length) = found.filter(|_| !declared).map(|n| n + 1) else { continue };
            // a declaration over several lines ends before the next item does
            let next = lines[start + 1..start + length].iter();
            if next.clone().any(|l| l.starts_with(indent) && says(l, "fn") && !is_inner(l, indent))
            {
                continue;
            }
            if length > FUNCTION_LINES_MAX {
                let what = format!("a function of {length} lines, of {FUNCTION_LINES_MAX}");
                complaints.add(&source.path, start + 1, &what);
            }
        }
    }
    complaints.check();
}

/// Deeper than `indent`.
fn is_inner(line: &str, indent: &str) -> bool {
    line.starts_with(&format!("{indent} "))
}
