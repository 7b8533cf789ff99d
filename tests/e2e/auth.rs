//! Credentials on both sides, and headers that are handed on.

use super::backend::Backend;
use super::client::{Answer, Client, Export, TRACES, frame, request};
use super::inlets::post;
use super::process::Process;
use super::{run, until};

/// A router whose receiver wants `auth`, and whose exporter shows `shown`.
fn yaml(extensions: &str, receiver: &str, exporter: &str) -> String {
    let names = extensions.lines().filter(|l| l.starts_with("  ") && !l.starts_with("   "));
    let names: Vec<_> = names.map(|l| l.trim().trim_end_matches(':')).collect();
    let names = names.join(", ");
    format!(
        "extensions:
{extensions}
receivers:
  otlp:
    protocols:
      grpc: {{endpoint: \"127.0.0.1:0\", {receiver}}}
      http: {{endpoint: \"127.0.0.1:0\", {receiver}}}
exporters:
{exporter}
service:
  extensions: [{names}]
  telemetry:
    metrics:
      readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: 0}}}}}}}}]
  pipelines:
    traces: {{receivers: [otlp], exporters: [out]}}
tracemill: {{cores: 1, pin: false, spin: 0s, memory_limit_mib: 200, ack_wait: 60s}}
"
    )
    .replace(
        "exporters: [out]",
        if exporter.contains("otlp_http") {
            "exporters: [otlp_http]"
        } else {
            "exporters: [otlp_grpc]"
        },
    )
}

async fn call(client: &Client, headers: &[(&str, &str)]) -> Answer {
    client.call(request(TRACES, headers), frame(0, &Export::new(2).message)).await
}

#[test]
fn strangers_are_refused_on_both_protocols_and_others_let_in() {
    run(async {
        let backend = Backend::new(None).await;
        backend.start().await;
        let exporter = format!(
            "  otlp_grpc: {{endpoint: \"{}\", compression: none, tls: {{insecure: true}}}}",
            backend.endpoint()
        );
        // a:test as SHA-1, and with bcrypt.
        let basic = "  basicauth:
    htpasswd:
      inline: |
        a:{SHA}qUqP5cyxm6YcTAhz05Hph5gvu9M=
        b:$$2y$$05$$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC";
        let bearer = "  bearertokenauth: {token: secret}";
        for (extension, name, right, wrong) in [
            (basic, "basicauth", "Basic YTp0ZXN0", "Basic YTpubw=="),
            (basic, "basicauth", "Basic YjpteVBhc3N3b3Jk", "Basic Yjo="),
            (
                &bearer.replace(": {", ":\n    {").replace("{token", "token").replace('}', ""),
                "bearertokenauth",
                "Bearer secret",
                "Bearer x",
            ),
        ] {
            let auth = format!("auth: {{authenticator: {name}}}");
            let router = Process::start(&yaml(extension, &auth, &exporter)).await;
            let client = Client::connect(&router.address("Starting GRPC server")).await;
            let address = router.address("Starting HTTP server");
            for (shown, welcome) in [(right, true), (wrong, false), ("", false), (right, true)] {
                let answer = call(&client, &[("authorization", shown)]).await;
                assert_eq!(answer.status, Some(if welcome { 0 } else { 16 }), "{answer:?}");
                let headers =
                    format!("authorization: {shown}\r\ncontent-type: application/x-protobuf\r\n");
                let (status, body) = post(&address, &headers, &Export::new(2).message).await;
                assert_eq!(status, if welcome { 200 } else { 401 }, "{shown}");
                assert!(welcome || body.starts_with(&[8, 16]), "a status in protobuf");
            }
            let answer = call(&client, &[]).await;
            assert_eq!(answer.status, Some(16));
        }
    });
}

#[test]
fn what_a_client_shows_is_what_the_next_one_wants() {
    run(async {
        let backend = Backend::new(None).await;
        backend.start().await;
        let store = format!(
            "  otlp_grpc: {{endpoint: \"{}\", compression: none, tls: {{insecure: true}}}}",
            backend.endpoint()
        );
        let inner = "  basicauth:\n    htpasswd: {inline: \"a:test\"}";
        let auth = "auth: {authenticator: basicauth}";
        let inner = Process::start(&yaml(inner, auth, &store)).await;
        let shown = "  basicauth:\n    client_auth: {username: a, password: test}";
        let http = inner.address("Starting HTTP server");
        let exporter = format!("  otlp_http: {{endpoint: \"http://{http}\", {auth}}}");
        let outer = Process::start(&yaml(shown, "", &exporter)).await;
        let client = Client::connect(&outer.address("Starting GRPC server")).await;
        assert!(call(&client, &[]).await.is_ok());
        let spans = Export::new(2).spans.len();
        until("its spans have arrived", || backend.taken() == spans).await;
    });
}

#[test]
fn requests_of_two_tenants_never_share_a_call() {
    run(async {
        let backend = Backend::new(None).await;
        backend.start().await;
        let setter = "  headers_setter:
    headers:
      - {action: upsert, key: x-tenant, from_context: x-tenant, default_value: nobody}";
        let exporter = format!(
            "  otlp_grpc: {{endpoint: \"{}\", compression: none, tls: {{insecure: true}}, \
             auth: {{authenticator: headers_setter}}}}",
            backend.endpoint()
        );
        let router = Process::start(&yaml(setter, "include_metadata: true", &exporter)).await;
        let client = Client::connect(&router.address("Starting GRPC server")).await;
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..60 {
            let client = client.clone();
            calls.spawn(async move {
                let tenant = [&[("x-tenant", "red")][..], &[("x-tenant", "blue")], &[]][n % 3];
                assert!(call(&client, tenant).await.is_ok());
            });
        }
        while let Some(done) = calls.join_next().await {
            done.unwrap();
        }
        let mut spans = std::collections::BTreeMap::<String, usize>::new();
        for call in backend.calls() {
            *spans.entry(call.tenant.clone()).or_default() += call.spans.len();
        }
        let each = 20 * Export::new(2).spans.len();
        let want = [("blue", each), ("nobody", each), ("red", each)];
        assert_eq!(spans.into_iter().collect::<Vec<_>>(), want.map(|(k, v)| (k.to_owned(), v)));
    });
}
