//! The machine against a server made of the `h2` crate: whatever the windows, frames and pieces
//! are, and whoever resets or leaves, every message arrives whole and every call ends once.

#![allow(clippy::cast_possible_truncation, reason = "a test")]

use std::collections::BTreeMap;

use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split};

use super::*;
use crate::testing::random::Random;

/// What a call asks the server to do with it: the first byte of its body.
const ECHO: u8 = 0;
const RESET: u8 = 1;
/// Answer before the body is there.
const HASTY: u8 = 2;
/// An answer of many frames.
const LONG: u8 = 3;
const LONG_BYTES: usize = 90_000;

/// A message that the receiver can judge: what to do, the name, the length, a pattern.
fn message(todo: u8, name: u32, len: usize) -> Vec<u8> {
    let mut out = vec![todo];
    out.extend_from_slice(&name.to_be_bytes());
    out.extend_from_slice(&(len as u32).to_be_bytes());
    out.extend((0..len).map(|at| (at as u32).wrapping_mul(name | 1) as u8));
    out
}

fn judge(body: &[u8]) -> &'static str {
    let name = u32::from_be_bytes(body[1..5].try_into().unwrap());
    if message(body[0], name, body.len() - 9) == body { "whole" } else { "broken" }
}

fn draw(random: &mut Random, of: &[usize]) -> usize {
    *random.pick(of)
}

async fn serve(io: DuplexStream, window: usize, mut random: Random) {
    let mut builder = server::Builder::new();
    builder
        .initial_window_size(window as u32)
        .initial_connection_window_size(draw(&mut random, &[65_535, 70_000, 1 << 20]) as u32)
        .max_frame_size(draw(&mut random, &[16_384, 20_000, 1 << 20]) as u32)
        .max_concurrent_streams(draw(&mut random, &[1, 3, 1000]) as u32);
    let mut connection = builder.handshake::<_, bytes::Bytes>(io).await.unwrap();
    let leave_after = random.chance(0.5).then(|| random.below(20));
    let mut taken = 0;
    while let Some(Ok((request, respond))) = connection.accept().await {
        taken += 1;
        if leave_after == Some(taken) {
            connection.graceful_shutdown();
        }
        let lazy = random.chance(0.3);
        tokio::spawn(answer(request.into_body(), respond, lazy));
    }
}

/// Answers one call; what fails was given up by the client.
async fn answer(mut body: RecvStream, mut respond: SendResponse<bytes::Bytes>, lazy: bool) {
    let mut got = Vec::new();
    while let Some(Ok(chunk)) = body.data().await {
        if lazy {
            tokio::task::yield_now().await;
        }
        let _ = body.flow_control().release_capacity(chunk.len());
        got.extend_from_slice(&chunk);
        if got[0] == HASTY {
            let mut head = Response::new(());
            head.headers_mut().insert("grpc-status", "3".parse().unwrap());
            let _ = respond.send_response(head, true);
            return;
        }
    }
    if !body.is_end_stream() {
        return;
    }
    match got[0] {
        RESET => respond.send_reset(Reason::ENHANCE_YOUR_CALM),
        todo => {
            let Ok(mut send) = respond.send_response(Response::new(()), false) else { return };
            let reply = match todo {
                LONG => "l".repeat(LONG_BYTES),
                _ => judge(&got).to_owned(),
            };
            let _ = send.send_data(reply.into(), false);
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let _ = send.send_trailers(trailers);
        }
    }
}

/// What is to be sent, and how each call ended.
#[derive(Debug, Default)]
struct World {
    todo: Vec<(u32, bytes::Bytes)>,
    ends: BTreeMap<u32, Vec<String>>,
    /// Nothing is started before the server has said how small its windows are: `h2` gives no
    /// credit for what came while they were larger.
    waits: bool,
}

impl World {
    fn begin(&mut self, client: &mut Machine, random: &mut Random) {
        if self.waits && !client.settled {
            return;
        }
        // Not always all at once; but while nothing is under way, nothing else will happen.
        while client.room() == Room::Now && (client.open() == 0 || random.chance(0.9)) {
            let Some((name, body)) = self.todo.pop() else { return };
            let call = Noted { name, body, ..Noted::default() };
            let block = Block::new(
                &[
                    Header::Static(3),
                    Header::Static(6),
                    Header::Static(4),
                    Header::Indexed(Name::Static(1), b"here".to_vec()),
                    Header::Indexed(Name::New("te"), b"trailers".to_vec()),
                ],
                0,
            );
            client.start(call, &block, &block_of_own(name));
        }
    }

    fn hear(&mut self, client: &mut Machine) {
        while let Some((call, over)) = client.next_over() {
            // Refused, if it was started before the server said how many it takes.
            if matches!(over, Over::LeftBehind | Over::Refused) {
                self.todo.push((call.name, call.body));
                continue;
            }
            let last = call.heard.last().map_or("", |last| &**last);
            let text: String = call.heard[..call.heard.len().saturating_sub(1)].concat();
            let text = text.replace("200 false", "").replace("200 true", "");
            let shown = if text.len() > 20 { text.len().to_string() } else { text };
            self.end(call.name, format!("{over:?} {shown} {last}"));
        }
    }

    fn end(&mut self, name: u32, how: String) {
        self.ends.entry(name).or_default().push(how);
    }
}

fn block_of_own(name: u32) -> Vec<u8> {
    block(&[("x-name", &"n".repeat(name as usize % 700))])
}

/// One connection, until it is over or nothing is left to do.
async fn converse(io: DuplexStream, world: &mut World, random: &mut Random) {
    let mut client = Client::new(Options { window: 65535, header_list_bytes_max: 1 << 16 });
    let (mut from, mut to) = split(io);
    let (mut inward, mut outward, mut sent) = (Vec::new(), Vec::new(), 0);
    let mut piece = vec![0; 5000];
    loop {
        world.begin(&mut client, random);
        if random.chance(0.02)
            && let Some(call) = client.cancel(|c| c.name % 5 == 0)
        {
            world.end(call.name, "cancelled".to_owned());
        }
        if random.chance(0.05) && !client.is_pinged() {
            client.ping();
        }
        if sent == outward.len() {
            outward.clear();
            sent = 0;
            client.write(&mut outward, draw(random, &[1, 1000, 50_000]));
        }
        let ended = client.open() == 0 && outward.is_empty();
        if ended && (world.todo.is_empty() || client.room() == Room::Never) {
            return;
        }
        let most = draw(random, &[1, 9, 500, 5000, 5000]);
        tokio::select! {
            biased;
            read = from.read(&mut piece[..most]) => {
                let n = read.unwrap();
                if n == 0 {
                    assert!(client.farewell().is_some() && client.open() == 0);
                    return;
                }
                inward.extend_from_slice(&piece[..n]);
                loop {
                    let fed = client.feed(&inward).unwrap();
                    inward.drain(..fed.bytes);
                    if fed.hungry {
                        break;
                    }
                }
            }
            // What cannot be written to a server that has left is not read either.
            written = to.write(&outward[sent..]), if !outward.is_empty() => {
                sent += written.unwrap_or(outward.len() - sent);
            }
        }
        world.hear(&mut client);
    }
}

async fn run(seed: u64) {
    let mut random = Random::new(seed);
    let mut world = World::default();
    let window = *random.pick(&[1, 100, 5000, 65_535, 1 << 20]);
    world.waits = window < 65_535;
    for name in 0..40 {
        let todo = *random.pick(&[ECHO, ECHO, ECHO, ECHO, RESET, HASTY, LONG]);
        let len = draw(&mut random, &[0, 1, 99, 1000, 20_000, 80_000]);
        // A window of a byte takes as many frames as there are bytes.
        let len = if window <= 100 { len % 1990 } else { len };
        world.todo.push((name, message(todo, name, len).into()));
    }
    let todo: BTreeMap<u32, u8> = world.todo.iter().map(|(name, body)| (*name, body[0])).collect();
    while !world.todo.is_empty() {
        let (ours, theirs) = duplex(draw(&mut random, &[300, 5000, 300_000]));
        let server = tokio::spawn(serve(theirs, window, Random::new(random.next_u64())));
        converse(ours, &mut world, &mut random).await;
        server.await.unwrap();
    }
    for (name, todo) in todo {
        let want = match todo {
            ECHO => "Heard whole end Some(\"0\")",
            RESET => "Reset(11)  ",
            HASTY => "Heard  end None",
            _ => "Heard 90000 end Some(\"0\")",
        };
        let ends = &world.ends[&name];
        let cancelled = name % 5 == 0 && ends[..] == ["cancelled"];
        assert!(cancelled || ends[..] == [want], "{name}: {ends:?}, not {want}");
    }
}

#[test]
fn every_message_arrives_whole_and_every_call_ends_once() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for seed in 0..60 {
        println!("seed {seed}");
        runtime.block_on(run(seed));
    }
}
