//! Proxies that are asked for tunnels: before URLs of https, and before gRPC by the environment.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::backend::Backend;
use super::client::{Client, Export, TRACES, frame, request};
use super::process::Process;
use super::tls::{Pki, inner_https};
use super::world::yaml;
use super::{run, until};

const ENGINE: &str = "{cores: 1, pin: false, spin: 0s, memory_limit_mib: 200, ack_wait: 60s}";
const RETRY: &str = "{initial_interval: 20ms, max_interval: 100ms, max_elapsed_time: 300s}";

/// A proxy that refuses the first tunnel, and leads all others to the same place.
struct Proxy {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (to, seen) = (to.clone(), Arc::clone(&seen));
                tokio::spawn(async move { join(client, &to, &seen).await });
            }
        });
        Self { address, heads }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn join(mut client: TcpStream, to: &str, seen: &Mutex<Vec<String>>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        head.push(char::from(client.read_u8().await.unwrap()));
    }
    let is_first = {
        let mut seen = seen.lock().unwrap();
        seen.push(head);
        seen.len() == 1
    };
    if is_first {
        let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
        return;
    }
    let mut server = TcpStream::connect(to).await.unwrap();
    // What the server says first may come with the answer.
    let mut answer = b"HTTP/1.1 200 Connection established\r\n\r\n".to_vec();
    let mut first = [0; 1024];
    if let Ok(Ok(n)) =
        tokio::time::timeout(std::time::Duration::from_millis(50), server.read(&mut first)).await
    {
        answer.extend_from_slice(&first[..n]);
    }
    let _ = client.write_all(&answer).await;
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

async fn send(outer: &Process) -> usize {
    let client = Client::connect(&outer.address("Starting GRPC server")).await;
    let export = Export::new(200);
    let answer = client.call(request(TRACES, &[]), frame(0, &export.message)).await;
    assert!(answer.is_ok(), "{answer:?}\n{}", outer.log());
    export.spans.len()
}

#[test]
fn https_goes_through_a_tunnel() {
    run(async {
        let (pki, backend) = (Pki::new(), Backend::new(None).await);
        let inner = inner_https(&backend, &pki.own("server")).await;
        let proxy = Proxy::start(inner.address("Starting HTTP server")).await;
        let exporter = format!(
            "  otlp_http:
    endpoint: https://far.invalid:4443/x
    proxy_url: http://u:p@{}
    retry_on_failure: {RETRY}
    traces_endpoint: https://far.invalid:4443/v1/traces
    tls: {{{}, server_name_override: localhost}}",
            proxy.address,
            pki.ca()
        );
        let outer = Process::start(&yaml(&exporter, &[("traces", "otlp_http")], ENGINE)).await;
        let sent = send(&outer).await;
        until("its spans have arrived", || backend.taken() == sent).await;
        let heads = proxy.heads();
        assert!(heads.len() >= 2, "one is refused: {heads:?}");
        for head in heads {
            assert!(head.starts_with("CONNECT far.invalid:4443 HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("host: far.invalid:4443\r\n"), "{head}");
            assert!(head.contains("proxy-authorization: Basic dTpw\r\n"), "{head}");
        }
        let said = "refuses a tunnel to far.invalid:4443: 403 Forbidden";
        assert!(outer.log().contains(said), "{}", outer.log());
    });
}

#[test]
fn grpc_goes_through_the_proxy_of_the_environment() {
    run(async {
        let backend = Backend::new(None).await;
        backend.start().await;
        let proxy = Proxy::start(backend.endpoint()).await;
        let exporter = format!(
            "  otlp_grpc: {{endpoint: far.invalid:4317, tls: {{insecure: true}}, \
             retry_on_failure: {RETRY}}}"
        );
        let yaml = yaml(&exporter, &[("traces", "otlp_grpc")], ENGINE);
        let outer = Process::start_with(&yaml, &[("HTTPS_PROXY", &proxy.address)]).await;
        let sent = send(&outer).await;
        until("its spans have arrived", || backend.taken() == sent).await;
        let head = proxy.heads()[0].clone();
        assert!(head.starts_with("CONNECT far.invalid:4317 HTTP/1.1\r\n"), "{head}");
    });
}
