//! Reads the sources as text: code without comments and literals, and the paths in it.
//!
//! What it does not see: paths made by macros, and through glob imports.

use std::path::Path;

/// One source file, as it is and as code alone.
pub(crate) struct Source {
    /// Relative to the repository.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Same lines, comments and the contents of literals blanked, cut where its tests begin; empty
    /// where the file is nothing but tests.
    pub(crate) code: String,
}

impl Source {
    /// Relative to `src/`, if it is there.
    pub(crate) fn in_src(&self) -> Option<&str> {
        self.path.strip_prefix("src/")
    }

    /// The room it belongs to.
    pub(crate) fn room(&self) -> Option<&str> {
        let path = self.in_src()?;
        Some(path.split('/').next().unwrap().trim_end_matches(".rs")).filter(|&r| r != "lib")
    }

    /// `crate::…` and `super::…` paths as `(line, segments)`, groups opened.
    pub(crate) fn paths(&self) -> Vec<(usize, Vec<String>)> {
        let mut found = Vec::new();
        for head in ["crate::", "super::", "tracemill::"] {
            for (at, _) in self.code.match_indices(head) {
                let before = self.code[..at].chars().next_back();
                if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let line = 1 + self.code[..at].matches('\n').count();
                let mut paths = Vec::new();
                open(&self.code[at..], &mut Vec::new(), &mut paths);
                found.extend(paths.into_iter().map(|path| (line, path)));
            }
        }
        found
    }
}

/// Reads one path at the start of `text`, opening groups; returns what is left.
fn open<'a>(text: &'a str, prefix: &mut Vec<String>, out: &mut Vec<Vec<String>>) -> &'a str {
    let depth = prefix.len();
    let mut rest = text;
    loop {
        let name = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        if name > 0 {
            prefix.push(rest[..name].to_owned());
            rest = &rest[name..];
        }
        match rest.strip_prefix("::") {
            Some(inner) if inner.starts_with('{') => {
                rest = &inner[1..];
                loop {
                    rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
                    if rest.is_empty() || rest.starts_with('}') {
                        break;
                    }
                    let left = open(rest, prefix, out);
                    // `as Name`, `*`: nothing that matters here
                    let end = left.find([',', '}']).unwrap_or(left.len());
                    rest = &left[end..];
                }
                rest = rest.get(1..).unwrap_or("");
                break;
            }
            Some(inner) if inner.starts_with(|c: char| c.is_alphabetic() || c == '_') => {
                rest = inner;
            }
            _ => {
                out.push(prefix.clone());
                break;
            }
        }
    }
    prefix.truncate(depth);
    rest
}

/// Every Rust file of the repository that is ours to keep tidy.
pub(crate) fn sources() -> Vec<Source> {
    fn walk(dir: &Path, root: &Path, out: &mut Vec<Source>) {
        let Ok(entries) = std::fs::read_dir(dir) else { return };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "target" && name != "node_modules" {
                walk(&path, root, out);
            } else if name.ends_with(".rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let path = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                let code = without_tests(&code_of(&text)).to_owned();
                out.push(Source { path, text, code });
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut out = Vec::new();
    for dir in ["src", "tests", "benches", "bench", "fuzz"] {
        walk(&root.join(dir), root, &mut out);
    }
    let tests: Vec<String> = out.iter().flat_map(test_files).collect();
    for source in out.iter_mut().filter(|source| tests.contains(&source.path)) {
        source.code.clear();
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(out.iter().any(|s| s.path == "src/lib.rs"), "the sources are not where they were");
    out
}

/// `text` with comments and the contents of literals blanked; lines stay where they are.
fn code_of(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = match rest[0] {
            b'/' if rest.starts_with(b"//") => line_end(rest),
            b'/' if rest.starts_with(b"/*") => find(rest, b"*/").map_or(rest.len(), |n| n + 2),
            b'r' if !word_before(&out) && raw_hashes(&rest[1..]).is_some() => {
                let close = format!("\"{}", "#".repeat(raw_hashes(&rest[1..]).unwrap()));
                let body = 1 + close.len();
                body + find(&rest[body..], close.as_bytes()).unwrap_or(0) + close.len()
            }
            b'"' => literal_end(rest, b'"'),
            // a lifetime has no closing quote
            b'\'' if rest.get(1) == Some(&b'\\') || char_literal(rest) => literal_end(rest, b'\''),
            byte => {
                out.push(byte);
                at += 1;
                continue;
            }
        };
        out.extend(rest[..end].iter().map(|&b| if b == b'\n' { b'\n' } else { b' ' }));
        at += end;
    }
    String::from_utf8(out).unwrap()
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn line_end(text: &[u8]) -> usize {
    find(text, b"\n").unwrap_or(text.len())
}

fn word_before(out: &[u8]) -> bool {
    out.last().is_some_and(|b| (b.is_ascii_alphanumeric() && *b != b'b') || *b == b'_')
}

/// The hashes of a raw string whose `r` was just read.
fn raw_hashes(text: &[u8]) -> Option<usize> {
    let hashes = text.iter().take_while(|&&b| b == b'#').count();
    (text.get(hashes) == Some(&b'"')).then_some(hashes)
}

fn literal_end(text: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < text.len() && text[at] != quote {
        at += if text[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(text.len())
}

fn char_literal(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&text[1..text.len().min(8)]).into_owned();
    text.chars().nth(1) == Some('\'')
}

/// Up to the tests at the end of the file.
fn without_tests(code: &str) -> &str {
    let tests = code.match_indices("\n#[cfg(test)]\nmod ").find(|(at, _)| {
        let name = code[at + 1..].lines().nth(1);
        name.is_some_and(|line| line.ends_with('{'))
    });
    tests.map_or(code, |(at, _)| &code[..=at])
}

/// The files that `source` declares as its tests, relative to the repository.
fn test_files(source: &Source) -> Vec<String> {
    let dir = source.path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
    let lines: Vec<&str> = source.code.lines().collect();
    let pairs = lines.windows(2).filter(|pair| pair[0] == "#[cfg(test)]");
    let names = pairs.filter_map(|pair| pair[1].strip_prefix("mod ")?.strip_suffix(';'));
    names.map(|name| format!("{dir}/{name}.rs")).collect()
}

/// True where `word` stands in `line` as a word of its own.
pub(crate) fn says(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(part)
            && !line[at + word.len()..].chars().next().is_some_and(part)
    })
}

#[test]
fn the_reader_of_sources_sees_what_it_should() {
    let text = "use crate::{otlp::Signal, route, rpc::{Code, frame::*}};\n\
                let a = \"crate::x\"; // crate::y\nlet b = 'c'; fn f<'a>(r: &'a str) {}\n\
                let r = r#\"unsafe \" \"#; crate::time::nanos(1)\n\
                #[cfg(test)]\nmod tests {\nuse crate::testing; }\n";
    let code = without_tests(&code_of(text)).to_owned();
    let source = Source { path: "src/upstream/x.rs".into(), text: text.into(), code };
    let paths: Vec<String> = source.paths().iter().map(|(_, p)| p.join("::")).collect();
    let want = [
        "crate::otlp::Signal",
        "crate::route",
        "crate::rpc::Code",
        "crate::rpc::frame",
        "crate::time::nanos",
    ];
    assert_eq!(paths, want);
    assert!(!source.code.contains("unsafe") && source.code.contains("&'a str"));
    assert_eq!(source.room(), Some("upstream"));
    assert!(says("x unsafe {", "unsafe") && !says("unsafe_code", "unsafe"));
}
