//! When `run` sends, as a receiver sees it.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, in real time")]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const GREETING: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";
const PREFACE_BYTES: usize = 24;
const HEADERS: u8 = 1;

/// From the greeting, after which the receiver is silent, to the first request.
fn until_the_first_request(arguments: &[&str]) -> Duration {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut tool = Command::new(env!("CARGO_BIN_EXE_tracemill-load"))
        .args(["run", "--quiet", "--drain", "0s", "--endpoint", &address])
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    socket.read_exact(&mut [0; PREFACE_BYTES]).unwrap();
    socket.write_all(GREETING).unwrap();
    let greeted = Instant::now();
    loop {
        let mut header = [0; 9];
        socket.read_exact(&mut header).unwrap();
        if header[3] == HEADERS {
            break;
        }
        let len = u32::from_be_bytes([0, header[0], header[1], header[2]]);
        socket.read_exact(&mut vec![0; len as usize]).unwrap();
    }
    let took = greeted.elapsed();
    tool.kill().unwrap();
    tool.wait().unwrap();
    took
}

#[test]
fn the_first_request_waits_for_nothing_but_the_greeting() {
    for arguments in [&["--rate", "100requests/s"][..], &[]] {
        let tries = (0..10).map(|_| until_the_first_request(arguments));
        let best = tries.min().unwrap();
        assert!(best < Duration::from_millis(15), "{arguments:?}: {best:?}");
    }
}
