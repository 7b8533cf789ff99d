//! SIGTERM, and starts that fail.

use std::cell::Cell;

use super::client::Answer;
use super::process::Process;
use super::world::{Setup, World};
use super::{run, until};

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
