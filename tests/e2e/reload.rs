//! A configuration that changes while requests come: nothing is lost, and what cannot be had
//! changes nothing.

use std::collections::BTreeSet;

use super::backend::{Backend, Behaviour, taken};
use super::client::{Client, Export, SpanKey, TRACES, frame, new_trace, request};
use super::process::Process;
use super::world::yaml;
use super::{refused, run, until};

const ENGINE: &str = "{cores: 2, pin: false, spin: 0s, memory_limit_mib: 200}";
const RUNS: &str = "The new configuration runs";
const DONE: &str = "The configuration before has delivered everything";

fn to(backend: &Backend, exporter: &str) -> String {
    let exporter = format!(
        "  otlp_grpc:
    endpoint: {}
    compression: none
    tls: {{insecure: true}}
    retry_on_failure: {{initial_interval: 20ms, max_interval: 100ms}}
    {exporter}",
        backend.endpoint()
    );
    yaml(&exporter, &[("traces", "otlp_grpc")], ENGINE)
}

/// Sends one request on a connection of its own.
async fn export(process: &Process, traces: &[[u8; 16]]) -> Export {
    let client = Client::connect(&process.address("Starting GRPC server")).await;
    let export = Export::of(traces);
    let answer = client.call(request(TRACES, &[]), frame(0, &export.message)).await;
    assert!(answer.is_ok(), "{answer:?}\n{}", process.log());
    export
}

fn spans(exports: &[Export]) -> BTreeSet<SpanKey> {
    exports.iter().flat_map(|export| &export.spans).copied().collect()
}

#[test]
fn sighup_goes_over_to_another_exporter_without_losing_a_request() {
    run(async {
        let (a, b) = (Backend::new(None).await, Backend::new(None).await);
        a.start().await;
        b.start().await;
        let process = Process::start(&to(&a, "")).await;
        // In flight while it changes: GOAWAY lets it end.
        a.behave(Behaviour::Hold);
        let (one, another) = ([new_trace()], [new_trace()]);
        let change = async {
            until("it is under way", || !a.calls().is_empty()).await;
            process.write(&to(&b, ""));
            process.hang_up();
            until("the new one runs", || process.log().contains(RUNS)).await;
            a.behave(Behaviour::Ok);
        };
        let (first, ()) = tokio::join!(export(&process, &one), change);
        let mut sent = vec![first, export(&process, &another).await];
        sent.push(export(&process, &[new_trace()]).await);
        until("all have arrived", || taken(&[&a, &b]) == spans(&sent)).await;
        assert!(a.taken() > 0 && b.taken() > 0);
        until("the old one has ended", || process.log().contains(DONE)).await;
    });
}

#[test]
fn what_waits_for_a_dead_backend_is_delivered_by_the_old_configuration() {
    run(async {
        let (a, b) = (Backend::new(None).await, Backend::new(None).await);
        b.start().await;
        let process = Process::start(&to(&a, "")).await;
        let before = export(&process, &[new_trace()]).await;
        process.write(&to(&b, ""));
        process.hang_up();
        until("the new one runs", || process.log().contains(RUNS)).await;
        let after = export(&process, &[new_trace()]).await;
        until("the new backend has its own", || {
            taken(&[&b]) == spans(std::slice::from_ref(&after))
        })
        .await;
        a.start().await;
        until("the old backend has its own", || {
            taken(&[&a]) == spans(std::slice::from_ref(&before))
        })
        .await;
        until("the old one has ended", || process.log().contains(DONE)).await;
    });
}

#[test]
fn a_configuration_that_is_wrong_is_refused_and_the_old_one_runs_on() {
    run(async {
        let a = Backend::new(None).await;
        a.start().await;
        let process = Process::start(&to(&a, "")).await;
        for (wrong, why) in [
            (to(&a, "comprssion: none"), "unknown key \"comprssion\""),
            (to(&a, "").replace("cores: 2", "cores: 1"), "cannot change without a restart"),
            (to(&a, "").replacen("127.0.0.1:0", "203.0.113.1:1", 1), "listen tcp 203.0.113.1:1"),
        ] {
            process.write(&wrong);
            process.hang_up();
            until(why, || process.log().contains(why)).await;
            export(&process, &[new_trace()]).await;
        }
        process.write(&to(&a, ""));
        process.hang_up();
        until("it is seen", || process.log().contains("The configuration has not changed")).await;
        until("all have arrived", || a.taken() == 6).await;
    });
}

/// Two free ports; whoever binds them next has them.
fn ports() -> [String; 2] {
    let held = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    held.map(|socket| socket.local_addr().unwrap().to_string())
}

#[test]
fn a_port_that_is_left_is_closed_at_once_and_can_be_gone_back_to() {
    run(async {
        let (a, [one, other]) = (Backend::new(None).await, ports());
        let at = |port: &str| to(&a, "").replacen("127.0.0.1:0", port, 1);
        let process = Process::start(&at(&one)).await;
        // The old configuration owns this as long as its backend is down.
        let waits = export(&process, &[new_trace()]).await;
        for (round, (next, left)) in [(&other, &one), (&one, &other)].into_iter().enumerate() {
            process.write(&at(next));
            process.hang_up();
            until("it runs", || process.log().matches(RUNS).count() == round + 1).await;
            refused(left).await;
            Client::connect(next).await;
        }
        a.start().await;
        let waits = spans(&[waits]);
        until("what waited is delivered", || taken(&[&a]) == waits).await;
    });
}

fn sampler(store: &Backend, percentage: u32, wait: &str) -> String {
    to(store, "")
        .replace(
            "exporters:\n",
            &format!(
                "processors:
  tail_sampling:
    decision_wait: {wait}
    policies:
      - {{name: some, type: probabilistic, probabilistic: {{sampling_percentage: {percentage}}}}}
exporters:
"
            ),
        )
        .replace("receivers: [otlp], exp", "receivers: [otlp], processors: [tail_sampling], exp")
}

#[test]
fn a_trace_is_decided_by_the_configuration_that_its_first_span_met() {
    run(async {
        let store = Backend::new(None).await;
        store.start().await;
        let process = Process::start(&sampler(&store, 100, "3s")).await;
        let old: Vec<_> = std::iter::repeat_with(new_trace).take(20).collect();
        let mut sent = vec![export(&process, &old).await];
        process.write(&sampler(&store, 0, "1s"));
        process.hang_up();
        until("the new one runs", || process.log().contains(RUNS)).await;
        sent.push(export(&process, &old).await);
        let new: Vec<_> = std::iter::repeat_with(new_trace).take(20).collect();
        export(&process, &new).await;
        until("the old one has ended", || process.log().contains(DONE)).await;
        assert_eq!(taken(&[&store]), spans(&sent), "whole traces of the old one, none of the new");
    });
}

#[test]
fn a_sampler_whose_policies_stay_keeps_what_it_holds() {
    run(async {
        let (a, b) = (Backend::new(None).await, Backend::new(None).await);
        a.start().await;
        b.start().await;
        let process = Process::start(&sampler(&a, 100, "2s")).await;
        let mut sent = vec![export(&process, &[new_trace()]).await];
        process.write(&sampler(&b, 100, "2s"));
        process.hang_up();
        until("the old one has ended", || process.log().contains(DONE)).await;
        sent.push(export(&process, &[new_trace()]).await);
        until("all are kept", || taken(&[&b]) == spans(&sent)).await;
        assert_eq!(a.taken(), 0);
    });
}
