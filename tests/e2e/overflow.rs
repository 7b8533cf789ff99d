//! `sending_queue.block_on_overflow`, and a queue at the balancer's own level.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::backend::Behaviour;
use super::client::{Client, TRACES, frame, request};
use super::world::{Setup, World};
use super::{run, settle, until};

/// Longer than a request waits for room where nothing is said.
const LONG: Duration = Duration::from_millis(1500);
const BLOCKS: &str = "{queue_size: 1, num_consumers: 1, block_on_overflow: true}";

/// Runs `then` while a call that the first backend holds fills a queue of one.
async fn while_full(world: &World, client: &Client, then: impl Future<Output = ()>) {
    world.backends[0].behave(Behaviour::Hold);
    let first = world.send_ok(client, world.for_one(0));
    let rest = async {
        until("its queue is full", || world.backends[0].calls().len() == 1).await;
        then.await;
    };
    tokio::join!(first, rest);
}

#[test]
fn requests_wait_for_room_as_long_as_their_clients_where_the_queue_says_so() {
    run(async {
        let world = World::start(Setup { sending_queue: BLOCKS, ..Setup::default() }).await;
        let client = world.client().await;
        let rest = async {
            let all = world.send_ok(&client, world.for_one(0));
            let part = world.send_ok(&client, world.for_each(1));
            let late = async {
                let short = [("grpc-timeout", "200m")];
                let answer = world.send_with(&client, world.for_one(0), &short).await;
                assert_eq!(answer.status, Some(14), "{answer:?}");
            };
            let gone = async {
                let export = world.for_one(0);
                let call = client.call(request(TRACES, &[]), frame(0, &export.message));
                assert!(tokio::time::timeout(LONG / 5, call).await.is_err(), "it waits");
            };
            let release = async {
                let others = || world.backends[1..].iter().all(|b| b.taken() == 2);
                until("the others have theirs", others).await;
                tokio::time::sleep(LONG).await;
                world.backends[0].behave(Behaviour::Ok);
            };
            tokio::join!(all, part, late, gone, release);
        };
        while_full(&world, &client, rest).await;
        let metrics = world.judge_lossless().await;
        assert_eq!(world.backends[0].taken(), 6, "not what its client gave up");
        assert_eq!(metrics.sum("otelcol_receiver_refused_spans", &[]), 4);
        assert_eq!(metrics.sum("otelcol_exporter_enqueue_failed_spans", &[]), 4);
    });
}

#[test]
fn a_client_of_http_that_leaves_frees_what_waits() {
    run(async {
        let world = World::start(Setup { sending_queue: BLOCKS, ..Setup::default() }).await;
        let client = world.client().await;
        let rest = async {
            let body = world.for_one(0).message;
            let head = format!(
                "POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n\
                 content-length: {}\r\n\r\n",
                body.len()
            );
            let mut gone =
                TcpStream::connect(world.router.address("Starting HTTP server")).await.unwrap();
            gone.write_all(&[head.as_bytes(), &body].concat()).await.unwrap();
            tokio::time::sleep(LONG).await;
            drop(gone);
            settle("what waited is given up", async || {
                let metrics = world.router.scrape().await;
                (metrics.sum("otelcol_receiver_refused_spans", &[]) == 2).then_some(())
            })
            .await;
            world.backends[0].behave(Behaviour::Ok);
        };
        while_full(&world, &client, rest).await;
        world.judge_lossless().await;
        assert_eq!(world.backends[0].taken(), 2);
    });
}

#[test]
fn what_could_never_fit_is_not_waited_for() {
    run(async {
        let sending_queue = "{queue_size: 3, sizer: items, block_on_overflow: true}";
        let world = World::start(Setup { sending_queue, ..Setup::default() }).await;
        let client = world.client().await;
        let answer = world.send(&client, world.for_each(2)).await;
        assert_eq!(answer.status, Some(14), "{answer:?}");
        world.send_ok(&client, world.for_each(1)).await;
        world.judge_lossless().await;
    });
}

#[test]
fn the_queue_of_the_balancer_counts_requests_however_they_are_cut() {
    run(async {
        let own_queue = "{queue_size: 4}";
        let (sending_queue, down) = ("{enabled: false}", &[0, 1, 2]);
        let world =
            World::start(Setup { down, sending_queue, own_queue, ..Setup::default() }).await;
        let client = world.client().await;
        for _ in 0..4 {
            world.send_ok(&client, world.for_each(1)).await;
        }
        let answer = world.send(&client, world.for_each(1)).await;
        assert_eq!(answer.status, Some(14), "{answer:?}");
        let metrics = world.router.scrape().await;
        assert_eq!(metrics.sum("otelcol_exporter_queue_size", &[]), 4);
        assert_eq!(metrics.sum("otelcol_exporter_enqueue_failed_spans", &[]), 6);
        for backend in &world.backends {
            backend.start().await;
        }
        let metrics = world.judge_lossless().await;
        assert_eq!(metrics.sum("otelcol_exporter_queue_size", &[]), 0);
        assert_eq!(metrics.sum("otelcol_exporter_send_failed_spans", &[]), 0);
    });
}

#[test]
fn who_waits_before_the_queue_of_the_balancer_waits_longer_than_its_timeout() {
    run(async {
        let own_queue = concat!(
            "{queue_size: 1, num_consumers: 1, block_on_overflow: true}\n",
            "    timeout: 500ms"
        );
        let sending_queue = "{enabled: false}";
        let world = World::start(Setup { own_queue, sending_queue, ..Setup::default() }).await;
        let client = world.client().await;
        let second = async {
            let release = async {
                tokio::time::sleep(LONG).await;
                world.backends[0].behave(Behaviour::Ok);
            };
            tokio::join!(world.send_ok(&client, world.for_one(0)), release);
        };
        while_full(&world, &client, second).await;
        world.judge_lossless().await;
    });
}
