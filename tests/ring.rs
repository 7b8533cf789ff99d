//! The ring against placements recorded from running collectors (`tests/vectors/`: v0.152.0 for
//! ring v2, v0.161.0 for ring v3) and the published fingerprints of all three generations.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test")]

use serde_json::Value;
use tracemill::route::{Generation, Ring};

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn id(hex: &Value) -> [u8; 16] {
    u128::from_str_radix(hex.as_str().unwrap(), 16).unwrap().to_be_bytes()
}

/// What the static resolver does before it publishes a list (loadbalancing 1.6).
fn resolved(names: &[String]) -> Vec<String> {
    let mut names = names.to_vec();
    names.sort();
    names
}

fn dialled(name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{name}:4317") }
}

fn agrees_with(generation: Generation, recorded: &str) {
    let recorded: Value = serde_json::from_str(recorded).unwrap();
    let mut placed = 0;
    for case in recorded["cases"].as_array().unwrap() {
        let names: Vec<_> = case["endpoints"].as_array().unwrap().iter().map(text).collect();
        let ring = Ring::new(generation, &resolved(&names));
        let owners = case["owner"].as_array().unwrap();
        for (hex, owner) in case["ids"].as_array().unwrap().iter().zip(owners) {
            let got = &ring.endpoints()[ring.owner(&id(hex)).unwrap() as usize];
            let want = dialled(&names[usize::try_from(owner.as_u64().unwrap()).unwrap()]);
            assert_eq!(*got, want, "{}: {hex}", case["name"]);
            placed += 1;
        }
    }
    assert_eq!(placed, 2000);
}

#[test]
fn v2_places_as_the_recorded_collector_does() {
    agrees_with(Generation::V2, include_str!("vectors/lb_ring_v2.json"));
}

#[test]
fn v3_places_as_the_recorded_collector_does() {
    agrees_with(Generation::V3, include_str!("vectors/lb_ring_v3.json"));
}

#[test]
fn rings_have_the_published_fingerprints() {
    let a: Vec<_> = (1..=4).map(|n| format!("backend-{n}:4317")).collect();
    let b: Vec<_> = (1..=10).map(|n| format!("10.0.0.{n}:4317")).collect();
    // loadbalancing 2.4: first 16 hex digits of SHA-256 over the lines "position,endpoint\n".
    for (generation, in_a, in_b) in [
        (Generation::V1, 0xa390_2af9_1012_8f70_u64, 0x0073_afcf_58d6_e5dc_u64),
        (Generation::V2, 0x975e_4055_110d_e692, 0x69e3_5045_23d1_e963),
        (Generation::V3, 0xfaf3_c501_1609_b288, 0xec5c_6722_c161_ca75),
    ] {
        for (names, want) in [(&a, in_a), (&b, in_b)] {
            let ring = Ring::new(generation, &resolved(names));
            let lines: String = ring.vnodes().map(|(at, name)| format!("{at},{name}\n")).collect();
            assert_eq!(sha256_head(lines.as_bytes()), want, "{generation:?} {names:?}");
        }
    }
}

/// First 8 bytes of SHA-256 (FIPS 180-4), big-endian.
fn sha256_head(data: &[u8]) -> u64 {
    let primes: Vec<u32> = (2..312).filter(|n| (2..*n).all(|d| n % d != 0)).collect();
    assert_eq!(primes.len(), 64);
    // The first 32 bits of the fractional part of a root, found by bisection on integers.
    let fraction = |prime: u32, power: u32| {
        let target = u128::from(prime) << (32 * power);
        let (mut low, mut high) = (0u128, 1 << 40);
        while high - low > 1 {
            let middle = u128::midpoint(low, high);
            if middle.pow(power) <= target { low = middle } else { high = middle }
        }
        (low & 0xffff_ffff) as u32
    };
    let k: Vec<u32> = primes.iter().map(|&p| fraction(p, 3)).collect();
    let mut state: Vec<u32> = primes[..8].iter().map(|&p| fraction(p, 2)).collect();
    let mut message = data.to_vec();
    message.push(0x80);
    message.resize(message.len().next_multiple_of(64), 0);
    if data.len() % 64 >= 56 {
        message.resize(message.len() + 64, 0);
    }
    let bits = (data.len() as u64 * 8).to_be_bytes();
    let end = message.len();
    message[end - 8..].copy_from_slice(&bits);
    for block in message.chunks(64) {
        let mut w: Vec<u32> =
            block.chunks(4).map(|b| u32::from_be_bytes(b.try_into().unwrap())).collect();
        for i in 16..64 {
            let (a, b) = (w[i - 15], w[i - 2]);
            let s0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
            let s1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
            w.push(w[i - 16].wrapping_add(s0).wrapping_add(w[i - 7]).wrapping_add(s1));
        }
        let mut h = state.clone();
        for i in 0..64 {
            let s1 = h[4].rotate_right(6) ^ h[4].rotate_right(11) ^ h[4].rotate_right(25);
            let choice = (h[4] & h[5]) ^ (!h[4] & h[6]);
            let t1 = [s1, choice, k[i], w[i]].iter().fold(h[7], |sum, x| sum.wrapping_add(*x));
            let s0 = h[0].rotate_right(2) ^ h[0].rotate_right(13) ^ h[0].rotate_right(22);
            let majority = (h[0] & h[1]) ^ (h[0] & h[2]) ^ (h[1] & h[2]);
            h.rotate_right(1);
            h[4] = h[4].wrapping_add(t1);
            h[0] = t1.wrapping_add(s0).wrapping_add(majority);
        }
        for (s, h) in state.iter_mut().zip(h) {
            *s = s.wrapping_add(h);
        }
    }
    u64::from(state[0]) << 32 | u64::from(state[1])
}

#[test]
fn the_sha256_of_this_test_is_right() {
    assert_eq!(sha256_head(b"abc"), 0xba78_16bf_8f01_cfea);
    assert_eq!(sha256_head(&[0; 56]), 0xd481_7aa5_4976_28e7);
}
