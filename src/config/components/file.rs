//! `file` exporter: the keys of the collector's v0.161.

use std::time::Duration;

use crate::config::plan::{ExporterKind, FileOptions, Format, Rotation};
use crate::config::read::{Absent, Block, Kind};

const NOT_YET: &str = "is not in this release";
/// `max_megabytes` when it is not given.
const MEGABYTES_MAX: u64 = 100;
const MODE_MAX: u32 = 0o777;
/// Level of zstd when none is given, and the highest that is worth its time.
const LEVEL: i32 = 3;
const LEVEL_MAX: i64 = 19;

/// Reads the exporter.
pub fn read(b: &mut Block<'_>) -> ExporterKind {
    let path = b.text("path", "");
    if path.is_empty() {
        b.error("path must be non-empty", "path: traces.json");
    }
    let formats = [("json", Format::Json), ("proto", Format::Proto)];
    let format = b.choice("format", formats[0].0, &formats, Format::Json);
    let append = b.flag("append", false);
    let rotation = b.optional("rotation", Absent::Off, rotation);
    if append && rotation.is_some() {
        let what = "append and rotation enabled at the same time is not supported";
        b.error_at("append", what, "leave it out: a file that rotates is always appended to");
    }
    let zstd_level = compression(b);
    let flush_interval = match b.duration("flush_interval", Duration::from_secs(1)) {
        Duration::ZERO => Duration::from_secs(1),
        interval => interval,
    };
    let directory_mode = directory_mode(b);
    group_by(b);
    b.refuse("encoding", &format!("an encoding extension {NOT_YET}"), "format: json");
    ExporterKind::File(FileOptions {
        path,
        format,
        append,
        rotation,
        zstd_level,
        flush_interval,
        directory_mode,
    })
}

fn rotation(b: &mut Block<'_>) -> Rotation {
    let megabytes = match b.unsigned("max_megabytes", MEGABYTES_MAX) {
        0 => MEGABYTES_MAX,
        megabytes => megabytes,
    };
    let days_max = b.unsigned("max_days", 0);
    let backups = b.unsigned("max_backups", 100);
    if b.unrecorded(|b| b.flag("localtime", false)) {
        let what = format!("localtime {NOT_YET}: files that were put aside are named in UTC");
        b.refuse_at("localtime", what, "leave it out");
    }
    Rotation {
        bytes_max: megabytes.saturating_mul(1 << 20),
        days_max,
        backups_max: usize::try_from(backups).unwrap_or(usize::MAX),
    }
}

/// `zstd`, message by message, or nothing. Whatever the level is, the library gets one of its own.
fn compression(b: &mut Block<'_>) -> Option<i32> {
    let zstd = b.choice("compression", "", &[("", false), ("zstd", true)], false);
    let level = b.block("compression_params", |b| b.signed("level", 0));
    let level = match level {
        0 => LEVEL,
        level => i32::try_from(level.clamp(1, LEVEL_MAX)).unwrap_or(LEVEL),
    };
    zstd.then_some(level)
}

/// `create_directory` with its permissions, which are octal text.
fn directory_mode(b: &mut Block<'_>) -> Option<u32> {
    let create = b.flag("create_directory", false);
    let text = b.text("directory_permissions", if create { "0755" } else { "" });
    let key = "directory_permissions";
    match u32::from_str_radix(if text.is_empty() { "0755" } else { &text }, 8) {
        _ if !create && !text.is_empty() => {
            b.error_at(key, "requires create_directory to be true", "create_directory: true");
            None
        }
        _ if !create => None,
        Ok(mode @ 0..=MODE_MAX) => Some(mode),
        Ok(_) => {
            b.error_at(
                key,
                "contains invalid bits for file access",
                "directory_permissions: \"0755\"",
            );
            None
        }
        Err(_) => {
            b.error_at(key, "must be octal text", "directory_permissions: \"0755\"");
            None
        }
    }
}

fn group_by(b: &mut Block<'_>) {
    let mut enabled = false;
    if b.has("group_by") {
        b.unrecorded(|b| {
            b.block("group_by", |b| {
                enabled = b.flag("enabled", false);
                b.ignore("resource_attribute", Kind::Text, "group_by is off");
                b.ignore("max_open_files", Kind::Int, "group_by is off");
            });
        });
    }
    if enabled {
        b.refuse_at(
            "group_by",
            format!("group_by {NOT_YET}"),
            "one exporter and pipeline per file",
        );
    }
}
