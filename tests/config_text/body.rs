//! The body of the fuzz target `config`.

use tracemill::config::{self, Machine, Request};

/// The loader on any text, which comes as an environment variable: it may refuse, with a reason
/// that can be shown, and never panics; what it accepts can be printed.
pub(crate) fn config(text: &str) {
    let request = Request { configs: vec!["env:TEXT".to_owned()], ..Request::default() };
    let machine = Machine {
        memory_bytes: 1 << 34,
        cgroup_bytes: None,
        instance_id: "00000000-0000-4000-8000-000000000000".to_owned(),
    };
    // Text that names files would have them read: the loader's only side effect.
    let text = text.replace("${file", "${env");
    let env = |name: &str| (name == "TEXT").then(|| text.clone());
    match config::load(&request, &env, &machine) {
        Ok(loaded) => assert!(!config::print_config(&loaded).is_empty()),
        Err(report) => assert!(!report.to_string().is_empty()),
    }
}
