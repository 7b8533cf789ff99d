//! The OTLP/HTTP server over real sockets: what the collector answers (recorded by hand from
//! v0.161.0), and what it does to a connection.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::cell::Cell;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tracemill::net::Stream;
use tracemill::rpc::http_server::{HttpServer, serve};
use tracemill::rpc::service::{Call, Service, Transport};
use tracemill::rpc::{Code, Codec, Cors, HttpServerOptions, Status};
use tracemill::runtime::drain::Drain;
use tracemill::runtime::executor::{Seat, spawn};
use tracemill::runtime::lease::{Lease, Limit, Purse};
use tracemill::runtime::preflight;

/// Largest body of the server under test.
const BODY_BYTES_MAX: usize = 600_000;

/// Answers with the message itself; some messages are failures. Metrics are not served.
struct Echo {
    drain: Drain,
    memory: Purse,
}

impl Service for Echo {
    fn method(&self, path: &str) -> Option<usize> {
        let served = ["trace.v1.TraceService/Export", "logs.v1.LogsService/Export"];
        served.iter().position(|s| path.ends_with(s))
    }

    fn has_service(&self, _name: &str) -> bool {
        true
    }

    fn of_json(&self, _method: usize, text: &[u8]) -> Result<Vec<u8>, String> {
        let text = text.strip_prefix(b"{").and_then(|text| text.strip_suffix(b"}"));
        text.map(<[u8]>::to_vec).ok_or_else(|| "no object".to_owned())
    }

    fn to_json(&self, _method: usize, reply: &[u8]) -> Vec<u8> {
        [b"{", reply, b"}"].concat()
    }

    async fn call(&self, mut call: Call) -> Result<Bytes, Status> {
        assert_eq!(call.transport, Transport::Http);
        match &call.message.whole()[..] {
            b"malformed" => Err(Status::new(Code::InvalidArgument, "unexpected EOF")),
            b"busy" => Err(Status::unavailable("too much", Duration::from_millis(1500))),
            b"full" => Err(Status::new(Code::Unavailable, "sending queue is full")),
            b"exhausted" => Err(Status::new(Code::ResourceExhausted, "")),
            b"internal" => Err(Status::new(Code::Internal, "boom")),
            b"drain" => {
                self.drain.call();
                Ok(call.message.region().clone())
            }
            b"which" => Ok(call.method.to_string().into()),
            _ => {
                let held = call.charge.as_ref().map_or(0, tracemill::runtime::lease::Charge::units);
                assert_eq!(held, self.memory.used(), "only this call is charged");
                Ok(call.message.region().clone())
            }
        }
    }
}

/// A connection to a server of its own, or nothing (said loudly) where io_uring is forbidden.
fn connect(memory_bytes_max: u64) -> Option<(TcpStream, JoinHandle<Result<(), String>>)> {
    connect_to(memory_bytes_max, HttpServerOptions::default())
}

/// The same to a server with other options.
fn connect_to(
    memory_bytes_max: u64,
    options: HttpServerOptions,
) -> Option<(TcpStream, JoinHandle<Result<(), String>>)> {
    if let Err(refusal) = preflight::check() {
        eprintln!("SKIPPED, nothing was tested: {refusal}");
        return None;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (accepted, _) = listener.accept().unwrap();
    let seat = Seat { name: "http".into(), cpu: None, spin: Duration::ZERO };
    let core = spawn(seat, move || async move {
        let memory = Purse::new(Lease::new(Limit::new(memory_bytes_max), 1));
        let drain = Drain::default();
        let server = Rc::new(HttpServer {
            service: Echo { drain: drain.clone(), memory: memory.clone() },
            options: HttpServerOptions { body_bytes_max: BODY_BYTES_MAX, ..options },
            memory: memory.clone(),
            drain,
            connections: Rc::new(Cell::new(0)),
        });
        // What a peer did wrong is in the answers that the tests look at.
        let _ = serve(Stream::adopt(accepted).unwrap(), Rc::clone(&server)).await;
        assert_eq!(server.connections.get(), 0);
        assert_eq!(memory.used(), 0, "everything was given back");
    })
    .unwrap();
    Some((client, core))
}

/// One answer, read to the end of its body.
#[derive(Debug)]
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

fn read_answer(client: &mut TcpStream) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(read_byte(client).unwrap().expect("no end before the answer"));
    }
    let mut answer = Answer { head: String::from_utf8(head).unwrap(), body: Vec::new() };
    let len = answer.header("content-length").map_or(0, |v| v.parse().unwrap());
    answer.body.resize(len, 0);
    client.read_exact(&mut answer.body).unwrap();
    answer
}

/// `None` at the end of the stream.
fn read_byte(client: &mut TcpStream) -> io::Result<Option<u8>> {
    let mut byte = [0];
    loop {
        match client.read(&mut byte) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            read => return read.map(|n| (n == 1).then_some(byte[0])),
        }
    }
}

fn is_closed(client: &mut TcpStream) -> bool {
    matches!(read_byte(client), Ok(None))
}

fn post(headers: &str, body: &[u8]) -> Vec<u8> {
    request("POST /v1/traces", headers, body)
}

fn request(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let len = body.len();
    let mut out = format!("{line} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len}\r\n\r\n")
        .into_bytes();
    out.extend_from_slice(body);
    out
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = b"POST /v1/traces HTTP/1.1\r\nHost: x\r\n".to_vec();
    out.extend_from_slice(PROTOBUF.as_bytes());
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
    for chunk in body.chunks(70_000) {
        out.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        out.extend_from_slice(chunk);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

fn packed(codec: Codec, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    codec.deflate(body, None, &mut out);
    out
}

const PROTOBUF: &str = "Content-Type: application/x-protobuf\r\n";

fn encoded(name: &str) -> String {
    format!("{PROTOBUF}Content-Encoding: {name}\r\n")
}

/// `google.rpc.Status{code, message}`.
fn status(code: Code, message: &str) -> Vec<u8> {
    Status::new(code, message.to_owned()).body()
}

/// Name, request, status and body of the answer.
type Case = (&'static str, Vec<u8>, u16, Vec<u8>);

const TYPE_TEXT: &str = "Content-Type: text/plain\r\n";
const TYPE_JSON: &str = "Content-Type: application/json\r\n";

fn json_encoded(name: &str) -> String {
    format!("{TYPE_JSON}Content-Encoding: {name}\r\n")
}

fn large() -> Vec<u8> {
    (0..500_000u32).flat_map(|i| i.to_le_bytes()).take(500_000).collect()
}

#[rustfmt::skip]
fn taken() -> Vec<Case> {
    let (large, json) = (large(), TYPE_JSON);
    vec![
        ("plain", post(PROTOBUF, b"hello"), 200, b"hello".to_vec()),
        ("empty", post(PROTOBUF, b""), 200, vec![]),
        ("large", post(PROTOBUF, &large), 200, large.clone()),
        ("chunked", chunked(b"hello"), 200, b"hello".to_vec()),
        ("large chunked", chunked(&large), 200, large.clone()),
        ("gzip", post(&encoded("gzip"), &packed(Codec::Gzip, b"hello")), 200, b"hello".to_vec()),
        ("large gzip", post(&encoded("gzip"), &packed(Codec::Gzip, &large)), 200, large.clone()),
        ("zstd", post(&encoded("zstd"), &packed(Codec::Zstd, &large)), 200, large.clone()),
        ("snappy frames", post(&encoded("x-snappy-framed"), &packed(Codec::Snappy, &large)), 200, large.clone()),
        ("snappy block", post(&encoded("snappy"), &packed(Codec::SnappyBlock, &large)), 200, large.clone()),
        ("snappy block in frames", post(&encoded("snappy"), &packed(Codec::Snappy, &large)), 200, large.clone()),
        ("zlib", post(&encoded("zlib"), &packed(Codec::Zlib, &large)), 200, large.clone()),
        ("deflate", post(&encoded("deflate"), &packed(Codec::Deflate, &large)), 200, large.clone()),
        ("lz4", post(&encoded("lz4"), &packed(Codec::Lz4, &large)), 200, large.clone()),
        ("no encoding by name", post(&encoded(""), b"hello"), 200, b"hello".to_vec()),
        ("type with parameters", post("content-type: Application/X-Protobuf; a=b\r\n", b"hello"), 200, b"hello".to_vec()),
        ("query", request("POST /v1/traces?a=b", PROTOBUF, b"which"), 200, b"0".to_vec()),
        ("percent", request("POST /v1/lo%67s", PROTOBUF, b"which"), 200, b"1".to_vec()),
        ("json", post(json, b"{hello}"), 200, b"{hello}".to_vec()),
        ("json of a charset", post("Content-Type: application/json; charset=utf-8\r\n", b"{a}"), 200, b"{a}".to_vec()),
        ("large json", post(json, &[b"{", &large[..], b"}"].concat()), 200, [b"{", &large[..], b"}"].concat()),
        ("json gzip", post(&json_encoded("gzip"), &packed(Codec::Gzip, b"{hello}")), 200, b"{hello}".to_vec()),
    ]
}

#[rustfmt::skip]
fn refused() -> Vec<Case> {
    let (large, text, json) = (large(), TYPE_TEXT, TYPE_JSON);
    let invalid = |text| status(Code::InvalidArgument, text);
    let unsupported = r#"{"code":3,"message":"unsupported Content-Encoding: br"}"#;
    let unspoken =
        b"415 unsupported media type, supported: [application/json, application/x-protobuf]".to_vec();
    let not_allowed = b"405 method not allowed, supported: [POST]".to_vec();
    let missing = b"404 page not found\n".to_vec();
    vec![
        ("snappy frames in a block", post(&encoded("x-snappy-framed"), &packed(Codec::SnappyBlock, &large)), 400, invalid("message is not in its declared encoding, x-snappy-framed")),
        ("br", post(&encoded("br"), b""), 400, invalid("unsupported Content-Encoding: br")),
        ("identity", post(&encoded("identity"), b""), 400, invalid("unsupported Content-Encoding: identity")),
        ("upper case", post(&encoded("GZIP"), b""), 400, invalid("unsupported Content-Encoding: GZIP")),
        ("list", post(&encoded("gzip, gzip"), b""), 400, invalid("unsupported Content-Encoding: gzip, gzip")),
        ("br before path", request("POST /x", &encoded("br"), b""), 400, invalid("unsupported Content-Encoding: br")),
        ("br json", post(&format!("{json}Content-Encoding: br\r\n"), b"{}"), 400, unsupported.into()),
        ("br untyped", post("Content-Encoding: br\r\n", b"{}"), 400, unsupported.into()),
        ("br text", post(&format!("{text}Content-Encoding: br\r\n"), b""), 500, br#"{"code": 13, "message": "failed to marshal error message"}"#.to_vec()),
        ("not gzip", post(&encoded("gzip"), b"abc"), 400, invalid("message is not in its declared encoding, gzip")),
        ("cut gzip", post(&encoded("gzip"), &packed(Codec::Gzip, &large)[..90_000]), 400, invalid("message is not in its declared encoding, gzip")),
        ("bomb", post(&encoded("gzip"), &packed(Codec::Gzip, &vec![0; BODY_BYTES_MAX + 1])), 400, invalid("http: request body too large")),
        ("malformed", post(PROTOBUF, b"malformed"), 400, invalid("unexpected EOF")),
        ("full", post(PROTOBUF, b"full"), 503, status(Code::Unavailable, "sending queue is full")),
        ("exhausted", post(PROTOBUF, b"exhausted"), 429, status(Code::ResourceExhausted, "")),
        ("internal", post(PROTOBUF, b"internal"), 500, status(Code::Internal, "boom")),
        ("text", post(text, b"hello"), 415, unspoken.clone()),
        ("untyped", post("", b"hello"), 415, unspoken.clone()),
        ("json with half a parameter", post("Content-Type: application/json; charset\r\n", b"{a}"), 415, unspoken.clone()),
        ("json cut gzip", post(&json_encoded("gzip"), b"abc"), 400, br#"{"code":3,"message":"message is not in its declared encoding, gzip"}"#.to_vec()),
        ("json bomb", post(&json_encoded("lz4"), &packed(Codec::Lz4, &vec![0; BODY_BYTES_MAX + 1])), 400, br#"{"code":3,"message":"http: request body too large"}"#.to_vec()),
        ("no json", post(json, b"[]"), 400, br#"{"code":3,"message":"no object"}"#.to_vec()),
        ("json full", post(json, b"{full}"), 503, br#"{"code":14,"message":"sending queue is full"}"#.to_vec()),
        ("json internal", post(json, b"{internal}"), 500, br#"{"code":13,"message":"boom"}"#.to_vec()),
        ("unwanted body", post(text, &large[..250_000]), 415, unspoken),
        ("GET", request("GET /v1/traces", "", b""), 405, not_allowed.clone()),
        ("PUT", request("PUT /v1/traces", PROTOBUF, b"hello"), 405, not_allowed),
        ("other path", request("POST /v1/trace", PROTOBUF, b"hello"), 404, missing.clone()),
        ("slash", request("POST /v1/traces/", PROTOBUF, b"hello"), 404, missing.clone()),
        ("signal without pipeline", request("POST /v1/metrics", PROTOBUF, b"hello"), 404, missing),
    ]
}

#[test]
fn answers_are_the_collectors_and_the_connection_lives_on() {
    let Some((mut client, core)) = connect(1 << 30) else { return };
    for (name, request, status, body) in taken().into_iter().chain(refused()) {
        client.write_all(&request).unwrap();
        let answer = read_answer(&mut client);
        assert_eq!(answer.status(), status, "{name}: {}", answer.head);
        assert!(answer.body == body, "{name}: {:?}", String::from_utf8_lossy(&answer.body));
        let content = answer.header("content-type").unwrap();
        let want = match (status, body.first()) {
            (404, _) => "text/plain; charset=utf-8",
            (405 | 415, _) => "text/plain",
            (_, Some(b'{')) => "application/json",
            _ => "application/x-protobuf",
        };
        assert_eq!(content, want, "{name}");
        assert_eq!(answer.header("connection"), None, "{name}");
    }
    drop(client);
    core.join().unwrap().unwrap();
}

#[test]
fn pages_of_other_sites_are_told_what_they_may_do() {
    let list = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
    let mut options = HttpServerOptions {
        cors: Cors::new(&list(&["http://*.test"]), &list(&["X-A"]), &list(&["x-id"]), 60),
        ..HttpServerOptions::default()
    };
    options.response_headers.insert("x-served-by", "us".parse().unwrap());
    let Some((mut client, core)) = connect_to(1 << 30, options) else { return };
    let asks = "Origin: http://a.test\r\nAccess-Control-Request-Method: POST\r\n\
                Access-Control-Request-Headers: x-a\r\n";
    client.write_all(&request("OPTIONS /anything", asks, b"")).unwrap();
    let answer = read_answer(&mut client);
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("http://a.test"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("x-a"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.header("access-control-max-age"), Some("60"));
    assert_eq!(answer.header("x-served-by"), Some("us"));

    let strange = asks.replace("http://a.test", "http://a.example");
    client.write_all(&request("OPTIONS /v1/traces", &strange, b"")).unwrap();
    let answer = read_answer(&mut client);
    assert_eq!((answer.status(), answer.header("access-control-allow-origin")), (204, None));

    let from = format!("{PROTOBUF}Origin: http://a.test\r\n");
    for (line, status) in [("POST /v1/traces", 200), ("GET /v1/traces", 405), ("POST /x", 404)] {
        client.write_all(&request(line, &from, b"hello")).unwrap();
        let answer = read_answer(&mut client);
        assert_eq!(answer.status(), status, "{line}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("http://a.test"));
        assert_eq!(answer.header("access-control-expose-headers"), Some("X-Id"));
        assert_eq!(answer.header("vary"), Some("Origin"));
        assert_eq!(answer.header("x-served-by"), Some("us"));
    }
    client.write_all(&request("OPTIONS /v1/traces", "", b"")).unwrap();
    assert_eq!(read_answer(&mut client).status(), 405, "it asks nothing");
    drop(client);
    core.join().unwrap().unwrap();
}

#[test]
fn a_server_reads_the_encodings_that_it_was_given() {
    let only = |names: &[&str]| {
        let all = HttpServerOptions::default().encodings;
        all.into_iter().filter(|(name, _)| names.contains(name)).collect::<Vec<_>>()
    };
    for (names, rows) in [
        (&["gzip"][..], [("", 400), ("gzip", 200), ("zstd", 400)]),
        (&["", "zstd"], [("", 200), ("gzip", 400), ("zstd", 200)]),
        (&[], [("", 200), ("gzip", 200), ("identity", 200)]),
    ] {
        let options = HttpServerOptions { encodings: only(names), ..HttpServerOptions::default() };
        let Some((mut client, core)) = connect_to(1 << 30, options) else { return };
        for (name, status) in rows {
            let codec = match name {
                "gzip" => Codec::Gzip,
                "zstd" => Codec::Zstd,
                _ => Codec::None,
            };
            client.write_all(&post(&encoded(name), &packed(codec, b"hello"))).unwrap();
            assert_eq!(read_answer(&mut client).status(), status, "{names:?}: {name}");
        }
        drop(client);
        core.join().unwrap().unwrap();
    }
}

#[test]
fn without_keep_alive_every_answer_is_the_last() {
    let options = HttpServerOptions { keep_alive: false, ..HttpServerOptions::default() };
    let Some((mut client, core)) = connect_to(1 << 30, options) else { return };
    client.write_all(&post(PROTOBUF, b"hello")).unwrap();
    let answer = read_answer(&mut client);
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    assert!(is_closed(&mut client));
    drop(client);
    core.join().unwrap().unwrap();
}

#[test]
fn retry_after_is_there_only_with_a_delay() {
    let Some((mut client, core)) = connect(1 << 30) else { return };
    for (body, seconds) in [("busy", Some("2")), ("full", None), ("exhausted", None)] {
        client.write_all(&post(PROTOBUF, body.as_bytes())).unwrap();
        assert_eq!(read_answer(&mut client).header("retry-after"), seconds, "{body}");
    }
    drop(client);
    core.join().unwrap().unwrap();
}

#[test]
fn requests_may_be_pipelined_and_arrive_byte_by_byte() {
    let Some((mut client, core)) = connect(1 << 30) else { return };
    let mut bytes = post(PROTOBUF, b"one");
    bytes.extend(chunked(b"two"));
    bytes.extend(request("GET /v1/traces", "", b""));
    client.set_nodelay(true).unwrap();
    for byte in &bytes {
        client.write_all(std::slice::from_ref(byte)).unwrap();
    }
    client.write_all(&bytes).unwrap();
    for (status, body) in [(200, "one"), (200, "two"), (405, "405 ")].repeat(2) {
        let answer = read_answer(&mut client);
        assert_eq!(answer.status(), status);
        assert!(answer.body.starts_with(body.as_bytes()));
    }
    drop(client);
    core.join().unwrap().unwrap();
}

#[test]
fn a_client_that_asks_first_is_told_to_continue_or_refused_without_its_body() {
    let Some((mut client, core)) = connect(1 << 30) else { return };
    let expecting = |headers: &str| {
        let headers = format!("{headers}Expect: 100-continue\r\n");
        let whole = post(&headers, b"hello");
        whole[..whole.len() - 5].to_vec()
    };
    client.write_all(&expecting(PROTOBUF)).unwrap();
    assert_eq!(read_answer(&mut client).status(), 100);
    client.write_all(b"hello").unwrap();
    assert_eq!(read_answer(&mut client).body, b"hello");

    client.write_all(&expecting("Content-Type: text/plain\r\n")).unwrap();
    let answer = read_answer(&mut client);
    assert_eq!((answer.status(), answer.header("connection")), (415, Some("close")));
    assert!(is_closed(&mut client));
    drop(client);
    core.join().unwrap().unwrap();
}

#[test]
fn a_client_that_has_finished_sending_still_gets_its_answer() {
    for (cut, status, body) in [(0, 200, "hello"), (3, 400, "\u{8}\u{3}\u{12}\u{e}unexpected EOF")]
    {
        let Some((mut client, core)) = connect(1 << 30) else { return };
        let whole = post(PROTOBUF, b"hello");
        client.write_all(&whole[..whole.len() - cut]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let answer = read_answer(&mut client);
        assert_eq!((answer.status(), &answer.body[..]), (status, body.as_bytes()));
        assert!(is_closed(&mut client));
        core.join().unwrap().unwrap();
    }
}

/// What is sent, the status of the answer if there is one, and its body if that matters.
type Ending = (&'static str, Vec<u8>, Option<u16>, Option<Vec<u8>>);

#[test]
fn what_cannot_be_answered_in_order_closes_the_connection() {
    let over = vec![7; 8 * BODY_BYTES_MAX];
    let too_large = status(Code::InvalidArgument, "http: request body too large");
    let no_host =
        post(PROTOBUF, b"hello").split_off(b"POST /v1/traces HTTP/1.1\r\nHost: x\r\n".len());
    let no_host = [b"POST /v1/traces HTTP/1.1\r\n", &no_host[..]].concat();
    let bad_chunk = format!(
        "POST /v1/traces HTTP/1.1\r\nHost: x\r\n{PROTOBUF}Transfer-Encoding: chunked\r\n\r\nzz"
    );
    #[rustfmt::skip]
    let cases: Vec<Ending> = vec![
        ("too large", post(PROTOBUF, &over), Some(400), Some(too_large.clone())),
        ("too large chunked", chunked(&over), Some(400), Some(too_large)),
        ("unwanted", post("", &over), Some(415), None),
        ("close", post(&format!("{PROTOBUF}Connection: close\r\n"), b"a"), Some(200), Some(b"a".to_vec())),
        ("bad chunk", bad_chunk.into_bytes(), Some(400), None),
        ("no host", no_host, Some(400), None),
        ("two lengths", post(&format!("{PROTOBUF}Content-Length: 3\r\n"), b"hello"), Some(400), None),
        ("garbage", b"hello\r\n\r\n".to_vec(), Some(400), None),
        ("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), Some(400), None),
        ("head of 100 KiB", post(&format!("X: {}\r\n", "a".repeat(100 << 10)), b""), Some(431), None),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), None, None),
    ];
    for (name, bytes, status, body) in cases {
        let Some((mut client, core)) = connect(1 << 30) else { return };
        // The server may stop reading in the middle.
        let mut writer = client.try_clone().unwrap();
        let writing = std::thread::spawn(move || drop(writer.write_all(&bytes)));
        if let Some(status) = status {
            let answer = read_answer(&mut client);
            assert_eq!(answer.status(), status, "{name}: {}", answer.head);
            assert_eq!(answer.header("connection"), Some("close"), "{name}");
            if let Some(body) = body {
                assert_eq!(answer.body, body, "{name}");
            }
        }
        writing.join().unwrap();
        // A reset is an end as well where the peer went on sending.
        assert!(!matches!(read_byte(&mut client), Ok(Some(_))), "{name}");
        drop(client);
        core.join().unwrap().unwrap();
    }
}

#[test]
fn old_clients_are_closed_on_unless_they_ask_not_to() {
    let Some((mut client, core)) = connect(1 << 30) else { return };
    let head = |extra| {
        format!("POST /v1/traces HTTP/1.0\r\n{PROTOBUF}{extra}Content-Length: 1\r\n\r\na")
            .into_bytes()
    };
    client.write_all(&head("Connection: keep-alive\r\n")).unwrap();
    assert_eq!(read_answer(&mut client).status(), 200);
    client.write_all(&head("")).unwrap();
    assert_eq!(read_answer(&mut client).status(), 200);
    assert!(is_closed(&mut client));
    core.join().unwrap().unwrap();
}

#[test]
fn asked_to_finish_it_answers_the_running_request_and_closes() {
    let Some((mut client, core)) = connect(1 << 30) else { return };
    client.write_all(&post(PROTOBUF, b"drain")).unwrap();
    let answer = read_answer(&mut client);
    assert_eq!((answer.status(), answer.header("connection")), (200, Some("close")));
    assert!(is_closed(&mut client));
    core.join().unwrap().unwrap();
}

#[test]
fn without_memory_a_body_is_refused_and_may_be_tried_again() {
    let Some((mut client, core)) = connect(100_000) else { return };
    let large = vec![7; 200_000];
    for request in [
        post(PROTOBUF, &large),
        chunked(&large),
        post(&encoded("gzip"), &packed(Codec::Gzip, &large)),
    ] {
        client.write_all(&request).unwrap();
        let answer = read_answer(&mut client);
        assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("1")));
    }
    client.write_all(&post(PROTOBUF, &large[..50_000])).unwrap();
    assert_eq!(read_answer(&mut client).status(), 200);
    drop(client);
    core.join().unwrap().unwrap();
}
