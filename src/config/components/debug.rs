//! `debug` exporter, formerly `logging` (otlp 4.8).

use super::queue;
use crate::config::plan::{DebugOptions, ExporterKind, Verbosity};
use crate::config::read::{Block, Kind};

/// Reads the exporter.
pub fn read(b: &mut Block<'_>) -> ExporterKind {
    let verbosity = verbosity(b);
    let sampling_initial = b.signed("sampling_initial", 2);
    let sampling_thereafter = b.signed("sampling_thereafter", 1);
    let use_internal_logger = b.flag("use_internal_logger", true);
    let given = b.has("output_paths");
    let output_paths = match use_internal_logger {
        true if given => {
            let what = "stands only beside use_internal_logger: false";
            b.error_at("output_paths", what, "use_internal_logger: false");
            Vec::new()
        }
        true => Vec::new(),
        false => b.texts("output_paths", &["stdout"]),
    };
    if given && !use_internal_logger && output_paths.is_empty() {
        b.error_at("output_paths", "is empty", "output_paths: [stdout]");
    }
    queue::ignored(b);
    ExporterKind::Debug(DebugOptions {
        verbosity,
        sampling_initial: u64::try_from(sampling_initial).unwrap_or(0),
        sampling_thereafter: u64::try_from(sampling_thereafter).unwrap_or(0),
        use_internal_logger,
        output_paths,
    })
}

fn verbosity(b: &mut Block<'_>) -> Verbosity {
    let choices = [
        ("basic", Verbosity::Basic),
        ("normal", Verbosity::Normal),
        ("detailed", Verbosity::Detailed),
    ];
    let old = old_loglevel(b);
    b.choice_any_case("verbosity", old.unwrap_or("basic"), &choices, Verbosity::Basic)
}

/// Old form: `loglevel` became `verbosity` (configs 5).
fn old_loglevel(b: &mut Block<'_>) -> Option<&'static str> {
    if !b.has("loglevel") {
        return None;
    }
    let level = b.unrecorded(|b| b.text("loglevel", "info"));
    let new = match level.to_ascii_lowercase().as_str() {
        "debug" => "detailed",
        "info" => "normal",
        _ => "basic",
    };
    b.warn_at("loglevel", "old form, refused by today's collector", &format!("verbosity: {new}"));
    Some(new)
}

/// `nop` has no keys.
pub fn nop(b: &mut Block<'_>) -> ExporterKind {
    b.ignore("sending_queue", Kind::Any, "nop answers at once");
    ExporterKind::Nop
}
