//! `codecs`: what the compression libraries alone cost on the generator's requests. The floor
//! that a hop with compression is held against.

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args as _, FromArgMatches as _};
use libdeflater::{CompressionLvl, Compressor, Decompressor};
use serde_json::json;

use crate::{args, client, process};

/// Time the compression libraries on requests as `run` sends them, at their fastest levels.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Size of a request's message, before compression
    #[arg(long, value_parser = args::bytes, default_value = "64KiB", value_name = "BYTES")]
    request_bytes: usize,
    /// Time given to each library in each direction
    #[arg(long = "for", value_parser = args::duration, default_value = "200ms", value_name = "TIME")]
    duration: Duration,
    /// Run on this CPU only
    #[arg(long, value_name = "CPU")]
    cpu: Option<usize>,
}

/// By the names that HTTP has for them.
const CODECS: [&str; 6] = ["gzip", "zlib", "zstd", "snappy", "x-snappy-framed", "lz4"];

/// Prints JSON: by codec ns per span in and out, and bytes per span.
pub(crate) fn run(options: &Options) -> Result<ExitCode, String> {
    if let Some(cpu) = options.cpu {
        process::pin(cpu).map_err(|e| e.to_string())?;
    }
    let messages = messages(options.request_bytes)?;
    let spans: u64 = messages.iter().map(|(_, spans)| spans).sum();
    let plain: usize = messages.iter().map(|(message, _)| message.len()).sum();
    let mut out = json!({"none": {"bytes_per_span": plain as f64 / spans as f64}});
    let mut libraries = Libraries::new()?;
    for name in CODECS {
        let coded: Vec<Vec<u8>> =
            messages.iter().map(|(message, _)| libraries.compress(name, message)).collect();
        let bytes: usize = coded.iter().map(Vec::len).sum();
        let compress = time(options.duration, || {
            for (message, _) in &messages {
                black_box(libraries.compress(name, black_box(message)));
            }
        });
        let inflate = time(options.duration, || {
            for ((message, _), coded) in messages.iter().zip(&coded) {
                let plain = libraries.inflate(name, black_box(coded), message.len());
                assert_eq!(black_box(plain).len(), message.len(), "{name}");
            }
        });
        out[name] = json!({
            "in_ns_per_span": inflate / spans as f64,
            "out_ns_per_span": compress / spans as f64,
            "bytes_per_span": bytes as f64 / spans as f64,
        });
    }
    println!("{out}");
    Ok(ExitCode::SUCCESS)
}

/// The messages that `run` cycles through, and the spans of each.
fn messages(request_bytes: usize) -> Result<Vec<(Vec<u8>, u64)>, String> {
    let size = request_bytes.to_string();
    let load = ["run", "--endpoint", "none:1", "--request-bytes", &size];
    let command = client::Options::augment_args(clap::Command::new("run"));
    let matches = command.try_get_matches_from(load).map_err(|e| e.to_string())?;
    let load = client::Options::from_arg_matches(&matches).map_err(|e| e.to_string())?;
    client::messages(&load)
}

/// CPU nanoseconds of one call of `work`.
fn time(at_least: Duration, mut work: impl FnMut()) -> f64 {
    work();
    let cpu = || process::cpu_ns(std::process::id()).unwrap_or(0);
    let (from, mut calls) = (cpu(), 0);
    loop {
        (0..8).for_each(|_| work());
        calls += 8;
        let spent = cpu() - from;
        if spent >= at_least.as_nanos() as u64 {
            return spent as f64 / f64::from(calls);
        }
    }
}

/// Contexts that are made once, as a server keeps them.
struct Libraries {
    deflate: Compressor,
    inflate: Decompressor,
    zstd_out: zstd::bulk::Compressor<'static>,
    zstd_in: zstd::bulk::Decompressor<'static>,
    snappy_out: snap::raw::Encoder,
    snappy_in: snap::raw::Decoder,
}

impl Libraries {
    fn new() -> Result<Self, String> {
        Ok(Self {
            // Level 0, the library's fastest, does not compress.
            deflate: Compressor::new(CompressionLvl::new(1).map_err(|e| format!("{e:?}"))?),
            inflate: Decompressor::new(),
            zstd_out: zstd::bulk::Compressor::new(1).map_err(|e| e.to_string())?,
            zstd_in: zstd::bulk::Decompressor::new().map_err(|e| e.to_string())?,
            snappy_out: snap::raw::Encoder::new(),
            snappy_in: snap::raw::Decoder::new(),
        })
    }

    fn compress(&mut self, name: &str, plain: &[u8]) -> Vec<u8> {
        let deflate = &mut self.deflate;
        let mut out = Vec::new();
        match name {
            "gzip" => {
                out.resize(deflate.gzip_compress_bound(plain.len()), 0);
                let n = deflate.gzip_compress(plain, &mut out).expect("the bound is enough");
                out.truncate(n);
            }
            "zlib" => {
                out.resize(deflate.zlib_compress_bound(plain.len()), 0);
                let n = deflate.zlib_compress(plain, &mut out).expect("the bound is enough");
                out.truncate(n);
            }
            "zstd" => out = self.zstd_out.compress(plain).expect("it compresses"),
            "snappy" => out = self.snappy_out.compress_vec(plain).expect("it compresses"),
            "x-snappy-framed" => {
                let mut encoder = snap::write::FrameEncoder::new(out);
                encoder.write_all(plain).expect("a Vec takes all");
                out = encoder.into_inner().map_err(drop).expect("a Vec takes all");
            }
            _ => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
                encoder.write_all(plain).expect("a Vec takes all");
                out = encoder.finish().expect("a Vec takes all");
            }
        }
        out
    }

    fn inflate(&mut self, name: &str, coded: &[u8], bytes: usize) -> Vec<u8> {
        let mut out = Vec::new();
        match name {
            "gzip" | "zlib" => {
                out.resize(bytes, 0);
                match name {
                    "gzip" => self.inflate.gzip_decompress(coded, &mut out),
                    _ => self.inflate.zlib_decompress(coded, &mut out),
                }
                .expect("it was compressed so");
            }
            "zstd" => out = self.zstd_in.decompress(coded, bytes).expect("it was compressed so"),
            "snappy" => out = self.snappy_in.decompress_vec(coded).expect("it was compressed so"),
            "x-snappy-framed" => {
                out.reserve(bytes);
                let mut decoder = snap::read::FrameDecoder::new(coded);
                decoder.read_to_end(&mut out).expect("it was compressed so");
            }
            _ => {
                out.reserve(bytes);
                let mut decoder = lz4_flex::frame::FrameDecoder::new(coded);
                decoder.read_to_end(&mut out).expect("it was compressed so");
            }
        }
        out
    }
}
