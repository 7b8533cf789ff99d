//! When nothing is broken: placement, merging, encodings, the limits that a backend sets.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;

use super::backend::{Behaviour, Fate};
use super::client::{Answer, Export, frame};
use super::world::{Setup, World};
use super::{run, until};

#[test]
fn spans_of_many_connections_reach_the_backends_that_the_ring_names() {
    run(async {
        let world = World::start(Setup { cores: 2, ..Setup::default() }).await;
        join_all((0..4).map(|_| async {
            let client = world.client().await;
            for _ in 0..20 {
                world.send_ok(&client, Export::new(8)).await;
            }
        }))
        .await;
        let metrics = world.judge_lossless().await;
        let spans = 4 * 20 * 8 * 2;
        assert_eq!(metrics.sum("otelcol_receiver_accepted_spans", &[]), spans);
        for what in ["offered", "sent"] {
            assert_eq!(metrics.items(what), spans);
        }
        assert_eq!(world.backends.iter().map(|b| b.taken() as u64).sum::<u64>(), spans);
    });
}

#[test]
fn an_answer_waits_for_every_backend() {
    run(async {
        let world = World::start(Setup::default()).await;
        let client = world.client().await;
        world.backends[1].behave(Behaviour::Hold);
        let held = world.send_ok(&client, world.for_each(1));
        let release = async {
            until("all have the call", || world.backends.iter().all(|b| b.calls().len() == 1))
                .await;
            world.send_ok(&client, world.for_one(0)).await;
            assert_eq!(world.answers(), 1, "only the request that touches no held backend");
            world.backends[1].behave(Behaviour::Ok);
        };
        tokio::join!(held, release);
        world.judge_lossless().await;
    });
}

#[test]
fn large_requests_whose_frames_mix_arrive_whole() {
    run(async {
        let world = World::start(Setup::default()).await;
        let client = world.client().await;
        for pieces in [&[16_384][..], &[900, 7000, 16_384, 1, 3000]] {
            let exports: Vec<_> = [700, 10, 1500, 400].map(Export::new).into();
            let framed = exports.iter().map(|export| frame(0, &export.message)).collect();
            let answers = client.call_mixed(framed, pieces).await;
            for (export, answer) in exports.into_iter().zip(answers) {
                assert!(answer.is_ok(), "{answer:?}");
                world.note(export, answer);
            }
        }
        world.judge_lossless().await;
    });
}

#[test]
fn a_backend_that_allows_one_stream_gets_one_call_at_a_time() {
    run(async {
        let setup = Setup { backends: 2, streams_max: Some(1), ..Setup::default() };
        let world = World::start(setup).await;
        world.backends[0].behave(Behaviour::Delay(Duration::from_millis(5)));
        let stop = Cell::new(false);
        let enough = async {
            until("much was answered", || world.answers() > 60).await;
            stop.set(true);
        };
        tokio::join!(world.load(&stop), world.load(&stop), world.load(&stop), enough);
        world.judge_lossless().await;
        assert_eq!(world.answers_of(Some(0)), world.answers());
        for backend in &world.backends {
            // Before the peer's settings are known HTTP/2 presumes more.
            let calls = backend.calls().len();
            assert!(backend.at_once_most() == 1, "{} of {calls}", backend.at_once_most());
        }
    });
}

#[test]
fn a_backend_that_says_goaway_loses_nothing() {
    run(async {
        let world = World::start(Setup::default()).await;
        let stop = Cell::new(false);
        let leave = async {
            for round in 1..=5 {
                until("more was answered", || world.answers() > round * 15).await;
                for backend in &world.backends {
                    backend.leave();
                }
            }
            stop.set(true);
        };
        tokio::join!(world.load(&stop), world.load(&stop), leave);
        world.judge_lossless().await;
        assert_eq!(world.answers_of(Some(0)), world.answers());
        assert!(world.backends.iter().all(|b| b.connections() > 1));
    });
}

#[test]
fn a_call_that_hangs_on_a_connection_that_ends_holds_up_no_other() {
    run(async {
        let world = World::start(Setup { backends: 1, ..Setup::default() }).await;
        let (client, backend) = (world.client().await, &world.backends[0]);
        backend.behave(Behaviour::HoldFirst);
        let hung = world.send_ok(&client, world.for_each(1));
        let rest = async {
            until("a call hangs", || backend.calls().len() == 1).await;
            backend.leave();
            // Some may leave before it is known; the timeout of the one that hangs is a minute.
            while backend.connections() == 1 {
                let before = backend.taken();
                world.send_ok(&client, world.for_each(1)).await;
                assert_eq!(backend.taken(), before + 2, "it is there when OK is said");
            }
            let metrics = world.router.scrape().await;
            let connections = metrics.sum("tracemill_exporter_connections", &[]);
            assert_eq!(connections, 2, "one that takes calls, one that ends");
            // It is answered where it was sent.
            backend.behave(Behaviour::Ok);
        };
        tokio::join!(hung, rest);
        world.judge_lossless().await;
        assert_eq!(backend.calls().len(), world.answers(), "nothing was sent twice");
    });
}

/// So long that what waits for its retry does not come in a test.
const RARELY: &str = "{initial_interval: 1h, max_interval: 1h, max_elapsed_time: 10h}";

#[test]
fn a_call_that_a_backend_has_not_processed_is_sent_again_at_once() {
    run(async {
        let world = World::start(Setup { backends: 1, retry: RARELY, ..Setup::default() }).await;
        let (client, backend) = (world.client().await, &world.backends[0]);
        for round in 1..=3 {
            backend.behave(Behaviour::DisownOnce);
            world.send_ok(&client, world.for_each(1)).await;
            assert_eq!(backend.calls_of(Fate::Taken), round, "it is there when OK is said");
        }
        let metrics = world.judge_lossless().await;
        assert_eq!((backend.calls_of(Fate::Refused), backend.connections()), (3, 1));
        assert_eq!(metrics.sum("tracemill_exporter_calls", &[]), 3, "{}", metrics.0);
        assert!(!world.router.log().contains("Exporting failed"), "{}", world.router.log());
    });
}

#[test]
fn a_backend_that_processes_nothing_is_not_asked_in_a_circle() {
    run(async {
        let world = World::start(Setup { backends: 1, retry: RARELY, ..Setup::default() }).await;
        let (client, backend) = (world.client().await, &world.backends[0]);
        backend.behave(Behaviour::Disown);
        world.send_ok(&client, world.for_each(1)).await;
        assert_eq!(backend.calls().len(), 2, "once more, and then it waits in the queue");
        backend.behave(Behaviour::Ok);
        world.send_ok(&client, world.for_each(1)).await;
        world.judge_lossless().await;
        assert_eq!(backend.calls().len(), 4, "another one's success brought it forward");
    });
}

#[test]
fn what_a_backend_rejects_in_part_is_counted_and_not_sent_again() {
    run(async {
        let world = World::start(Setup { backends: 1, ..Setup::default() }).await;
        let client = world.client().await;
        world.backends[0].behave(Behaviour::Partial(2));
        world.send_ok(&client, world.for_each(3)).await;
        let metrics = world.judge_lossless().await;
        assert_eq!(metrics.items("partial_success_rejected"), 2);
        assert_eq!(world.backends[0].calls().len(), 1);
        until("the log names it", || world.router.sum("Partial success", "dropped_items") == 2)
            .await;
    });
}

#[test]
fn parts_that_wait_for_a_backend_are_merged() {
    run(async {
        let setup =
            Setup { backends: 1, merge: "{linger: 60s}", compression: "gzip", ..Setup::default() };
        let world = World::start(setup).await;
        let client = world.client().await;
        world.backends[0].behave(Behaviour::Hold);
        let first = world.send_ok(&client, world.for_each(1));
        let rest = async {
            until("the first is under way", || world.backends[0].calls().len() == 1).await;
            let rest = join_all((0..6).map(|_| world.send_ok(&client, world.for_each(1))));
            tokio::join!(rest, async {
                super::settle("the router has the rest", async || {
                    let metrics = world.router.scrape().await;
                    (metrics.items("in_flight") == 14).then_some(())
                })
                .await;
                world.backends[0].behave(Behaviour::Ok);
            });
        };
        tokio::join!(first, rest);
        world.judge_lossless().await;
        let calls = world.backends[0].calls();
        assert_eq!(calls.iter().map(|c| c.spans.len()).collect::<Vec<_>>(), [2, 12]);
        assert!(calls.iter().all(|c| c.encoding == "gzip" && c.fate == Fate::Taken));
        assert!(calls.iter().all(|c| c.agent.starts_with("tracemill/")), "{}", calls[0].agent);
    });
}

#[test]
fn with_wait_for_result_or_without_a_queue_the_reply_waits_and_tells_the_truth() {
    let settings = [
        ("{wait_for_result: true}", Setup::default().retry),
        ("{enabled: false}", Setup::default().retry),
        ("{enabled: false}", "{enabled: false}"),
    ];
    for (sending_queue, retry) in settings {
        run(async {
            let setup = Setup { ack_wait: "10ms", sending_queue, retry, ..Setup::default() };
            let world = World::start(setup).await;
            let client = world.client().await;
            world.backends[1].behave(Behaviour::Hold);
            let held = world.send(&client, world.for_each(1));
            let look = async {
                until("the call is held", || world.backends[1].calls().len() == 1).await;
                // Fifteen times ack_wait.
                tokio::time::sleep(Duration::from_millis(150)).await;
                assert_eq!(world.answers(), 0, "it waits although ack_wait is over");
                let refusal = tracemill::rpc::Status::new(
                    tracemill::rpc::Code::FailedPrecondition,
                    "not today",
                );
                world.backends[1].behave(Behaviour::Refuse(refusal));
            };
            let (answer, ()) = tokio::join!(held, look);
            assert_eq!(answer.status, Some(9), "{answer:?}");
            assert!(answer.message.contains("not today"), "{answer:?}");
            world.backends[1].behave(Behaviour::Ok);
            world.send_ok(&client, world.for_each(1)).await;
            let metrics = world.judge().await;
            assert_eq!(metrics.items("failed"), 2);
            assert_eq!(metrics.sum("otelcol_receiver_refused_spans", &[]), 6);
            assert_eq!(world.spans_where(Answer::is_ok), 6);
        });
    }
}
