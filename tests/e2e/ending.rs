//! SIGTERM, and starts that fail.

use std::cell::Cell;

use super::client::{Answer, Client, Export, TRACES, frame, request};
use super::process::Process;
use super::world::{Setup, World, yaml};
use super::{refused, run, until};

#[test]
fn sigterm_under_load_loses_nothing_that_was_acknowledged() {
    run(async {
        let setup = Setup { cores: 2, drain_timeout: "10s", ..Setup::default() };
        let mut world = World::start(setup).await;
        let stop = Cell::new(false);
        let terminate = async {
            until("much was answered", || world.answers() > 60).await;
            world.router.terminate();
        };
        // Each ends when its connection does.
        let (a, b, c) = (world.load(&stop), world.load(&stop), world.load(&stop));
        tokio::join!(a, b, c, terminate);
        assert_eq!(world.router.ended().await, 0, "{}", world.router.log());
        assert_eq!(world.missing(), 0, "{}", world.router.log());
        assert_eq!(world.router.sum("Dropping data", "dropped_items"), 0);
        assert!(world.spans_where(Answer::is_ok) > 60);
    });
}

#[test]
fn sigterm_with_a_dead_backend_ends_in_time_and_says_what_is_lost() {
    run(async {
        let setup = Setup { down: &[0], drain_timeout: "1s", ..Setup::default() };
        let mut world = World::start(setup).await;
        let client = world.client().await;
        for _ in 0..10 {
            world.send_ok(&client, world.for_each(1)).await;
        }
        world.taken(1, 20).await;
        world.router.terminate();
        assert_eq!(world.router.ended().await, 0, "{}", world.router.log());
        assert_eq!(world.missing(), 20);
        let said = world.router.sum("Dropping data", "dropped_items");
        assert_eq!(said, 20, "{}", world.router.log());
        assert!(world.router.log().contains("Shutdown complete"));
    });
}

#[test]
fn sigterm_delivers_what_waits_for_a_backend_that_comes_back() {
    run(async {
        let mut world = World::start(Setup { down: &[0], ..Setup::default() }).await;
        let client = world.client().await;
        for _ in 0..10 {
            world.send_ok(&client, world.for_each(1)).await;
        }
        world.router.terminate();
        until("it drains", || world.router.log().contains("Starting shutdown")).await;
        world.backends[0].start().await;
        assert_eq!(world.router.ended().await, 0, "{}", world.router.log());
        assert_eq!(world.missing(), 0);
    });
}

#[test]
fn sigterm_closes_the_ports_at_once_and_delivers_behind_them() {
    run(async {
        let mut world = World::start(Setup { down: &[0], ..Setup::default() }).await;
        let client = world.client().await;
        world.send_ok(&client, world.for_each(1)).await;
        world.router.terminate();
        for port in ["Starting GRPC server", "Starting HTTP server"] {
            let address = world.router.address(port);
            refused(&address).await;
            drop(std::net::TcpListener::bind(&address).expect("free for another process"));
        }
        assert_eq!(world.router.scrape().await.items("in_flight"), 2, "it still delivers");
        world.backends[0].start().await;
        assert_eq!(world.router.ended().await, 0, "{}", world.router.log());
        assert_eq!(world.missing(), 0);
    });
}

#[test]
fn a_port_in_use_is_a_clear_error_and_exit_code_1() {
    run(async {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let yaml = Setup::default().yaml(&["127.0.0.1:1".to_owned()]);
        let receiver = yaml.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1);
        let metrics = yaml.replacen("port: 0", &format!("port: {port}"), 1);
        for yaml in [receiver, metrics] {
            let mut process = Process::spawn(&yaml);
            assert_eq!(process.ended().await, 1, "{}", process.log());
            let log = process.log();
            assert!(log.contains("in use") && log.contains(&port.to_string()), "{log}");
        }
    });
}

#[test]
fn warnings_of_a_process_that_starts_go_to_the_outputs_of_its_log() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.log");
        let logs = format!("logs: {{encoding: json, output_paths: [{}]}}", path.display());
        // An old name.
        let yaml = yaml("  logging: {verbosity: basic}", &[("traces", "logging")], ENGINE);
        let yaml = yaml.replace("  telemetry:\n", &format!("  telemetry:\n    {logs}\n"));
        let mut process = Process::spawn(&yaml);
        let written = || std::fs::read_to_string(&path).unwrap_or_default();
        until("it is ready", || written().contains("Everything is ready")).await;
        process.terminate();
        assert_eq!(process.ended().await, 0);
        assert_eq!(process.log(), "", "nothing goes around the log");
        let written = written();
        let warning = written.lines().find(|l| l.contains("old name of debug")).unwrap();
        let warning: serde_json::Value = serde_json::from_str(warning).unwrap();
        assert_eq!(warning["level"], "warn");
    });
}

const ENGINE: &str = "{cores: 2, pin: false, memory_limit_mib: 200}";

#[test]
fn sigterm_writes_to_the_file_what_was_acknowledged() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.json");
        let file = |id: &str, path: &str| {
            format!("  {id}: {{path: {path}, create_directory: true, flush_interval: 1h}}")
        };
        let exporters = [file("file", path.to_str().unwrap()), file("file/full", "/dev/full")];
        let pipelines = [("traces", "file, file/full")];
        let mut router = Process::start(&yaml(&exporters.join("\n"), &pipelines, ENGINE)).await;
        let client = Client::connect(&router.address("Starting GRPC server")).await;
        let exports: Vec<Export> = (0..50).map(|_| Export::new(3)).collect();
        for export in &exports {
            let answer = client.call(request(TRACES, &[]), frame(0, &export.message)).await;
            assert!(answer.is_ok(), "{answer:?}");
        }
        let metrics = router.scrape().await;
        for file in ["file", "file/full"] {
            assert_eq!(metrics.sum("tracemill_exporter_offered_items", &[("exporter", file)]), 300);
        }
        router.terminate();
        assert_eq!(router.ended().await, 0, "{}", router.log());
        let written = std::fs::read_to_string(&path).unwrap();
        assert_eq!(written.lines().count(), 50);
        for span in exports.iter().flat_map(|e| &e.spans) {
            let id: String = span.span.iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(written.matches(&format!("\"spanId\":\"{id}\"")).count(), 1);
        }
        assert_eq!(router.sum("No space left", "dropped_items"), 300, "{}", router.log());
    });
}

#[test]
fn a_file_that_cannot_be_opened_is_a_clear_error_and_exit_code_1() {
    run(async {
        let exporter = "  file: {path: /nowhere/a.json}";
        let mut process = Process::spawn(&yaml(exporter, &[("traces", "file")], ENGINE));
        assert_eq!(process.ended().await, 1, "{}", process.log());
        let want = "failed to start \"file\" exporter: open /nowhere/a.json: No such file";
        assert!(process.log().contains(want), "{}", process.log());
    });
}
