//! Arguments → configuration → roles → cores → exit code.

use std::process::ExitCode;

use tracemill::cli::{self, Command};
use tracemill::{adopt, control, demo, policy_test, replay};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Command::Inspect(inspection) => cli::inspect(&inspection),
        Command::Demo { duration, rate } => demo::run(demo::Options { duration, rate }),
        Command::Adopt(options) => adopt::run(&options),
        Command::Test(files) => policy_test::run(&files),
        Command::Replay(options) => match cli::load_unplugged(&options.config) {
            Ok(loaded) => replay::run(&loaded.plan, &options),
            Err(code) => code,
        },
        Command::Run(request) => match cli::load_to_run(&request) {
            Ok(loaded) => control::serve::run(loaded, &|| cli::read(&request)),
            Err(code) => code,
        },
    }
}
