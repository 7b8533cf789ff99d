//! Sends one signal with the Rust SDK:
//! `interop-signals SIGNAL TRANSPORT COMPRESSION ENDPOINT PREFIX COUNT [CA [CERT KEY]]`

use std::fmt::Display;
use std::{env, fs};

use opentelemetry::KeyValue;
use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, LoggerProvider as _, Severity};
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
use opentelemetry_otlp::tonic_types::transport::{Certificate, ClientTlsConfig, Identity};
use opentelemetry_otlp::{
    Compression, LogExporter, MetricExporter, Protocol, SpanExporter, WithExportConfig,
    WithHttpConfig, WithTonicConfig,
};
use opentelemetry_sdk::logs::{self, BatchLogProcessor, SdkLoggerProvider};
use opentelemetry_sdk::metrics::{SdkMeterProvider, Temporality};
use opentelemetry_sdk::trace::{self, BatchSpanProcessor, SdkTracerProvider};

fn said(error: impl Display) -> String {
    error.to_string()
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|why| format!("{path}: {why}"))
}

struct Target {
    transport: String,
    compression: Option<Compression>,
    url: String,
    /// PEM files: the authority, then the client's certificate and key
    files: Vec<String>,
}

impl Target {
    fn tonic(&self) -> Result<Option<ClientTlsConfig>, String> {
        let Some(ca) = self.files.first() else { return Ok(None) };
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
        if let [_, cert, key] = &self.files[..] {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        Ok(Some(tls))
    }

    fn http(&self) -> Result<reqwest::blocking::Client, String> {
        let mut client = reqwest::blocking::Client::builder();
        if let Some(ca) = self.files.first() {
            let ca = reqwest::Certificate::from_pem(&read(ca)?).map_err(said)?;
            client = client.tls_certs_only([ca]);
        }
        if let [_, cert, key] = &self.files[..] {
            let both = [read(cert)?, read(key)?].concat();
            client = client.identity(reqwest::Identity::from_pem(&both).map_err(said)?);
        }
        client.build().map_err(said)
    }
}

macro_rules! exporter {
    ($builder:expr, $signal:expr, $target:expr) => {{
        let target: &Target = $target;
        if target.transport == "grpc" {
            let mut builder = $builder.with_tonic().with_endpoint(&target.url);
            if let Some(compression) = target.compression {
                builder = builder.with_compression(compression);
            }
            if let Some(tls) = target.tonic()? {
                builder = builder.with_tls_config(tls);
            }
            builder.build().map_err(said)?
        } else {
            let protocol = match &target.transport[..] {
                "http/json" => Protocol::HttpJson,
                _ => Protocol::HttpBinary,
            };
            let mut builder = $builder
                .with_http()
                .with_protocol(protocol)
                .with_endpoint(format!("{}/v1/{}", target.url, $signal))
                .with_http_client(target.http()?);
            if let Some(compression) = target.compression {
                builder = builder.with_compression(compression);
            }
            builder.build().map_err(said)?
        }
    }};
}

fn traces(target: &Target, prefix: &str, count: usize) -> Result<(), String> {
    let batches = trace::BatchConfigBuilder::default()
        .with_max_queue_size(count + 64)
        .with_max_export_batch_size(64)
        .build();
    let exporter = exporter!(SpanExporter::builder(), "traces", target);
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
    let tracer = provider.tracer("interop");
    for n in 0..count {
        tracer.start(format!("{prefix}#{n}")).end();
    }
    provider.force_flush().map_err(said)?;
    provider.shutdown().map_err(said)
}

fn logs(target: &Target, prefix: &str, count: usize) -> Result<(), String> {
    let batches = logs::BatchConfigBuilder::default()
        .with_max_queue_size(count + 64)
        .with_max_export_batch_size(64)
        .build();
    let exporter = exporter!(LogExporter::builder(), "logs", target);
    let processor = BatchLogProcessor::builder(exporter).with_batch_config(batches).build();
    let provider = SdkLoggerProvider::builder().with_log_processor(processor).build();
    let logger = provider.logger("interop");
    for n in 0..count {
        let mut record = logger.create_log_record();
        record.set_severity_number(Severity::Info);
        record.set_body(AnyValue::from(format!("{prefix}#{n}")));
        logger.emit(record);
    }
    provider.force_flush().map_err(said)?;
    provider.shutdown().map_err(said)
}

fn metrics(target: &Target, prefix: &str, count: usize) -> Result<(), String> {
    let builder = MetricExporter::builder().with_temporality(Temporality::Delta);
    let exporter = exporter!(builder, "metrics", target);
    let provider = SdkMeterProvider::builder().with_periodic_exporter(exporter).build();
    let counter = provider.meter("interop").u64_counter("items").build();
    for n in 0..count {
        counter.add(1, &[KeyValue::new("id", format!("{prefix}#{n}"))]);
    }
    provider.shutdown().map_err(said)
}

fn main() -> Result<(), String> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [signal, transport, compression, endpoint, prefix, count, files @ ..] = &arguments[..]
    else {
        return Err("SIGNAL TRANSPORT COMPRESSION ENDPOINT PREFIX COUNT [CA [CERT KEY]]".into());
    };
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "two providers")?;
    let scheme = if files.is_empty() { "http" } else { "https" };
    let target = Target {
        transport: transport.clone(),
        compression: match &compression[..] {
            "gzip" => Some(Compression::Gzip),
            "zstd" => Some(Compression::Zstd),
            _ => None,
        },
        url: format!("{scheme}://{endpoint}"),
        files: files.to_vec(),
    };
    // tonic wants a runtime around it, the blocking client wants none
    let runtime = tokio::runtime::Runtime::new().map_err(said)?;
    let _inside = (transport == "grpc").then(|| runtime.enter());
    let count: usize = count.parse().map_err(said)?;
    match &signal[..] {
        "traces" => traces(&target, prefix, count),
        "logs" => logs(&target, prefix, count),
        _ => metrics(&target, prefix, count),
    }
}
