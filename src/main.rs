//! Arguments → configuration → roles → cores → exit code.

use std::process::ExitCode;

use tracemill::cli::{self, Command};

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Command::Inspect(inspection) => cli::inspect(&inspection),
        Command::Demo { .. } | Command::Run(_) => ExitCode::FAILURE,
    }
}
