//! The machine, by frames that are written by hand.

use super::super::Out;
use super::super::frame::{END_HEADERS, HEADER_BYTES, PADDED, PRIORITY, STREAM_CLOSED, put_header};
use super::super::hpack::{Block, EMPTY_TABLE, Header, Name, put_literal};
use super::*;

#[cfg(test)]
mod against_h2;

/// A call that notes what it hears, and may have enough of it.
#[derive(Debug, Default)]
struct Noted {
    name: u32,
    body: bytes::Bytes,
    heard: Vec<String>,
    /// It wants no more once it has heard so much.
    enough: usize,
}

impl Noted {
    fn note(&mut self, what: String) -> Want {
        self.heard.push(what);
        if self.enough == self.heard.len() { Want::Nothing } else { Want::More }
    }
}

impl Call for Noted {
    fn body(&self) -> &bytes::Bytes {
        &self.body
    }

    fn head(&mut self, head: &Head, ended: bool) -> Want {
        self.note(format!("{} {ended}", head.status().unwrap()))
    }

    fn data(&mut self, bytes: &[u8]) -> Want {
        self.note(String::from_utf8_lossy(bytes).into_owned())
    }

    fn end(&mut self, trailers: Option<&Head>) {
        let status = trailers.map(|t| String::from_utf8_lossy(t.get("grpc-status").unwrap()));
        let _ = self.note(format!("end {status:?}"));
    }
}

type Bytes = Vec<u8>;

/// One that copies.
impl Out for Bytes {
    fn len(&self) -> usize {
        self.len()
    }

    fn own(&mut self) -> &mut Self {
        self
    }

    fn lend(&mut self, bytes: bytes::Bytes) {
        self.extend_from_slice(&bytes);
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Bytes {
    let mut out = Vec::new();
    put_header(&mut out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
    out
}

fn greeting(entries: &[(u16, u32)]) -> Bytes {
    let entry = |(id, value): &(u16, u32)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &entries.iter().flat_map(entry).collect::<Bytes>())
}

fn credit(stream: u32, n: u32) -> Bytes {
    frame(WINDOW_UPDATE, 0, stream, &n.to_be_bytes())
}

fn goaway(last: u32, code: u32) -> Bytes {
    frame(GOAWAY, 0, 0, &[&last.to_be_bytes()[..], &code.to_be_bytes(), b"bye"].concat())
}

fn reset(stream: u32, code: u32) -> Bytes {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

/// `:status 200`
const OK: &[u8] = &[0x88];

fn head(stream: u32) -> Bytes {
    frame(HEADERS, END_HEADERS, stream, OK)
}

fn block(fields: &[(&str, &str)]) -> Bytes {
    let mut out = Vec::new();
    for (name, value) in fields {
        put_literal(&mut out, name, value.as_bytes());
    }
    out
}

fn trailers(stream: u32) -> Bytes {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&[("grpc-status", "0")]))
}

fn reply(stream: u32) -> Bytes {
    [head(stream), frame(DATA, 0, stream, b"ok"), trailers(stream)].concat()
}

/// The headers of all requests here.
fn request() -> Block {
    Block::new(&[Header::Static(3), Header::Indexed(Name::New("te"), b"trailers".to_vec())], 0)
}

type Machine = Client<Noted>;

fn fresh() -> Machine {
    Client::new(Options { window: 65535, header_list_bytes_max: 1000 })
}

/// What is written, frame by frame: kind, flags, stream, payload.
fn written_within(client: &mut Machine, room: usize) -> Vec<(u8, u8, u32, Bytes)> {
    let mut out = Vec::new();
    client.write(&mut out, room);
    let mut rest = out.strip_prefix(PREFACE).unwrap_or(&out);
    let mut frames = Vec::new();
    while let Some(f) = frame::next(&mut rest, 1 << 20).unwrap() {
        frames.push((f.kind, f.flags, f.stream, f.payload.to_vec()));
    }
    assert!(rest.is_empty());
    frames
}

fn written(client: &mut Machine) -> Vec<(u8, u8, u32, Bytes)> {
    written_within(client, 1 << 20)
}

/// Kinds and streams of what is written, with the length of DATA.
fn outline(client: &mut Machine) -> Vec<(u8, u32, usize)> {
    let frames = written(client).into_iter();
    frames.map(|(kind, _, s, p)| (kind, s, if kind == DATA { p.len() } else { 0 })).collect()
}

/// One that was greeted with these settings.
fn greeted(settings: &[(u16, u32)]) -> Machine {
    let mut client = fresh();
    client.feed(&greeting(settings)).unwrap();
    let _ = written(&mut client);
    client
}

fn start(client: &mut Machine, name: u32, body: &[u8]) {
    assert_eq!(client.room(), Room::Now);
    let body = bytes::Bytes::copy_from_slice(body);
    client.start(Noted { name, body, ..Noted::default() }, &request(), &[]);
}

/// One with two calls under way, of streams 1 and 3.
fn busy() -> Machine {
    let mut client = greeted(&[]);
    for name in [1, 3] {
        start(&mut client, name, b"body");
    }
    let _ = written(&mut client);
    client
}

/// Feeds, with what is hungry for more given again.
fn feed(client: &mut Machine, bytes: &[u8]) -> Result<(), Violation> {
    let mut rest = bytes;
    loop {
        let fed = client.feed(rest)?;
        rest = &rest[fed.bytes..];
        if fed.hungry {
            assert!(rest.is_empty());
            return Ok(());
        }
    }
}

/// Names and ends of the calls that are over.
fn over(client: &mut Machine) -> Vec<(u32, Over)> {
    std::iter::from_fn(|| client.next_over()).map(|(call, over)| (call.name, over)).collect()
}

#[test]
fn the_greeting_says_what_we_take() {
    let mut client = fresh();
    let mut out = Vec::new();
    client.write(&mut out, 0);
    assert!(out.starts_with(PREFACE));
    let mut client = Client::<Noted>::new(Options { window: 1 << 18, header_list_bytes_max: 9 });
    let frames = written(&mut client);
    assert_eq!(frames.len(), 2);
    let settings: Vec<_> = frames[0].3.chunks(6).map(|e| (e[1], e[2..].to_vec())).collect();
    let want = [(2, 0_u32), (4, 1 << 18), (5, 16384), (6, 9)];
    assert_eq!(settings, want.map(|(id, value)| (id, value.to_be_bytes().to_vec())));
    let more = ((1 << 18) - 65535_u32).to_be_bytes().to_vec();
    assert_eq!(frames[1], (WINDOW_UPDATE, 0, 0, more));
}

#[test]
fn a_call_is_written_and_its_reply_is_read_however_it_is_cut() {
    let block = block(&[("grpc-status", "0")]);
    let padded = |text: &[u8]| [&[3], text, &[0; 3]].concat();
    let head = [&[1, 0x80, 0, 0, 3, 9][..], OK, &[0]].concat();
    let bytes = [
        greeting(&[]),
        frame(HEADERS, END_HEADERS | PADDED | PRIORITY, 1, &head),
        frame(DATA, PADDED, 1, &padded(b"one")),
        frame(DATA, 0, 1, b""),
        frame(DATA, 0, 1, b"two"),
        frame(HEADERS, END_STREAM, 1, &block[..5]),
        frame(CONTINUATION, 0, 1, &[]),
        frame(CONTINUATION, END_HEADERS, 1, &block[5..]),
    ]
    .concat();
    for cut in 0..=bytes.len() {
        let mut client = fresh();
        start(&mut client, 7, b"body");
        let frames = written(&mut client);
        assert_eq!(frames[1], (HEADERS, END_HEADERS, 1, request().first));
        assert_eq!(frames[2], (DATA, END_STREAM, 1, b"body".to_vec()));
        let fed = client.feed(&bytes[..cut]).unwrap();
        assert!(fed.hungry);
        feed(&mut client, &bytes[fed.bytes..]).unwrap();
        let (call, how) = client.next_over().unwrap();
        assert_eq!((call.name, how), (7, Over::Heard));
        assert_eq!(call.heard, ["200 false", "one", "two", "end Some(\"0\")"]);
        assert_eq!(written(&mut client), [(SETTINGS, ACK, 0, vec![])]);
        assert_eq!(client.open(), 0);
    }
}

#[test]
fn what_breaks_the_connection() {
    let ping = |n| frame(PING, 0, 0, &[0; 9][..n]);
    let rows: [(&str, Bytes, u32); 28] = [
        ("data on 0", frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
        ("data on an even one", frame(DATA, 0, 2, b"x"), PROTOCOL_ERROR),
        ("data on one to come", frame(DATA, 0, 5, b"x"), PROTOCOL_ERROR),
        ("head on 0", head(0), PROTOCOL_ERROR),
        ("head on one to come", head(5), PROTOCOL_ERROR),
        ("head on an even one", head(2), PROTOCOL_ERROR),
        ("pad beyond the frame", frame(DATA, PADDED, 1, &[9, 0]), PROTOCOL_ERROR),
        ("no pad length", frame(DATA, PADDED, 1, &[]), FRAME_SIZE_ERROR),
        ("a frame too large", frame(DATA, 0, 1, &[0; 16385]), FRAME_SIZE_ERROR),
        ("push", frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2, 0x82]), PROTOCOL_ERROR),
        ("continuation of nothing", frame(CONTINUATION, 0, 1, &[]), PROTOCOL_ERROR),
        (
            "a frame within a block",
            [frame(HEADERS, 0, 1, OK), frame(PING, 0, 0, &[0; 8])].concat(),
            PROTOCOL_ERROR,
        ),
        (
            "continuation of another",
            [frame(HEADERS, 0, 1, OK), frame(CONTINUATION, END_HEADERS, 3, &[])].concat(),
            PROTOCOL_ERROR,
        ),
        ("coding", frame(HEADERS, END_HEADERS, 1, &[0xff]), 9),
        ("reset of 0", reset(0, 8), PROTOCOL_ERROR),
        ("reset of one to come", reset(5, 8), PROTOCOL_ERROR),
        ("short reset", frame(RST_STREAM, 0, 1, &[0; 3]), FRAME_SIZE_ERROR),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[]), PROTOCOL_ERROR),
        ("odd settings", frame(SETTINGS, 0, 0, &[0; 5]), FRAME_SIZE_ERROR),
        ("settings' answer", frame(SETTINGS, ACK, 0, &[0; 6]), FRAME_SIZE_ERROR),
        ("window above all", greeting(&[(4, 0x8000_0000)]), FLOW_CONTROL_ERROR),
        (
            "stream window above all",
            [credit(1, 0x7fff_0000), greeting(&[(4, 0x7fff_ffff)])].concat(),
            FLOW_CONTROL_ERROR,
        ),
        ("short ping", ping(7), FRAME_SIZE_ERROR),
        ("ping on a stream", frame(PING, 0, 1, &[0; 8]), PROTOCOL_ERROR),
        ("nothing more to send", credit(0, 0), PROTOCOL_ERROR),
        ("too much to send", credit(0, 0x7fff_ffff), FLOW_CONTROL_ERROR),
        ("goaway on a stream", frame(GOAWAY, 0, 1, &[0; 8]), PROTOCOL_ERROR),
        ("short goaway", frame(GOAWAY, 0, 0, &[0; 7]), FRAME_SIZE_ERROR),
    ];
    for (what, bytes, code) in rows {
        let mut client = busy();
        let got = feed(&mut client, &bytes).map_err(|broken| broken.code);
        assert_eq!(got, Err(code), "{what}");
        assert_eq!(client.open(), 2, "{what}");
    }
}

#[test]
fn what_breaks_the_connection_by_its_size_or_on_what_is_forgotten() {
    let rows: [(&str, Bytes, u32); 6] = [
        ("window update of one to come", credit(5, 1), PROTOCOL_ERROR),
        ("short window update", frame(WINDOW_UPDATE, 0, 1, &[0; 3]), FRAME_SIZE_ERROR),
        ("priority of 0", frame(PRIORITY_FRAME, 0, 0, &[0; 5]), PROTOCOL_ERROR),
        (
            "too many continuations",
            {
                let head = frame(HEADERS, 0, 1, OK);
                [head, frame(CONTINUATION, 0, 1, &[]).repeat(100)].concat()
            },
            11,
        ),
        (
            "coding on a forgotten one",
            [reset(1, 8), frame(HEADERS, END_HEADERS, 1, &[0x80])].concat(),
            9,
        ),
        (
            "a block too long",
            {
                let head = frame(HEADERS, 0, 1, &[0; 16384]);
                [head, frame(CONTINUATION, 0, 1, &[0; 16384]).repeat(4)].concat()
            },
            11,
        ),
    ];
    for (what, bytes, code) in rows {
        let got = feed(&mut busy(), &bytes).map_err(|broken| broken.code);
        assert_eq!(got, Err(code), "{what}");
    }
}

#[test]
fn the_peer_greets_first() {
    for bytes in
        [frame(PING, 0, 0, &[0; 8]), frame(SETTINGS, ACK, 0, &[]), b"HTTP/1.1 400".to_vec()]
    {
        assert!(feed(&mut fresh(), &bytes).is_err(), "{bytes:?}");
    }
    let mut client = busy();
    let broken = feed(&mut client, &head(0)).unwrap_err();
    client.refuse(broken);
    let mut payload = vec![0, 0, 0, 0, 0, 0, 0, 1];
    payload.extend_from_slice(broken.what.as_bytes());
    assert_eq!(written(&mut client), [(GOAWAY, 0, 0, payload)]);
    let left: Vec<_> = client.take_calls().map(|call| call.name).collect();
    assert_eq!(left, [1, 3]);
    assert_eq!(client.open(), 0);
}

#[test]
fn what_breaks_a_stream_costs_only_that_call() {
    let fields = |all: &[(&str, &str)], flags| frame(HEADERS, END_HEADERS | flags, 1, &block(all));
    let long = "y".repeat(600);
    let rows: [(&str, Bytes, u32); 17] = [
        ("data before the head", frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
        ("no status", fields(&[("a", "b")], 0), PROTOCOL_ERROR),
        ("odd status", fields(&[(":status", "2x0")], 0), PROTOCOL_ERROR),
        ("upper case", fields(&[(":status", "200"), ("A", "b")], 0), PROTOCOL_ERROR),
        ("connection", fields(&[(":status", "200"), ("connection", "x")], 0), PROTOCOL_ERROR),
        ("an interim end", fields(&[(":status", "100")], END_STREAM), PROTOCOL_ERROR),
        ("head too large", fields(&[("a", &long), ("b", &long)], 0), FRAME_SIZE_ERROR),
        ("second head", [head(1), head(1)].concat(), PROTOCOL_ERROR),
        (
            "status in trailers",
            [head(1), fields(&[(":status", "200")], END_STREAM)].concat(),
            PROTOCOL_ERROR,
        ),
        ("length beside", fields(&[(":status", "200"), ("content-length", "x")], 0), 1),
        ("length of none", fields(&[(":status", "200"), ("content-length", "1")], END_STREAM), 1),
        (
            "too long",
            [fields(&[(":status", "200"), ("content-length", "1")], 0), frame(DATA, 0, 1, b"xx")]
                .concat(),
            PROTOCOL_ERROR,
        ),
        (
            "too short",
            [
                fields(&[(":status", "200"), ("content-length", "3")], 0),
                frame(DATA, END_STREAM, 1, b"xx"),
            ]
            .concat(),
            PROTOCOL_ERROR,
        ),
        ("no credit", credit(1, 0), PROTOCOL_ERROR),
        ("too much credit", credit(1, 0x7fff_ffff), FLOW_CONTROL_ERROR),
        ("odd priority", frame(PRIORITY_FRAME, 0, 1, &[0; 4]), FRAME_SIZE_ERROR),
        ("after it", [frame(DATA, 0, 1, b"x"), reply(1)].concat(), PROTOCOL_ERROR),
    ];
    for (what, bytes, code) in rows {
        let mut client = busy();
        feed(&mut client, &bytes).unwrap();
        assert_eq!(over(&mut client), [(1, Over::Broken(code))], "{what}");
        let frames = written(&mut client);
        assert_eq!(frames, [(RST_STREAM, 0, 1, code.to_be_bytes().to_vec())], "{what}");
        feed(&mut client, &reply(3)).unwrap();
        assert_eq!(over(&mut client), [(3, Over::Heard)], "{what}");
    }
}

#[test]
fn what_comes_late_or_means_nothing_is_let_pass() {
    let interim = frame(HEADERS, END_HEADERS, 3, &block(&[(":status", "103"), ("link", "x")]));
    let bytes = [
        reply(1),
        frame(DATA, END_STREAM, 1, b"x"),
        trailers(1),
        credit(1, 5),
        credit(1, 0),
        reset(1, STREAM_CLOSED),
        frame(PRIORITY_FRAME, 0, 1, &[0; 3]),
        frame(PRIORITY_FRAME, 0, 99, &[0; 5]),
        frame(0xbe, 0xff, 77, b"whatever"),
        frame(PING, ACK, 0, b"not ours"),
        interim.repeat(3),
        // Enters the table, from a head that nobody waits for.
        frame(HEADERS, END_HEADERS, 1, &[0x40, 1, b'a', 1, b'b']),
        frame(HEADERS, END_HEADERS, 3, &[0x88, 0x80 | 62]),
        frame(DATA, END_STREAM, 3, b""),
    ]
    .concat();
    let mut client = busy();
    assert_eq!(client.cancel(|c| c.name == 1).unwrap().name, 1);
    assert!(client.cancel(|c| c.name == 1).is_none());
    feed(&mut client, &bytes).unwrap();
    assert_eq!(written(&mut client), [(RST_STREAM, 0, 1, vec![0, 0, 0, 8])]);
    let (call, how) = client.next_over().unwrap();
    assert_eq!((call.name, how), (3, Over::Heard));
    assert_eq!(call.heard, ["200 false", "end None"]);
}

#[test]
fn a_call_ends_once_by_reset_by_its_reply_or_when_it_has_enough() {
    let mut client = busy();
    feed(&mut client, &[reset(3, 8), reset(3, 8), trailers(3)].concat()).unwrap();
    assert_eq!(over(&mut client), [(3, Over::Reset(8))]);
    assert_eq!(written(&mut client), []);
    // Enough after so much; ended by then; what the peer is told.
    let ended = frame(HEADERS, END_HEADERS | END_STREAM, 5, OK);
    for (enough, bytes, told) in
        [(1, head(5), Some(CANCEL)), (2, reply(5), Some(CANCEL)), (1, ended.clone(), None)]
    {
        let mut client = busy();
        let call = Noted { name: 5, enough, ..Noted::default() };
        client.start(call, &request(), &[]);
        assert_eq!(written(&mut client)[0].1, END_HEADERS | END_STREAM, "it has no body");
        feed(&mut client, &bytes).unwrap();
        assert_eq!(over(&mut client), [(5, Over::Heard)]);
        let want: Vec<_> =
            told.map(|code| (RST_STREAM, 0, 5, code.to_be_bytes().to_vec())).into_iter().collect();
        assert_eq!(written(&mut client), want);
    }
    // The answer comes before the request is whole.
    let mut client = greeted(&[(4, 2)]);
    start(&mut client, 1, b"body");
    assert_eq!(outline(&mut client), [(HEADERS, 1, 0), (DATA, 1, 2)]);
    feed(&mut client, &frame(HEADERS, END_HEADERS | END_STREAM, 1, OK)).unwrap();
    assert_eq!(over(&mut client), [(1, Over::Heard)]);
    feed(&mut client, &greeting(&[(4, 100)])).unwrap();
    assert_eq!(outline(&mut client), [(RST_STREAM, 1, 0), (SETTINGS, 0, 0)]);
}

#[test]
fn bodies_keep_within_the_windows_and_their_order() {
    let mut client = greeted(&[(4, 10)]);
    start(&mut client, 1, &[1; 25]);
    start(&mut client, 3, &[3; 8]);
    start(&mut client, 5, &[5; 10]);
    let heads = [(HEADERS, 1, 0), (HEADERS, 3, 0), (HEADERS, 5, 0)];
    let bodies = [(DATA, 1, 10), (DATA, 3, 8), (DATA, 5, 10)];
    assert_eq!(outline(&mut client), [heads, bodies].concat());
    assert_eq!(outline(&mut client), []);
    // The window shrinks below what is under way: eleven are needed for one.
    feed(&mut client, &[greeting(&[(4, 0)]), credit(1, 11)].concat()).unwrap();
    assert_eq!(outline(&mut client), [(SETTINGS, 0, 0), (DATA, 1, 1)]);
    feed(&mut client, &greeting(&[(4, 100)])).unwrap();
    let frames = written(&mut client);
    assert_eq!(frames[1], (DATA, END_STREAM, 1, vec![1; 14]));

    // All together have 65535; the first has it before the second, whatever comes first.
    let mut client = greeted(&[(4, 100_000)]);
    start(&mut client, 1, &[1; 60_000]);
    start(&mut client, 3, &[3; 60_000]);
    let _ = written(&mut client);
    assert_eq!(client.send, 0);
    start(&mut client, 5, &[5; 2]);
    feed(&mut client, &credit(0, 54_464)).unwrap();
    let full = [16384, 16384, 16384];
    let want: Vec<_> = full.map(|n| (DATA, 3, n)).into_iter().chain([(DATA, 3, 5312)]).collect();
    assert_eq!(outline(&mut client)[1..], want);
    feed(&mut client, &credit(0, 1)).unwrap();
    assert_eq!(outline(&mut client), [(DATA, 3, 1)]);
    feed(&mut client, &credit(0, 1)).unwrap();
    assert_eq!(outline(&mut client), [(DATA, 5, 1)]);
    assert!(client.cancel(|c| c.name == 5).is_some());
    feed(&mut client, &credit(0, 9)).unwrap();
    assert_eq!(outline(&mut client), [(RST_STREAM, 5, 0)]);
    assert_eq!(client.send, 9);
}

#[test]
fn frames_are_as_large_as_the_peer_takes() {
    let mut client = greeted(&[(4, 1 << 20), (5, 40_000)]);
    feed(&mut client, &credit(0, 1 << 20)).unwrap();
    start(&mut client, 1, &[0; 100_000]);
    let heads = [(HEADERS, 1, 0), (DATA, 1, 40_000), (DATA, 1, 40_000), (DATA, 1, 20_000)];
    assert_eq!(outline(&mut client), heads);
    // A head that is longer than a frame goes on in others.
    let call = Noted { name: 3, ..Noted::default() };
    client.start(call, &request(), &block(&[("x", &"y".repeat(50_000))]));
    let frames = written(&mut client);
    let flags: Vec<_> = frames.iter().map(|(kind, flags, ..)| (*kind, *flags)).collect();
    assert_eq!(flags, [(HEADERS, END_STREAM), (CONTINUATION, END_HEADERS)]);
}

#[test]
fn no_more_is_written_than_there_is_room_for() {
    let mut client = greeted(&[(4, 1 << 20)]);
    feed(&mut client, &credit(0, 1 << 20)).unwrap();
    start(&mut client, 1, &[1; 50_000]);
    start(&mut client, 3, &[3; 50_000]);
    let mut total = 0;
    for more in [true, true, true, false] {
        let mut out = Vec::new();
        assert_eq!(client.write(&mut out, 30_000), more);
        assert!(out.len() < 30_000 + 16_384 + HEADER_BYTES, "{}", out.len());
        total += out.len();
    }
    assert!(total > 100_000);
    assert!(!client.write(&mut Vec::new(), 30_000));
}

#[test]
fn a_peer_that_asks_and_does_not_listen_is_not_read() {
    let mut client = busy();
    let pings = frame(PING, 0, 0, b"12345678").repeat(64);
    for _ in 0..15 {
        assert!(!client.is_clogged());
        feed(&mut client, &pings).unwrap();
    }
    feed(&mut client, &pings).unwrap();
    assert!(client.is_clogged());
    let frames = written(&mut client);
    assert_eq!(frames.len(), 16 * 64);
    assert!(frames.iter().all(|f| *f == (PING, ACK, 0, b"12345678".to_vec())));
    assert!(!client.is_clogged());
    client.ping();
    assert_eq!(written(&mut client), [(PING, 0, 0, PING_ALIVE.to_vec())]);
    assert!(client.is_pinged());
    feed(&mut client, &frame(PING, ACK, 0, b"12345678")).unwrap();
    assert!(client.is_pinged());
    feed(&mut client, &frame(PING, ACK, 0, &PING_ALIVE)).unwrap();
    assert!(!client.is_pinged());
}

#[test]
fn what_was_read_is_credited_to_the_connection_and_to_its_stream() {
    let mut client = busy();
    let piece = frame(DATA, PADDED, 1, &[&[100][..], &[b'x'; 16000], &[0; 100]].concat());
    feed(&mut client, &[head(1), head(3), piece.clone()].concat()).unwrap();
    assert_eq!(written(&mut client), []);
    feed(&mut client, &[piece.clone(), piece.clone()].concat()).unwrap();
    let n = 3 * 16101_u32;
    let frames: Vec<_> = written(&mut client).into_iter().map(|f| (f.2, f.3)).collect();
    assert_eq!(frames, [0, 1].map(|stream| (stream, n.to_be_bytes().to_vec())));
    // What is nobody's counts for the connection.
    assert!(client.cancel(|c| c.name == 1).is_some());
    feed(&mut client, &piece.repeat(3)).unwrap();
    assert_eq!(outline(&mut client), [(RST_STREAM, 1, 0), (WINDOW_UPDATE, 0, 0)]);
    // More than a window at a time.
    let mut client = busy();
    client.receive = Window::new(1 << 20);
    feed(&mut client, &head(1)).unwrap();
    client.streams.get(1).unwrap().receive = Window::new(16_000);
    feed(&mut client, &piece).unwrap();
    assert_eq!(over(&mut client), [(1, Over::Broken(FLOW_CONTROL_ERROR))]);
    client.receive = Window::new(16_000);
    let broken = feed(&mut client, &piece).unwrap_err();
    assert_eq!(broken.code, FLOW_CONTROL_ERROR);
}

#[test]
fn calls_are_as_many_as_the_peer_takes() {
    let mut client = fresh();
    for name in 0..100 {
        start(&mut client, name, b"");
    }
    assert_eq!(client.room(), Room::Later, "nobody knows yet");
    feed(&mut client, &greeting(&[])).unwrap();
    assert_eq!(client.room(), Room::Now);
    feed(&mut client, &greeting(&[(3, 100)])).unwrap();
    assert_eq!(client.room(), Room::Later);
    feed(&mut client, &reset(1, 8)).unwrap();
    assert_eq!(client.room(), Room::Now);
    feed(&mut client, &greeting(&[(3, 0)])).unwrap();
    assert_eq!(client.room(), Room::Later);

    let mut client = greeted(&[]);
    client.streams = Streams::from(0x7fff_fffd);
    start(&mut client, 1, b"x");
    start(&mut client, 2, b"y");
    assert_eq!(client.room(), Room::Never, "there are no more numbers");
    let _ = written(&mut client);
    feed(&mut client, &[reply(0x7fff_ffff), reply(0x7fff_fffd)].concat()).unwrap();
    assert_eq!(over(&mut client), [(2, Over::Heard), (1, Over::Heard)]);
}

#[test]
fn headers_are_in_the_form_that_the_peers_table_allows() {
    let Block { first, again, plain } = request();
    let heads = |client: &mut Machine, n: u32| -> Vec<Bytes> {
        for name in 0..n {
            start(client, name, b"");
        }
        written(client).into_iter().filter(|f| f.0 == HEADERS).map(|f| f.3).collect()
    };
    let mut client = fresh();
    assert_eq!(heads(&mut client, 3), [first.clone(), again.clone(), again.clone()]);
    feed(&mut client, &greeting(&[(1, 8192)])).unwrap();
    assert_eq!(heads(&mut client, 1), [again]);
    feed(&mut client, &greeting(&[(1, 100)])).unwrap();
    let emptied = [&[EMPTY_TABLE], &plain[..]].concat();
    assert_eq!(heads(&mut client, 2), [emptied.clone(), plain.clone()]);
    feed(&mut client, &greeting(&[(1, 4096)])).unwrap();
    assert_eq!(heads(&mut client, 2), [plain.clone(), plain.clone()]);
    let mut client = greeted(&[(1, 0)]);
    assert_eq!(heads(&mut client, 2), [emptied, plain]);
}

#[test]
fn a_peer_that_leaves_finishes_what_it_took() {
    let mut client = busy();
    start(&mut client, 5, b"five");
    feed(&mut client, &goaway(0x7fff_ffff, NO_ERROR)).unwrap();
    assert_eq!((client.room(), client.open()), (Room::Never, 3));
    feed(&mut client, &goaway(1, 11)).unwrap();
    assert_eq!(over(&mut client), [(5, Over::LeftBehind), (3, Over::LeftBehind)]);
    let farewell = client.farewell().unwrap();
    assert_eq!((farewell.code, &*farewell.words), (11, "bye"));
    assert_eq!(outline(&mut client), [(HEADERS, 5, 0)], "its body is not sent any more");
    feed(&mut client, &reply(1)).unwrap();
    assert_eq!(over(&mut client), [(1, Over::Heard)]);
    assert_eq!((client.room(), client.open()), (Room::Never, 0));
    feed(&mut client, &goaway(0, NO_ERROR)).unwrap();
    assert_eq!(over(&mut client), []);
    client.leave();
    assert_eq!(written(&mut client), [(GOAWAY, 0, 0, vec![0; 8])]);
}

#[test]
fn who_leaves_for_our_pings_says_so() {
    let bye = |code: u32, words: &str| {
        frame(
            GOAWAY,
            0,
            0,
            &[&[0x7f, 0xff, 0xff, 0xff], &code.to_be_bytes(), words.as_bytes()].concat(),
        )
    };
    for (code, words, want) in
        [(11, "too_many_pings", true), (11, "too_many_resets", false), (0, "too_many_pings", false)]
    {
        let mut client = busy();
        feed(&mut client, &bye(code, words)).unwrap();
        assert_eq!(client.farewell().unwrap().is_of_too_many_pings(), want, "{code} {words}");
    }
}

#[test]
fn who_leaves_with_grace_names_the_last_call_later() {
    let mut client = busy();
    assert!(!client.is_leaving());
    feed(&mut client, &[goaway(0x7fff_ffff, NO_ERROR), frame(PING, 0, 0, b"are you?")].concat())
        .unwrap();
    assert!(client.is_leaving());
    // By the answer the peer knows that no more calls will come.
    assert_eq!(outline(&mut client), [(PING, 0, 0)]);
    // What it took in between it answers; both numbers may be the same.
    feed(&mut client, &[goaway(3, NO_ERROR), reply(3), goaway(3, NO_ERROR)].concat()).unwrap();
    assert_eq!(over(&mut client), [(3, Over::Heard)]);
    feed(&mut client, &reply(1)).unwrap();
    assert_eq!((over(&mut client), client.open()), (vec![(1, Over::Heard)], 0));
    // One that names more than before cannot take back that it has not processed the rest.
    let mut client = busy();
    feed(&mut client, &[goaway(1, NO_ERROR), goaway(3, 11)].concat()).unwrap();
    assert_eq!(over(&mut client), [(3, Over::LeftBehind)]);
    feed(&mut client, &[reply(3), reply(1)].concat()).unwrap();
    assert_eq!(over(&mut client), [(1, Over::Heard)]);
}

#[test]
fn what_the_peer_has_not_processed_is_told_from_what_it_gave_up() {
    for (what, bytes, how) in [
        ("refused", reset(3, REFUSED_STREAM), Over::Refused),
        ("given up", reset(3, CANCEL), Over::Reset(CANCEL)),
        ("left behind", goaway(1, NO_ERROR), Over::LeftBehind),
        ("taken", [goaway(3, NO_ERROR), reset(3, 2)].concat(), Over::Reset(2)),
        // It has begun to answer, so it has processed the call, whatever it says.
        ("a lie", [head(3), reset(3, REFUSED_STREAM)].concat(), Over::Reset(REFUSED_STREAM)),
        ("another", [head(3), goaway(1, 0)].concat(), Over::Reset(REFUSED_STREAM)),
    ] {
        let mut client = busy();
        feed(&mut client, &bytes).unwrap();
        assert_eq!(over(&mut client), [(3, how)], "{what}");
        assert_eq!(written(&mut client), [], "{what}");
    }
}
