//! The hand-written framing against the `h2` crate, in both roles, through the real binary.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use h2::{client, server};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};

fn tool() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tracemill-load"));
    command.stdout(Stdio::piped());
    command
}

/// A sink that ends by itself, and its address.
fn sink(arguments: &[&str]) -> (Child, SocketAddr) {
    let mut child = tool()
        .args(["sink", "--listen", "127.0.0.1:0", "--json", "--for", "20s"])
        .args(arguments)
        .spawn()
        .unwrap();
    let mut line = String::new();
    // Unbuffered: the summary must stay in the pipe.
    let stdout = child.stdout.as_mut().unwrap();
    let mut byte = [0];
    while stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {
        line.push(char::from(byte[0]));
    }
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let address = said["listening"][0].as_str().unwrap().parse().unwrap();
    (child, address)
}

/// Ends it and gives its summary.
fn summary(mut child: Child) -> serde_json::Value {
    let ended = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(ended.success());
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut len = content.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(content);
    out
}

/// A gRPC body with one trace of `spans` spans.
fn body(trace: u8, spans: u8) -> Bytes {
    let spans: Vec<u8> = (1..=spans)
        .flat_map(|s| {
            let name = vec![b'n'; 100];
            let span = [field(1, &[trace; 16]), field(2, &[s; 8]), field(5, &name)].concat();
            field(2, &span)
        })
        .collect();
    let message = field(1, &field(2, &spans));
    let mut out = vec![0];
    out.extend_from_slice(&(message.len() as u32).to_be_bytes());
    out.extend_from_slice(&message);
    out.into()
}

fn export(address: SocketAddr) -> Request<()> {
    Request::post(format!(
        "http://{address}/opentelemetry.proto.collector.trace.v1.TraceService/Export"
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .body(())
    .unwrap()
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { tokio::time::timeout(Duration::from_secs(20), future).await.unwrap() })
}

async fn connect(builder: &client::Builder, address: SocketAddr) -> client::SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (send, connection) = builder.handshake(socket).await.unwrap();
    tokio::spawn(async move { connection.await.ok() });
    send
}

/// One call: HTTP status, message, trailers (or headers, if there was nothing else).
async fn call(
    send: &client::SendRequest<Bytes>,
    address: SocketAddr,
    body: Bytes,
) -> Result<(u16, Vec<u8>, HeaderMap), h2::Error> {
    let mut send = send.clone().ready().await?;
    let (reply, mut stream) = send.send_request(export(address), false)?;
    stream.send_data(body, true)?;
    let reply = reply.await?;
    let status = reply.status().as_u16();
    let headers = reply.headers().clone();
    let mut incoming = reply.into_body();
    let mut message = Vec::new();
    while let Some(chunk) = incoming.data().await {
        let chunk = chunk?;
        incoming.flow_control().release_capacity(chunk.len())?;
        message.extend_from_slice(&chunk);
    }
    let trailers = incoming.trailers().await?;
    Ok((status, message, trailers.unwrap_or(headers)))
}

#[test]
fn the_sink_answers_an_h2_client_and_counts_what_it_sent() {
    let (child, address) = sink(&["--spans-max", "1000000"]);
    block_on(async {
        let send = connect(&client::Builder::new(), address).await;
        for round in 0..3 {
            let calls: Vec<_> = (1..=50)
                .map(|trace| {
                    let send = send.clone();
                    tokio::spawn(async move { call(&send, address, body(trace, 200)).await })
                })
                .collect();
            for handle in calls {
                let (status, message, trailers) = handle.await.unwrap().unwrap();
                assert_eq!((status, &message[..]), (200, &[0; 5][..]), "{round}");
                assert_eq!(trailers["grpc-status"], "0");
            }
        }
    });
    let said = summary(child);
    assert_eq!(said["requests"], 150);
    assert_eq!(said["spans"], 150 * 200);
    assert_eq!(said["traces"], 50);
    assert_eq!(said["duplicate_spans"], 100 * 200);
    assert_eq!(said["split_traces"], 0);
}

#[test]
fn the_sink_waits_for_a_client_without_windows() {
    let (child, address) = sink(&[]);
    block_on(async {
        let mut builder = client::Builder::new();
        builder.initial_window_size(0).header_table_size(0);
        let socket = TcpStream::connect(address).await.unwrap();
        let (send, mut connection) = builder.handshake(socket).await.unwrap();
        let mut send = send;
        let (reply, mut stream) = send.send_request(export(address), false).unwrap();
        stream.send_data(body(1, 10), true).unwrap();
        tokio::select! {
            _ = &mut connection => panic!("connection ended"),
            _ = tokio::time::sleep(Duration::from_millis(100)) => {}
        }
        connection.set_initial_window_size(1000).unwrap();
        tokio::spawn(async move { connection.await.ok() });
        let mut incoming = reply.await.unwrap().into_body();
        assert_eq!(&incoming.data().await.unwrap().unwrap()[..], [0; 5]);
        assert_eq!(incoming.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
    assert_eq!(summary(child)["spans"], 10);
}

#[test]
fn the_sink_takes_large_header_blocks_and_bodies_beyond_its_windows() {
    let (child, address) = sink(&["--stream-window", "65535", "--connection-window", "65535"]);
    block_on(async {
        let send = connect(&client::Builder::new(), address).await;
        let mut send = send.ready().await.unwrap();
        let mut request = export(address);
        // More than one frame: CONTINUATION.
        let value = "v".repeat(40_000);
        request.headers_mut().insert("large", value.parse().unwrap());
        let (reply, mut stream) = send.send_request(request, false).unwrap();
        let bodies: Vec<u8> = body(1, 255).to_vec();
        assert!(bodies.len() > 30_000);
        stream.send_data(bodies.into(), true).unwrap();
        assert_eq!(reply.await.unwrap().status(), 200);
        for trace in 2..20 {
            let (.., trailers) = call(&send, address, body(trace, 255)).await.unwrap();
            assert_eq!(trailers["grpc-status"], "0");
        }
    });
    assert_eq!(summary(child)["spans"], 19 * 255);
}

#[test]
fn the_sink_plays_a_status_with_retry_info_and_refuses_what_is_no_message() {
    let (child, address) = sink(&["--status", "RESOURCE_EXHAUSTED", "--retry-info", "2s"]);
    let (other, plain) = sink(&[]);
    block_on(async {
        let send = connect(&client::Builder::new(), address).await;
        for _ in 0..2 {
            let (status, message, headers) = call(&send, address, body(1, 1)).await.unwrap();
            assert_eq!((status, message.len()), (200, 0));
            assert_eq!(headers["grpc-status"], "8");
            assert_eq!(headers["grpc-retry-pushback-ms"], "2000");
            assert!(headers.contains_key("grpc-status-details-bin"));
        }
        let send = connect(&client::Builder::new(), plain).await;
        for wrong in [&b""[..], &[0, 0, 0, 0, 9], &[1, 0, 0, 0, 1, 7], &[0, 0, 0, 0, 1, 0x0a]] {
            let (.., headers) = call(&send, plain, Bytes::from_static(wrong)).await.unwrap();
            assert_eq!(headers["grpc-status"], "13");
        }
    });
    assert_eq!(summary(child)["faulted_requests"], 2);
    assert_eq!(summary(other)["invalid_requests"], 4);
}

/// How the receiver made of h2 behaves.
#[derive(Clone, Copy)]
enum Receiver {
    Ok,
    /// A partial success that rejects three spans.
    Partial,
    /// Trailers-only.
    Status(&'static str),
    Reset,
    /// GOAWAY after this many calls per connection.
    GoAway(usize),
}

fn answer(respond: &mut server::SendResponse<Bytes>, receiver: Receiver) {
    let head = Response::builder().header("content-type", "application/grpc");
    match receiver {
        Receiver::Status(code) => {
            let head = head.header("grpc-status", code).header("grpc-message", "no, thanks");
            respond.send_response(head.body(()).unwrap(), true).unwrap();
        }
        Receiver::Reset => respond.send_reset(h2::Reason::CANCEL),
        Receiver::Ok | Receiver::Partial | Receiver::GoAway(_) => {
            let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
            let message: &[u8] = match receiver {
                Receiver::Partial => &[0, 0, 0, 0, 4, 0x0a, 2, 8, 3],
                _ => &[0; 5],
            };
            stream.send_data(Bytes::copy_from_slice(message), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            stream.send_trailers(trailers).unwrap();
        }
    }
}

/// Serves connections; checks that every body is one whole message.
async fn serve(listener: TcpListener, builder: server::Builder, receiver: Receiver) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let builder = builder.clone();
        tokio::spawn(async move {
            let mut connection = builder.handshake::<_, Bytes>(socket).await.unwrap();
            let mut calls = 0;
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                calls += 1;
                if matches!(receiver, Receiver::GoAway(n) if calls == n) {
                    connection.graceful_shutdown();
                }
                tokio::spawn(async move {
                    assert_eq!(request.headers()["content-type"], "application/grpc");
                    assert_eq!(request.headers()["grpc-timeout"], "10000m");
                    assert!(request.uri().path().ends_with("TraceService/Export"));
                    let mut body = Vec::new();
                    let mut incoming = request.into_body();
                    while let Some(Ok(chunk)) = incoming.data().await {
                        incoming.flow_control().release_capacity(chunk.len()).unwrap();
                        body.extend_from_slice(&chunk);
                    }
                    let len = u32::from_be_bytes(body[1..5].try_into().unwrap());
                    assert_eq!(len as usize, body.len() - 5);
                    answer(&mut respond, receiver);
                });
            }
        });
    }
}

/// Runs the generator against a receiver made of h2.
fn load(builder: server::Builder, receiver: Receiver, arguments: &[&str]) -> serde_json::Value {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let server = tokio::spawn(serve(listener, builder, receiver));
        let mut child = tool()
            .args(["run", "--endpoint", &endpoint, "--json", "--quiet"])
            .args(arguments)
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let text = tokio::task::spawn_blocking(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).last().unwrap()
        })
        .await
        .unwrap();
        child.wait().unwrap();
        assert!(!server.is_finished(), "the receiver panicked");
        serde_json::from_str(&text).unwrap()
    })
}

#[test]
fn an_h2_receiver_gets_every_request_whole_whatever_its_windows() {
    for (window, connection_window, frame) in
        [(65_535, 65_535, 16_384), (1_000, 70_000, 16_384), (1 << 20, 1 << 21, 1 << 18)]
    {
        let mut builder = server::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(connection_window);
        builder.max_frame_size(frame).max_concurrent_streams(3);
        let said = load(
            builder,
            Receiver::Ok,
            &["--requests", "100", "--connections", "2", "--streams", "8", "--max-frame"],
        );
        assert_eq!(said["whole_run"]["codes"]["OK"]["requests"], 100, "{window}: {said}");
        assert_eq!(said["whole_run"]["sent"], said["whole_run"]["ok"]);
    }
}

#[test]
fn the_generator_reads_every_kind_of_answer() {
    let arguments = ["--requests", "20", "--request-bytes", "8KiB"];
    let said = load(server::Builder::new(), Receiver::Partial, &arguments);
    assert_eq!(said["whole_run"]["partial_success"]["rejected_spans"], 60);
    let said = load(server::Builder::new(), Receiver::Status("14"), &arguments);
    assert_eq!(said["whole_run"]["codes"]["UNAVAILABLE"]["requests"], 20);
    assert_eq!(said["whole_run"]["reasons"]["UNAVAILABLE: no, thanks"], 20);
    let said = load(server::Builder::new(), Receiver::Reset, &arguments);
    assert_eq!(said["whole_run"]["codes"]["CANCELLED"]["requests"], 20);
}

#[test]
fn a_goaway_costs_no_request() {
    let said = load(server::Builder::new(), Receiver::GoAway(5), &["--requests", "40"]);
    assert_eq!(said["whole_run"]["codes"]["OK"]["requests"], 40, "{said}");
    assert!(said["whole_run"]["goaways"].as_u64().unwrap() >= 3, "{said}");
    assert_eq!(said["whole_run"]["connection_lost"]["requests"], 0);
}

#[test]
fn generator_and_sink_agree_through_the_relay() {
    for compression in ["none", "gzip", "zstd"] {
        for order in ["sdk", "collector"] {
            let (receiver, to) = sink(&["--spans-max", "1000000"]);
            let mut relay = tool()
                .args(["relay", "--listen", "127.0.0.1:0", "--to", &to.to_string()])
                .args(["--json", "--for", "20s"])
                .spawn()
                .unwrap();
            let mut line = String::new();
            BufReader::new(relay.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
            let said: serde_json::Value = serde_json::from_str(&line).unwrap();
            let endpoint = said["listening"][0].as_str().unwrap();
            let output = tool()
                .args(["run", "--endpoint", endpoint, "--requests", "200", "--connections", "3"])
                .args(["--order", order, "--compression", compression, "--json", "--quiet"])
                .output()
                .unwrap();
            let run: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            relay.kill().unwrap();
            relay.wait().unwrap();
            let got = summary(receiver);
            assert_eq!(run["whole_run"]["ok"]["requests"], 200);
            assert_eq!(run["whole_run"]["ok"]["spans"], got["spans"]);
            assert_eq!(got["duplicate_spans"], 0);
            assert_eq!(got["invalid_requests"], 0);
            assert_eq!(got["end_to_end"]["count"], 200);
        }
    }
}
