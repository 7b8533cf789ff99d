//! The machine by frames that are written by hand: what HTTP/2 asks of a server, rule by rule.

use super::super::hpack::put_literal;
use super::super::settings::put_ack;
use super::*;

const OPTIONS: Options = Options {
    window: 65_536,
    streams_max: 4,
    frame_bytes_max: 16_384,
    header_list_bytes_max: 4096,
    resets_young_max: 3,
    faults_max: 5,
};

/// Keeps what it hears; refuses paths that begin with `/no` at once, and bodies with an `x`.
#[derive(Debug, Default)]
struct Heard {
    ended: Vec<(u32, String)>,
}

impl Calls for Heard {
    type Call = Vec<u8>;

    fn open(&mut self, head: &Head) -> Result<Vec<u8>, Vec<u8>> {
        match head.path().starts_with(b"/no") || head.is_too_large() {
            true => Err(b"refused".to_vec()),
            false => Ok(Vec::new()),
        }
    }

    fn data(&mut self, call: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Vec<u8>> {
        call.extend_from_slice(bytes);
        if bytes.contains(&b'x') { Err(b"refused".to_vec()) } else { Ok(()) }
    }

    fn end(&mut self, stream: u32, call: &mut Vec<u8>) -> Result<(), Vec<u8>> {
        self.ended.push((stream, String::from_utf8_lossy(call).into_owned()));
        Ok(())
    }
}

/// A client that writes frames.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn greeting() -> Self {
        Self(PREFACE.to_vec()).frame(SETTINGS, 0, 0, &[])
    }

    fn frame(mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
        frame::put_header(&mut self.0, payload.len(), kind, flags, stream);
        self.0.extend_from_slice(payload);
        self
    }

    fn head(self, stream: u32, flags: u8, path: &str, more: &[(&str, &str)]) -> Self {
        self.frame(HEADERS, flags | frame::END_HEADERS, stream, &block(path, more))
    }

    fn data(self, stream: u32, flags: u8, bytes: &[u8]) -> Self {
        self.frame(DATA, flags, stream, bytes)
    }

    fn setting(self, id: u16, value: u32) -> Self {
        let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        self.frame(SETTINGS, 0, 0, &payload)
    }

    fn window(self, stream: u32, credit: u32) -> Self {
        self.frame(WINDOW_UPDATE, 0, stream, &credit.to_be_bytes())
    }

    fn reset(self, stream: u32) -> Self {
        self.frame(RST_STREAM, 0, stream, &frame::CANCEL.to_be_bytes())
    }
}

fn block(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    let head = [(":method", "POST"), (":scheme", "http"), (":path", path)];
    for (name, value) in head.iter().filter(|(_, v)| !v.is_empty()).chain(more) {
        put_literal(&mut block, name, value.as_bytes());
    }
    block
}

/// Feeds all of it, `step` bytes more at a time.
fn feed(
    server: &mut Server<Vec<u8>>,
    heard: &mut Heard,
    bytes: &[u8],
    step: usize,
) -> Result<(), Violation> {
    let (mut at, mut end) = (0, 0);
    while at < bytes.len() {
        let fed = server.feed(&bytes[at..end], heard)?;
        at += fed.bytes;
        if fed.hungry {
            assert!(end < bytes.len() || at == end, "a frame is cut");
            end = (end + step).min(bytes.len());
        }
    }
    Ok(())
}

/// The frames that were written: kind, flags, stream, payload. Takes them.
fn written(server: &mut Server<Vec<u8>>) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let out = std::mem::take(&mut server.out);
    let (mut rest, mut frames) = (&out[..], Vec::new());
    while let Some(f) = frame::next(&mut rest, 1 << 20).expect("own frames") {
        frames.push((f.kind, f.flags, f.stream, f.payload.to_vec()));
    }
    assert!(rest.is_empty());
    frames
}

/// A server that was greeted, and whose own greeting is forgotten.
fn greeted() -> (Server<Vec<u8>>, Heard) {
    let (mut server, mut heard) = (Server::new(OPTIONS), Heard::default());
    feed(&mut server, &mut heard, &Bytes::greeting().0, 1000).expect("a greeting");
    let kinds: Vec<_> = written(&mut server).iter().map(|f| (f.0, f.1)).collect();
    assert_eq!(kinds, [(SETTINGS, 0), (WINDOW_UPDATE, 0), (SETTINGS, ACK)]);
    (server, heard)
}

#[test]
fn requests_are_heard_however_their_bytes_come() {
    let mut padded = vec![3];
    padded.extend(b"hel\0\0\0");
    let whole = block("/p", &[("a", "b")]);
    let bytes = Bytes::greeting()
        .head(1, 0, "/p", &[])
        .data(1, PADDED, &padded)
        .frame(PRIORITY_FRAME, 0, 9, &[0, 0, 0, 0, 7])
        .frame(0xbe, 0xff, 77, b"unknown")
        .data(1, 0, b"")
        .data(1, END_STREAM, b"lo")
        .frame(HEADERS, END_STREAM, 3, &whole[..5])
        .frame(CONTINUATION, 0, 3, &whole[5..9])
        .frame(CONTINUATION, frame::END_HEADERS, 3, &whole[9..])
        .head(5, 0, "/p", &[("content-length", "2")])
        .data(5, 0, b"ok")
        .frame(HEADERS, END_STREAM | frame::END_HEADERS, 5, b"\x00\x01a\x01b");
    for step in [1, 2, 7, 100, 10_000] {
        let (mut server, mut heard) = (Server::new(OPTIONS), Heard::default());
        feed(&mut server, &mut heard, &bytes.0, step).expect("valid");
        let want = [(1, "hello"), (3, ""), (5, "ok")].map(|(id, body)| (id, body.to_owned()));
        assert_eq!(heard.ended, want, "{step}");
    }
}

#[test]
fn what_breaks_the_connection_is_named() {
    let b = Bytes::default;
    let open = || b().head(1, 0, "/p", &[]);
    let ended = || b().head(1, END_STREAM, "/p", &[]);
    let rows: Vec<(Bytes, u32, &str)> = vec![
        (b().data(0, 0, b""), PROTOCOL_ERROR, "not opened"),
        (b().data(1, 0, b""), PROTOCOL_ERROR, "not opened"),
        (b().reset(1), PROTOCOL_ERROR, "not opened"),
        (b().window(1, 5), PROTOCOL_ERROR, "not opened"),
        (b().window(0, 0), PROTOCOL_ERROR, "zero"),
        (b().window(0, 0x7fff_ffff), FLOW_CONTROL_ERROR, "above"),
        (b().frame(WINDOW_UPDATE, 0, 0, &[1]), FRAME_SIZE_ERROR, "4 bytes"),
        (open().frame(RST_STREAM, 0, 1, &[1]), FRAME_SIZE_ERROR, "4 bytes"),
        (b().frame(PING, 0, 0, &[0; 7]), FRAME_SIZE_ERROR, "8 bytes"),
        (b().frame(PING, 0, 1, &[0; 8]), PROTOCOL_ERROR, "PING"),
        (b().frame(SETTINGS, 0, 1, &[]), PROTOCOL_ERROR, "SETTINGS"),
        (b().frame(SETTINGS, ACK, 0, &[0]), FRAME_SIZE_ERROR, "payload"),
        (b().frame(SETTINGS, 0, 0, &[0; 5]), FRAME_SIZE_ERROR, "odd"),
        (b().setting(2, 2), PROTOCOL_ERROR, "ENABLE_PUSH"),
        (b().setting(4, 0x8000_0000), FLOW_CONTROL_ERROR, "above"),
        (open().window(1, 0x7fff_0000).setting(4, 0x7fff_ffff), FLOW_CONTROL_ERROR, "above"),
        (b().frame(GOAWAY, 0, 3, &[0; 8]), PROTOCOL_ERROR, "GOAWAY"),
        (b().frame(GOAWAY, 0, 0, &[0; 7]), FRAME_SIZE_ERROR, "short"),
        (b().frame(PUSH_PROMISE, 0, 1, &[0; 4]), PROTOCOL_ERROR, "PUSH_PROMISE"),
        (b().frame(PRIORITY_FRAME, 0, 0, &[0; 5]), PROTOCOL_ERROR, "PRIORITY"),
        (b().frame(CONTINUATION, 4, 1, &[]), PROTOCOL_ERROR, "nothing"),
        (b().frame(HEADERS, 0, 1, &[]).data(1, 0, b""), PROTOCOL_ERROR, "not complete"),
        (b().frame(HEADERS, 4, 1, &[0x80]), frame::COMPRESSION_ERROR, "index 0"),
        (b().head(2, 0, "/p", &[]), PROTOCOL_ERROR, "odd"),
        (b().head(0, 0, "/p", &[]), PROTOCOL_ERROR, "stream 0"),
        (b().head(5, 0, "/p", &[]).head(3, 0, "/p", &[]), PROTOCOL_ERROR, "not above"),
        (open().data(1, PADDED, &[9, 0]), PROTOCOL_ERROR, "padding"),
        (open().data(1, PADDED, &[]), FRAME_SIZE_ERROR, "pad length"),
        (ended().reset(1).head(1, 0, "/p", &[]), STREAM_CLOSED, "closed"),
        (b().frame(DATA, 0, 1, &[0; 16_385]), FRAME_SIZE_ERROR, "larger"),
    ];
    for (at, (bytes, code, what)) in rows.into_iter().enumerate() {
        let (mut server, mut heard) = greeted();
        let end = feed(&mut server, &mut heard, &bytes.0, 100_000);
        // A call of a stream that was reset keeps its place; here it has ended.
        let end = end.and_then(|()| {
            server.respond(1, Answer::refusal(b""));
            feed(&mut server, &mut heard, &Bytes::default().head(1, 0, "/p", &[]).0, 1000)
        });
        let broken = end.expect_err("broken");
        assert_eq!((broken.code, broken.what.contains(what)), (code, true), "{at}: {broken:?}");
        server.refuse(broken);
        let last = written(&mut server).pop().expect("a farewell");
        assert_eq!((last.0, &last.3[4..8]), (GOAWAY, &code.to_be_bytes()[..]));
    }
}

#[test]
fn a_peer_that_does_not_greet_is_not_heard() {
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        Bytes(PREFACE.to_vec()).frame(PING, 0, 0, &[0; 8]).0,
        Bytes(PREFACE.to_vec()).frame(SETTINGS, 0, 1, &[]).0,
    ] {
        let (mut server, mut heard) = (Server::new(OPTIONS), Heard::default());
        let broken = feed(&mut server, &mut heard, &bytes, 1).expect_err("no greeting");
        assert_eq!(broken.code, PROTOCOL_ERROR);
        assert!(!server.is_settled());
    }
}

#[test]
fn what_breaks_a_stream_resets_it_alone() {
    let b = Bytes::default;
    let big = "y".repeat(16_000);
    let rows: Vec<(Bytes, u32)> = vec![
        (b().head(1, 0, "", &[]), PROTOCOL_ERROR),
        (b().head(1, 0, "/p", &[("Upper", "x")]), PROTOCOL_ERROR),
        (b().head(1, 0, "/p", &[("connection", "close")]), PROTOCOL_ERROR),
        (b().head(1, 0, "/p", &[("content-length", "1")]).data(1, 0, b"ab"), PROTOCOL_ERROR),
        (b().head(1, 0, "/p", &[("content-length", "3")]).data(1, 1, b"ab"), PROTOCOL_ERROR),
        (b().head(1, 0, "/p", &[]).head(1, 0, "/p", &[]), PROTOCOL_ERROR),
        (b().head(1, 0, "/p", &[]).head(1, END_STREAM, "/p", &[]), PROTOCOL_ERROR),
        (b().head(1, 0, "/p", &[]).window(1, 0), PROTOCOL_ERROR),
        (b().head(1, 0, "/p", &[]).window(1, 0x7fff_ffff), FLOW_CONTROL_ERROR),
        (b().head(1, 0, "/p", &[]).frame(PRIORITY_FRAME, 0, 1, &[0; 4]), FRAME_SIZE_ERROR),
        (b().head(1, 0, "/p", &[]).frame(PRIORITY_FRAME, 0, 1, &[0, 0, 0, 1, 0]), PROTOCOL_ERROR),
        (b().head(1, END_STREAM, "/p", &[]).data(1, 0, b""), STREAM_CLOSED),
        (b().head(1, END_STREAM, "/p", &[]).head(1, END_STREAM, "/p", &[]), STREAM_CLOSED),
    ];
    for (at, (bytes, code)) in rows.into_iter().enumerate() {
        let (mut server, mut heard) = greeted();
        let after = bytes.head(3, END_STREAM, "/p", &[("long", &big[..100])]);
        feed(&mut server, &mut heard, &after.0, 100_000).expect("not the connection's fault");
        assert_eq!(heard.ended.last().map(|e| e.0), Some(3), "{at}");
        let resets: Vec<_> =
            written(&mut server).into_iter().filter(|f| f.0 == RST_STREAM).collect();
        assert_eq!(resets, [(RST_STREAM, 0, 1, code.to_be_bytes().to_vec())], "{at}");
    }
}

#[test]
fn too_many_faults_and_rapid_resets_end_the_connection() {
    let (mut server, mut heard) = greeted();
    let faulty = |from: u32, n: u32| {
        (0..n).fold(Bytes::default(), |b, i| b.head(from + 2 * i, 0, "/p", &[("te", "x")]))
    };
    feed(&mut server, &mut heard, &faulty(1, 5).0, 1000).expect("five are allowed");
    let broken = feed(&mut server, &mut heard, &faulty(11, 1).0, 1000).expect_err("too many");
    assert_eq!(broken.code, ENHANCE_YOUR_CALM);

    let rapid = |from: u32, n: u32| {
        let both = |b: Bytes, i: u32| b.head(from + 2 * i, 0, "/p", &[]).reset(from + 2 * i);
        (0..n).fold(Bytes::default(), both)
    };
    let (mut server, mut heard) = greeted();
    for turn in 0..10 {
        server.begin_turn();
        feed(&mut server, &mut heard, &rapid(1 + 6 * turn, 3).0, 1000).expect("three in a turn");
        assert_eq!(server.open(), 0);
    }
    server.begin_turn();
    let broken = feed(&mut server, &mut heard, &rapid(101, 4).0, 1000).expect_err("too many");
    assert_eq!(broken.code, ENHANCE_YOUR_CALM);
}

#[test]
fn calls_that_run_keep_their_place_when_they_are_reset() {
    let (mut server, mut heard) = greeted();
    let open = |from: u32| {
        (0..4).fold(Bytes::default(), |b, i| b.head(from + 2 * i, END_STREAM, "/p", &[]))
    };
    feed(&mut server, &mut heard, &open(1).0, 1000).expect("valid");
    server.begin_turn();
    feed(&mut server, &mut heard, &Bytes::default().reset(1).reset(3).0, 1000).expect("valid");
    assert_eq!(server.open(), 4);
    let more = Bytes::default().head(9, 0, "/p", &[]).data(9, END_STREAM, b"ignored");
    feed(&mut server, &mut heard, &more.0, 1000).expect("valid");
    let refused = (RST_STREAM, 0, 9, REFUSED_STREAM.to_be_bytes().to_vec());
    assert_eq!(written(&mut server), [refused]);
    server.respond(1, Answer { head: b"head", rest: Some((b"body", b"trailers")) });
    assert_eq!((server.open(), written(&mut server)), (3, vec![]), "nobody waits");
    feed(&mut server, &mut heard, &Bytes::default().head(11, END_STREAM, "/p", &[]).0, 1000)
        .expect("valid");
    assert_eq!((server.open(), heard.ended.len()), (4, 5));
}

#[test]
fn answers_are_written_within_the_windows() {
    let (mut server, mut heard) = greeted();
    let open = Bytes::default().setting(4, 3).head(1, END_STREAM, "/p", &[]);
    feed(&mut server, &mut heard, &open.0, 1000).expect("valid");
    let _ = written(&mut server);
    server.respond(1, Answer { head: b"head", rest: Some((b"0123456789", b"trailers")) });
    let head = (HEADERS, frame::END_HEADERS, 1, b"head".to_vec());
    assert_eq!(written(&mut server), [head, (DATA, 0, 1, b"012".to_vec())]);
    // The window shrinks below zero, and grows above.
    let shrunk = Bytes::default().setting(4, 0).window(1, 2);
    feed(&mut server, &mut heard, &shrunk.0, 1000).expect("valid");
    assert!(written(&mut server).iter().all(|f| f.0 == SETTINGS));
    feed(&mut server, &mut heard, &Bytes::default().window(1, 2).0, 1000).expect("valid");
    assert_eq!(written(&mut server), [(DATA, 0, 1, b"3".to_vec())]);
    feed(&mut server, &mut heard, &Bytes::default().setting(4, 100).0, 1000).expect("valid");
    let frames = written(&mut server);
    let end = (HEADERS, frame::END_HEADERS | END_STREAM, 1, b"trailers".to_vec());
    assert_eq!(frames[1..], [(DATA, 0, 1, b"456789".to_vec()), end]);
    assert_eq!(server.open(), 0);
}

#[test]
fn a_refusal_before_the_end_of_a_request_ends_the_stream() {
    for (path, body) in [("/no", &b"ab"[..]), ("/p", b"x")] {
        let (mut server, mut heard) = greeted();
        let bytes = Bytes::default()
            .head(1, 0, path, &[])
            .data(1, 0, body)
            .data(1, END_STREAM, b"more")
            .head(3, END_STREAM, "/p", &[]);
        feed(&mut server, &mut heard, &bytes.0, 1000).expect("valid");
        let refused = (HEADERS, frame::END_HEADERS | END_STREAM, 1, b"refused".to_vec());
        assert_eq!(written(&mut server), [refused], "{path}");
        assert_eq!(heard.ended, [(3, String::new())]);
        assert_eq!(server.open(), 1);
    }
    let reset = (RST_STREAM, 0, 1, NO_ERROR.to_be_bytes().to_vec());
    let (mut server, mut heard) = greeted();
    let mut much = Bytes::default().head(1, 0, "/no", &[]);
    for _ in 0..4 {
        much = much.data(1, 0, &[b'a'; 16_384]);
    }
    feed(&mut server, &mut heard, &much.0, 1_000_000).expect("valid");
    assert!(!written(&mut server).contains(&reset), "as much as the window allows");
    server.refuse_some(|_| None);
    assert_eq!((written(&mut server), server.open()), (vec![reset], 0), "not waited for");
    feed(&mut server, &mut heard, &Bytes::default().data(1, 1, b"more").0, 1000).expect("valid");
    assert_eq!(written(&mut server), []);
    let (mut server, mut heard) = greeted();
    let late = Bytes::default().head(1, 0, "/p", &[]).head(3, END_STREAM, "/p", &[]);
    feed(&mut server, &mut heard, &late.0, 1000).expect("valid");
    server.refuse_some(|_| Some(b"late".to_vec()));
    let frames: Vec<_> = written(&mut server).iter().map(|f| (f.0, f.2)).collect();
    assert_eq!(frames, [(HEADERS, 1)], "only what is not whole");
}

#[test]
fn windows_are_credited_and_kept() {
    let (mut server, mut heard) = greeted();
    let mut bytes = Bytes::default().head(1, 0, "/p", &[]);
    for _ in 0..3 {
        bytes = bytes.data(1, 0, &[b'a'; 16_000]);
    }
    feed(&mut server, &mut heard, &bytes.0, 1_000_000).expect("valid");
    let credits: Vec<_> = written(&mut server).iter().map(|f| (f.0, f.2)).collect();
    assert_eq!(credits, [(WINDOW_UPDATE, 0), (WINDOW_UPDATE, 1)], "at half of the window");
    server.resize(1 << 20);
    let frames = written(&mut server);
    let credit = Frame { kind: WINDOW_UPDATE, flags: 0, stream: 0, payload: &frames[0].3 };
    assert_eq!((frames.len(), frames[0].0), (1, WINDOW_UPDATE));
    assert!(credit.word(0).expect("four bytes") >= (1 << 20) - 65_536);

    // A wide window's credit goes with an answer.
    assert!(server.receive.take(600_000));
    server.give_credit(0);
    assert!(written(&mut server).is_empty());
    server.respond(1, Answer::refusal(b"\x88"));
    let frames: Vec<_> = written(&mut server).iter().map(|f| (f.0, f.2)).collect();
    assert_eq!(frames[..2], [(WINDOW_UPDATE, 0), (HEADERS, 1)]);

    // More than the stream may: its own fault. More than the connection may: the connection's.
    let too_much =
        |stream| (0..5).fold(Bytes::default(), |b, _| b.data(stream, 0, &[b'a'; 16_384]));
    let (mut server, mut heard) = greeted();
    server.options.window = 65_536;
    // Nothing is credited while a frame is not whole.
    let cut = Bytes::default().head(1, 0, "/p", &[]).0;
    feed(&mut server, &mut heard, &cut, 1000).expect("valid");
    server.receive = Window::new(40_000);
    server.receive.resize(0);
    let broken = feed(&mut server, &mut heard, &too_much(1).0, 1_000_000).expect_err("too much");
    assert_eq!(broken.code, FLOW_CONTROL_ERROR);
    let (mut server, mut heard) = greeted();
    feed(&mut server, &mut heard, &cut, 1000).expect("valid");
    let stream = server.streams.get(1).expect("open");
    stream.receive = Window::new(10_000);
    feed(&mut server, &mut heard, &too_much(1).0, 1_000_000).expect("valid");
    let resets: Vec<_> = written(&mut server).into_iter().filter(|f| f.0 == RST_STREAM).collect();
    assert_eq!(resets, [(RST_STREAM, 0, 1, FLOW_CONTROL_ERROR.to_be_bytes().to_vec())]);
}

#[test]
fn what_a_peer_opened_before_it_heard_of_fewer_streams_is_served() {
    let (mut server, mut heard) = greeted();
    server.invite(1);
    let said: Vec<_> = written(&mut server).iter().map(|f| f.0).collect();
    assert_eq!(said, [SETTINGS]);
    let open = Bytes::default().head(1, 0, "/p", &[]).head(3, 0, "/p", &[]);
    feed(&mut server, &mut heard, &open.0, 1000).expect("valid");
    assert_eq!((server.open(), written(&mut server).len()), (2, 0));
}

#[test]
fn pings_are_answered_and_leaving_takes_two_steps() {
    let (mut server, mut heard) = greeted();
    let ping = Bytes::default().frame(PING, 0, 0, b"12345678");
    feed(&mut server, &mut heard, &ping.0, 1000).expect("valid");
    assert_eq!(written(&mut server), [(PING, ACK, 0, b"12345678".to_vec())]);
    let open = Bytes::default().head(1, END_STREAM, "/p", &[]);
    feed(&mut server, &mut heard, &open.0, 1000).expect("valid");
    server.leave();
    server.leave();
    let kinds: Vec<_> = written(&mut server).iter().map(|f| f.0).collect();
    assert_eq!(kinds, [GOAWAY, PING]);
    // What was under way is served; what comes after the peer has heard is not.
    let under_way = Bytes::default()
        .head(3, END_STREAM, "/p", &[])
        .frame(PING, ACK, 0, &PING_LEAVE)
        .head(5, END_STREAM, "/p", &[]);
    feed(&mut server, &mut heard, &under_way.0, 1000).expect("valid");
    let last = written(&mut server);
    assert_eq!((last[0].0, &last[0].3[..4], last.len()), (GOAWAY, &3_u32.to_be_bytes()[..], 1));
    assert_eq!((server.open(), server.is_over()), (2, false));
    for id in [1, 3] {
        server.respond(id, Answer::refusal(b"done"));
    }
    assert!(server.is_over());
    let (mut server, mut heard) = greeted();
    feed(&mut server, &mut heard, &Bytes::default().frame(GOAWAY, 0, 0, &[0; 8]).0, 1000)
        .expect("valid");
    assert!(server.is_over(), "the peer has left");
}

#[test]
fn acknowledgements_are_no_settings() {
    let (mut server, mut heard) = greeted();
    let mut ack = Vec::new();
    put_ack(&mut ack);
    feed(&mut server, &mut heard, &ack, 1).expect("valid");
    assert_eq!(written(&mut server), []);
}
