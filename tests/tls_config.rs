//! TLS in configurations: the example, and what is said of files that are no good.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use tracemill::config::{self, Machine, Request, Severity};

fn machine() -> Machine {
    Machine { memory_bytes: 8 << 30, cgroup_bytes: None, instance_id: "i-1".into() }
}

/// A certificate and its key, as files of these names.
fn issue(dir: &Path, cert: &str, key: &str, expired: bool) {
    let pair = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    if expired {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    }
    fs::write(dir.join(cert), params.self_signed(&pair).unwrap().pem()).unwrap();
    fs::write(dir.join(key), pair.serialize_pem()).unwrap();
}

fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ca", "server", "client"] {
        issue(dir.path(), &format!("{name}.crt"), &format!("{name}.key"), false);
    }
    issue(dir.path(), "old.crt", "old.key", true);
    fs::write(dir.path().join("empty"), "").unwrap();
    dir
}

fn load(text: &str, dir: &Path) -> Result<config::Loaded, config::Report> {
    let request = Request { configs: vec![text.to_owned()], ..Request::default() };
    let dir = dir.to_str().unwrap().to_owned();
    config::load(&request, &|name| (name == "TLS_DIR").then(|| dir.clone()), &machine())
}

#[test]
fn the_tls_example_loads_without_a_warning() {
    let dir = files();
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "configs/tls.yaml"].iter().collect();
    let loaded = load(path.to_str().unwrap(), dir.path()).unwrap();
    assert!(loaded.notices.iter().all(|n| n.severity == Severity::Note), "{loaded:?}");
    let tls = loaded.plan.receivers[0].grpc.as_ref().unwrap().tls.as_ref().unwrap();
    assert!(tls.client_ca_reload);
}

#[test]
fn files_that_are_no_good_are_told_with_key_file_and_reason() {
    let dir = files();
    // Keys of a receiver's block, and what is said; `$` is the directory.
    let rows = [
        ("cert_file: $/none, key_file: $/server.key", "cert_file: $/none: No such file"),
        ("cert_file: $/server.crt, key_file: $/none", "key_file: $/none: No such file"),
        ("cert_file: $/empty, key_file: $/server.key", "cert_file: $/empty: holds no certificate"),
        ("cert_file: $/server.crt, key_file: $/empty", "key_file: $/empty: holds no private key"),
        (
            "cert_file: $/server.crt, key_file: $/client.key",
            "key_file: $/client.key: the private key",
        ),
        ("cert_file: $, key_file: $/server.key", "cert_file: $: Is a directory"),
        (
            "cert_file: $/server.crt, key_file: $/server.key, client_ca_file: $/none",
            "client_ca_file: $/none: No such file",
        ),
        (
            "cert_file: $/server.crt, key_file: $/server.key, client_ca_file: $/server.key",
            "client_ca_file: $/server.key: holds no certificate",
        ),
        ("cert_pem: x, key_file: $/server.key", "cert_pem: holds no certificate"),
        ("cert_file: $/old.crt, key_file: $/old.key", "warning: .*has expired"),
        ("cert_file: $/server.crt, key_file: $/server.key", ""),
    ];
    for (keys, want) in rows {
        let text = format!(
            "yaml:{{receivers: {{otlp: {{protocols: {{grpc: {{tls: {{{keys}}}}}}}}}}}, exporters: \
             {{nop: }}, service: {{pipelines: {{traces: {{receivers: [otlp], exporters: \
             [nop]}}}}}}}}"
        );
        let at = dir.path().to_str().unwrap();
        let (text, want) = (text.replace('$', at), want.replace('$', at));
        match load(&text, dir.path()) {
            Err(report) => {
                let said = report.to_string();
                assert!(!want.is_empty() && said.contains(&want), "{keys}: {said}");
            }
            Ok(loaded) => {
                let warnings = loaded.notices.iter().filter(|n| n.severity == Severity::Warning);
                let said: Vec<String> = warnings.map(ToString::to_string).collect();
                let want = want.strip_prefix("warning: .*");
                assert_eq!(said.len(), usize::from(want.is_some()), "{keys}: {said:?}");
                assert!(want.is_none_or(|want| said[0].contains(want)), "{keys}: {said:?}");
            }
        }
    }
}

#[test]
fn a_printed_configuration_hides_keys_that_stand_in_it() {
    let dir = files();
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap().replace('\n', "\\n");
    let (cert, key) = (read("client.crt"), read("client.key"));
    let text = format!(
        "yaml:{{receivers: {{otlp: {{protocols: {{grpc: }}}}}}, exporters: {{otlp_grpc: {{endpoint: \
         'b:4317', tls: {{cert_pem: \"{cert}\", key_pem: \"{key}\"}}}}}}, service: {{pipelines: \
         {{traces: {{receivers: [otlp], exporters: [otlp_grpc]}}}}}}}}"
    );
    let loaded = load(&text, dir.path()).unwrap();
    let printed = config::print_config(&loaded);
    assert!(printed.contains("key_pem: \"[REDACTED]\""), "{printed}");
    assert!(!printed.contains("PRIVATE") && !format!("{loaded:?}").contains("PRIVATE"));
}
