//! Clients that misbehave: each costs itself alone.

use std::io::Write as _;

use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::client::{Answer, Client, Export, METRICS, TRACES, frame, request};
use super::run;
use super::world::{Setup, World};

/// Bodies that are no request, each with a word about it.
fn malformed() -> Vec<(&'static str, Vec<u8>)> {
    let good = Export::new(2).message;
    let mut short_id = vec![0x0a, 23, 0x12, 21, 0x12, 19, 0x0a, 15];
    short_id.extend([7; 15]);
    short_id.extend([0x28, 1]);
    vec![
        ("cut off", good[..good.len() - 1].to_vec()),
        ("a resource of the wrong type", vec![0x08, 1]),
        ("a trace id of 15 bytes", short_id),
        ("a length beyond the end", vec![0x0a, 0x7f, 1]),
        ("an endless varint", vec![0xff; 16]),
        ("text", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ]
}

#[test]
fn malformed_bodies_are_internal_and_nothing_of_them_is_forwarded() {
    run(async {
        let world = World::start(Setup::default()).await;
        let client = world.client().await;
        for (what, body) in malformed() {
            let answer = client.call(request(TRACES, &[]), frame(0, &body)).await;
            assert_eq!(answer.status, Some(13), "{what}: {answer:?}");
            world.send_ok(&client, world.for_each(1)).await;
        }
        let metrics = world.judge_lossless().await;
        let sent = world.spans_where(Answer::is_ok) as u64;
        assert_eq!(metrics.items("offered"), sent);
        assert_eq!(world.backends.iter().map(|b| b.taken() as u64).sum::<u64>(), sent);
    });
}

#[test]
fn calls_that_are_not_in_order_are_refused_as_grpc_refuses_them() {
    run(async {
        let world = World::start(Setup::default()).await;
        let client = world.client().await;
        let good = Export::new(1).message;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&vec![0; 5 << 20]).unwrap();
        let bomb = gzip.finish().unwrap();
        let unknown = TRACES.replace("Export", "Import");
        let announced = Bytes::from_static(&[0, 0, 0x60, 0, 0]);
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], Bytes, u16, u32);
        let cases: &[Case<'_>] = &[
            (TRACES, &[], announced, 200, 8),
            (TRACES, &[("grpc-encoding", "gzip")], frame(1, &bomb), 200, 8),
            (TRACES, &[("grpc-encoding", "gzip")], frame(1, &good), 200, 13),
            (TRACES, &[("grpc-encoding", "lzma")], frame(1, &good), 200, 12),
            (TRACES, &[], frame(1, &good), 200, 13),
            (TRACES, &[], frame(7, &good), 200, 13),
            (TRACES, &[], Bytes::new(), 200, 13),
            (&unknown, &[], frame(0, &good), 200, 12),
            (METRICS, &[], frame(0, &good), 200, 12),
            ("/nonsense", &[], frame(0, &good), 200, 12),
            (TRACES, &[("content-type", "application/json")], frame(0, &good), 415, 3),
            (TRACES, &[("grpc-timeout", "soon")], frame(0, &good), 400, 13),
            (TRACES, &[("grpc-timeout", "0m")], frame(0, &good), 200, 4),
            (TRACES, &[("x-bin", "!!!")], frame(0, &good), 400, 13),
        ];
        for (path, headers, framed, http, status) in cases {
            let answer = client.call(request(path, headers), framed.clone()).await;
            let heard = (answer.http, answer.status);
            assert_eq!(heard, (*http, Some(*status)), "{path} {headers:?}: {answer:?}");
            if headers.contains(&("grpc-encoding", "lzma")) {
                let accepted = answer.headers["grpc-accept-encoding"].to_str().unwrap();
                assert!(accepted.contains("gzip") && accepted.contains("zstd"), "{accepted}");
            }
        }
        world.send_ok(&client, world.for_each(1)).await;
        let metrics = world.judge_lossless().await;
        assert_eq!(metrics.items("offered"), 6);
    });
}

#[test]
fn clients_that_reset_stall_and_send_garbage_cost_a_good_one_nothing() {
    run(async {
        let world = World::start(Setup::default()).await;
        let good = world.client().await;
        let bad = world.client().await;
        let address = world.router.address("Starting GRPC server");
        let mut stalled = Vec::new();
        let mut sockets = Vec::new();
        for _ in 0..10 {
            reset(&world, &bad).await;
            let (response, mut send) = bad.open(request(TRACES, &[])).await.unwrap();
            let export = Export::new(2);
            send.send_data(frame(0, &export.message).slice(..20), false).unwrap();
            world.note(export, Answer::default());
            stalled.push((response, send));
            for garbage in [&b"\x16\x03\x01\x02\x00hello"[..], b"GET / HTTP/1.1\r\n\r\n", b""] {
                let mut socket = TcpStream::connect(&address).await.unwrap();
                socket.write_all(garbage).await.unwrap();
                sockets.push(socket);
            }
            world.send_ok(&good, world.for_each(1)).await;
        }
        // Those who said nothing at all may still speak.
        let mut heard = Vec::new();
        let _ = sockets[0].read_to_end(&mut heard).await;
        // The connection of the bad client still serves good calls.
        world.send_ok(&bad, world.for_each(1)).await;
        world.judge_lossless().await;
        drop(stalled);
    });
}

/// A whole request whose client does not wait for the answer.
async fn reset(world: &World, client: &Client) {
    let export = Export::new(4);
    let (response, mut send) = client.open(request(TRACES, &[])).await.unwrap();
    send.send_data(frame(0, &export.message), true).unwrap();
    world.note(export, Answer::default());
    tokio::task::yield_now().await;
    send.send_reset(h2::Reason::CANCEL);
    drop(response);
}
