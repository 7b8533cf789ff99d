//! Backends that are dead, killed, hung, or refuse.

use std::cell::Cell;
use std::time::Duration;

use futures_util::future::join_all;
use tracemill::rpc::{Code, Status};

use super::backend::{Behaviour, Fate};
use super::client::{Answer, Export, new_trace};
use super::world::{Setup, World};
use super::{run, until};

#[test]
fn what_a_dead_backend_is_owed_is_owned_at_once_and_delivered_when_it_comes_up() {
    run(async {
        let world = World::start(Setup { down: &[0], ..Setup::default() }).await;
        let client = world.client().await;
        for _ in 0..20 {
            // ack_wait is a minute: these answers come because nobody listens.
            world.send_ok(&client, world.for_each(1)).await;
        }
        world.taken(1, 40).await;
        world.taken(2, 40).await;
        world.backends[0].start().await;
        world.judge_lossless().await;
        assert_eq!(world.backends[0].taken(), 40);
    });
}

#[test]
fn a_backend_killed_and_restarted_under_load_loses_nothing() {
    run(async {
        let world = World::start(Setup::default()).await;
        let stop = Cell::new(false);
        let faults = async {
            for round in 0..3 {
                until("more was answered", || world.answers() > round * 40 + 20).await;
                world.backends[0].kill().await;
                until("more was answered", || world.answers() > round * 40 + 40).await;
                world.backends[0].start().await;
            }
            stop.set(true);
        };
        tokio::join!(world.load(&stop), world.load(&stop), world.load(&stop), faults);
        world.judge_lossless().await;
        assert_eq!(world.answers_of(Some(0)), world.answers());
    });
}

#[test]
fn a_hung_backend_holds_up_nobody_for_longer_than_ack_wait() {
    run(async {
        let setup = Setup { ack_wait: "50ms", timeout: "300ms", ..Setup::default() };
        let world = World::start(setup).await;
        let client = world.client().await;
        world.backends[2].behave(Behaviour::Hold);
        for _ in 0..10 {
            // Each is answered although the hung backend answers nothing.
            world.send_ok(&client, world.for_each(1)).await;
        }
        assert_eq!(world.backends[2].taken(), 0);
        until("calls are given up", || world.backends[2].connections() > 1).await;
        world.backends[2].behave(Behaviour::Ok);
        world.judge_lossless().await;
    });
}

#[test]
fn every_retryable_code_is_retried_until_it_passes() {
    run(async {
        let world = World::start(Setup::default()).await;
        let client = world.client().await;
        let codes = [
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::Aborted,
            Code::OutOfRange,
            Code::Unavailable,
            Code::DataLoss,
        ];
        let mut statuses: Vec<_> = codes.map(|code| Status::new(code, "later")).into();
        let asked = Some(Duration::from_millis(30));
        for code in [Code::ResourceExhausted, Code::Unavailable] {
            statuses.push(Status { retry_after: asked, ..Status::new(code, "later") });
        }
        for status in statuses {
            let refused = world.backends[0].calls_of(Fate::Refused);
            world.backends[0].behave(Behaviour::Refuse(status));
            // Owned at once, since the backend will not have it now.
            world.send_ok(&client, world.for_each(1)).await;
            until("it is retried", || world.backends[0].calls_of(Fate::Refused) >= refused + 3)
                .await;
            world.backends[0].behave(Behaviour::Ok);
            world.settled().await;
        }
        world.judge_lossless().await;
    });
}

#[test]
fn a_permanent_code_reaches_the_client_and_costs_only_its_part() {
    run(async {
        let world = World::start(Setup::default()).await;
        let client = world.client().await;
        let codes = [
            Code::Unknown,
            Code::InvalidArgument,
            Code::NotFound,
            Code::AlreadyExists,
            Code::PermissionDenied,
            Code::ResourceExhausted,
            Code::FailedPrecondition,
            Code::Unimplemented,
            Code::Internal,
            Code::Unauthenticated,
        ];
        for (n, code) in codes.into_iter().enumerate() {
            world.backends[0].behave(Behaviour::Refuse(Status::new(code, "never")));
            let answer = world.send(&client, world.for_each(1)).await;
            assert_eq!(answer.status, Some(code as u32), "{answer:?}");
            assert!(answer.message.contains("never"), "{answer:?}");
            let metrics = world.judge().await;
            assert_eq!(
                metrics.sum("tracemill_exporter_failed_items", &[("reason", code.name())]),
                2,
                "{}",
                metrics.0
            );
            assert_eq!(metrics.items("failed"), 2 * (n as u64 + 1));
            assert_eq!(world.backends[0].calls().len(), n + 1, "it is not retried");
        }
        assert_eq!(world.backends[1].taken(), 2 * codes.len(), "other parts are delivered");
    });
}

#[test]
fn one_poisoned_request_among_merged_ones_costs_nobody_else() {
    run(async {
        let setup = Setup { backends: 1, merge: "{linger: 60s}", ..Setup::default() };
        let world = World::start(setup).await;
        let client = world.client().await;
        let poison = new_trace();
        world.backends[0].behave(Behaviour::Hold);
        let first = world.send_ok(&client, world.for_each(1));
        let rest = async {
            until("the first is under way", || world.backends[0].calls().len() == 1).await;
            let good = join_all((0..6).map(|_| world.send_ok(&client, world.for_each(1))));
            let bad = world.send(&client, Export::of(&[poison]));
            let release = async {
                super::settle("the router has the rest", async || {
                    let metrics = world.router.scrape().await;
                    (metrics.items("in_flight") == 16).then_some(())
                })
                .await;
                let status = Status::new(Code::InvalidArgument, "poison");
                world.backends[0].behave(Behaviour::Poison(poison, status));
            };
            tokio::join!(good, bad, release).1
        };
        let ((), bad) = tokio::join!(first, rest);
        assert_eq!(bad.status, Some(3), "{bad:?}");
        let metrics = world.judge().await;
        assert_eq!((metrics.items("failed"), world.missing()), (2, 0));
        assert_eq!(world.backends[0].calls()[1].spans.len(), 14, "they were merged");
    });
}

#[test]
fn a_full_queue_of_a_dead_backend_is_named_and_stops_nobody_else() {
    run(async {
        let setup = Setup { down: &[0], sending_queue: "{queue_size: 1}", ..Setup::default() };
        let world = World::start(setup).await;
        let client = world.client().await;
        world.send_ok(&client, world.for_one(0)).await;
        for _ in 0..5 {
            let export = world.for_each(2);
            let answer = world.send(&client, export.clone()).await;
            assert!(answer.is_ok(), "{answer:?}");
            let (rejected, why) = answer.rejected();
            assert_eq!(rejected, world.share(&export, 0));
            assert!(why.contains(&world.backends[0].endpoint()), "{why}");
            world.send_ok(&client, world.for_one(1)).await;
        }
        world.backends[0].start().await;
        world.judge_lossless().await;
        assert_eq!(world.backends[0].taken(), 2, "only what was owned");
    });
}

#[test]
fn a_backend_that_is_slow_and_has_a_full_queue_holds_up_nobody_elses_part() {
    run(async {
        let setup = Setup { sending_queue: "{queue_size: 1}", ..Setup::default() };
        let world = World::start(setup).await;
        let client = world.client().await;
        world.backends[0].behave(Behaviour::Hold);
        let first = world.send_ok(&client, world.for_one(0));
        let rest = async {
            until("its queue is full", || world.backends[0].calls().len() == 1).await;
            let answer = world.send(&client, world.for_each(1));
            let release = async {
                let others = || world.backends[1..].iter().all(|b| b.taken() == 2);
                until("the others have theirs", others).await;
                world.backends[0].behave(Behaviour::Ok);
            };
            tokio::join!(answer, release).0
        };
        let ((), answer) = tokio::join!(first, rest);
        assert!(answer.is_ok() && answer.rejected().0 == 0, "{answer:?}");
        world.judge_lossless().await;
    });
}

#[test]
fn when_every_queue_is_full_nothing_is_sent_and_the_client_is_asked_to_come_back() {
    run(async {
        let down = &[0, 1, 2];
        let setup = Setup { down, sending_queue: "{queue_size: 1}", ..Setup::default() };
        let world = World::start(setup).await;
        let client = world.client().await;
        world.send_ok(&client, world.for_each(1)).await;
        let refused = world.for_each(3);
        let answer = world.send_with(&client, refused.clone(), &[("grpc-timeout", "200m")]).await;
        assert_eq!(answer.status, Some(14), "{answer:?}");
        for trailer in ["grpc-status-details-bin", "google.rpc.retryinfo-bin"] {
            assert!(answer.headers.contains_key(trailer), "{answer:?}");
        }
        for backend in &world.backends {
            backend.start().await;
        }
        let metrics = world.judge_lossless().await;
        for counted in [
            "otelcol_receiver_refused_spans",
            "otelcol_exporter_enqueue_failed_spans",
            "otelcol_exporter_send_failed_spans",
        ] {
            assert_eq!(metrics.sum(counted, &[]), refused.spans.len() as u64, "{counted}");
        }
        let calls = world.backends.iter().flat_map(|b| b.calls());
        let sent: Vec<_> = calls.flat_map(|c| c.spans).collect();
        assert!(refused.spans.iter().all(|s| !sent.contains(s)), "a retry would duplicate it");
    });
}

#[test]
fn without_queue_and_retry_a_dead_backend_is_told_to_the_client() {
    run(async {
        let off = "{enabled: false}";
        let setup = Setup { down: &[0], sending_queue: off, retry: off, ..Setup::default() };
        let world = World::start(setup).await;
        let client = world.client().await;
        let answer = world.send(&client, world.for_each(1)).await;
        assert_eq!(answer.status, Some(14), "{answer:?}");
        world.send_ok(&client, world.for_one(1)).await;
        let metrics = world.judge().await;
        assert_eq!(metrics.items("failed"), 2);
        assert_eq!(world.backends[1].taken(), 4);
        assert_eq!(world.spans_where(Answer::is_ok), 2);
    });
}
