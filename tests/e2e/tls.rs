//! TLS, mutual TLS and unix sockets: two routers in a row, and clients of another make.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::backend::Backend;
use super::client::{Answer, Client, Export, TRACES, frame, request};
use super::process::Process;
use super::world::yaml;
use super::{run, settle, until};

const ENGINE: &str = "{cores: 1, pin: false, spin: 0s, memory_limit_mib: 200}";

/// An authority, and files of certificates that it signed.
pub(crate) struct Pki {
    dir: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = format!("authority {:?}", &key.public_key_raw()[1..9]);
        params.distinguished_name.push(DnType::CommonName, name);
        let authority = CertifiedIssuer::self_signed(params, key).unwrap();
        let pki = Self { dir: tempfile::tempdir().unwrap(), authority };
        fs::write(pki.path("ca.crt"), pki.authority.pem()).unwrap();
        for name in ["server", "client"] {
            pki.sign(name, |_| {});
        }
        pki
    }

    /// A certificate for this machine, and its key.
    fn sign(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) {
        let key = KeyPair::generate().unwrap();
        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.authority).unwrap();
        // The key first: whoever looks in between finds a pair that does not fit.
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        fs::write(self.path(&format!("{name}.crt")), certificate.pem()).unwrap();
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    /// `key: path` for a flow map.
    fn file(&self, key: &str, file: &str) -> String {
        format!("{key}: {}", self.path(file).display())
    }

    /// A client's or server's own certificate.
    pub(crate) fn own(&self, name: &str) -> String {
        let cert = self.file("cert_file", &format!("{name}.crt"));
        format!("{cert}, {}", self.file("key_file", &format!("{name}.key")))
    }

    pub(crate) fn ca(&self) -> String {
        self.file("ca_file", "ca.crt")
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.path("ca.crt")).unwrap()).unwrap();
        roots
    }

    /// A client of another make.
    fn connector(
        &self,
        own: Option<(&Self, &str)>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsConnector {
        let builder = ClientConfig::builder_with_protocol_versions(versions);
        let builder = builder.with_root_certificates(self.roots());
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((pki, name)) => {
                let (cert, key) = pki.load(name);
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Arc::new(config).into()
    }

    fn load(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let cert = CertificateDer::from_pem_file(self.path(&format!("{name}.crt"))).unwrap();
        (cert, PrivateKeyDer::from_pem_file(self.path(&format!("{name}.key"))).unwrap())
    }
}

/// One gRPC receiver, one exporter to `endpoint`; both with whatever more they need.
fn config(receiver: &str, endpoint: &str, tls: &str) -> String {
    let exporter = format!(
        "  otlp_grpc:
    endpoint: \"{endpoint}\"
    compression: none
    tls: {{{tls}}}
    sending_queue: {{enabled: false}}
    retry_on_failure: {{enabled: false}}"
    );
    let text = yaml(&exporter, &[("traces", "otlp_grpc")], ENGINE);
    let grpc = "grpc: {endpoint: \"127.0.0.1:0\"}";
    assert!(text.contains(grpc));
    text.replace(grpc, &format!("grpc: {{{receiver}}}"))
}

const PLAIN: &str = "endpoint: \"127.0.0.1:0\"";

async fn grpc_address(process: &Process) -> String {
    process.address("Starting GRPC server")
}

async fn send(router: &Process, export: &Export) -> Answer {
    let client = Client::connect(&grpc_address(router).await).await;
    client.call(request(TRACES, &[]), frame(0, &export.message)).await
}

async fn handshake(
    connector: &TlsConnector,
    address: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = connector.connect(name, tcp).await?;
    // In TLS 1.3 a client believes that it is connected before the server has judged it. A server
    // of HTTP/2 speaks first.
    stream.read_u8().await?;
    Ok(stream)
}

/// A router with TLS that forwards to a backend without.
async fn inner(backend: &Backend, tls: &str) -> Process {
    backend.start().await;
    let receiver = format!("{PLAIN}, tls: {{{tls}}}");
    Process::start(&config(&receiver, &backend.endpoint(), "insecure: true")).await
}

/// The same, with TLS before its HTTP receiver.
pub(crate) async fn inner_https(backend: &Backend, tls: &str) -> Process {
    backend.start().await;
    let store = format!(
        "  otlp_grpc: {{endpoint: \"{}\", compression: none, tls: {{insecure: true}}}}",
        backend.endpoint()
    );
    let http = "http: {endpoint: \"127.0.0.1:0\"";
    let yaml = yaml(&store, &[("traces", "otlp_grpc")], ENGINE);
    Process::start(&yaml.replace(http, &format!("{http}, tls: {{{tls}}}"))).await
}

#[test]
fn spans_cross_two_routers_over_mutual_tls() {
    run(async {
        let (pki, backend) = (Pki::new(), Backend::new(None).await);
        let tls = format!("{}, {}", pki.own("server"), pki.file("client_ca_file", "ca.crt"));
        let inner = inner(&backend, &tls).await;
        let tls = format!("{}, {}", pki.ca(), pki.own("client"));
        let outer = config(PLAIN, &grpc_address(&inner).await, &tls);
        let outer = Process::start(&outer).await;
        // Larger than a record and than a buffer.
        let export = Export::new(8_000);
        let answer = send(&outer, &export).await;
        assert!(answer.is_ok(), "{answer:?}\n{}", outer.log());
        assert_eq!(backend.taken(), export.spans.len());
    });
}

#[test]
fn spans_cross_two_routers_over_https() {
    run(async {
        let (pki, backend) = (Pki::new(), Backend::new(None).await);
        let tls = format!("{}, {}", pki.own("server"), pki.file("client_ca_file", "ca.crt"));
        let inner = inner_https(&backend, &tls).await;
        let url = format!("https://{}", inner.address("Starting HTTP server"));
        let tls = format!("{}, {}", pki.ca(), pki.own("client"));
        let exporter =
            format!("  otlp_http: {{endpoint: \"{url}\", encoding: json, tls: {{{tls}}}}}");
        let outer = yaml(&exporter, &[("traces", "otlp_http")], ENGINE);
        let outer = Process::start(&outer).await;
        // Larger than a record and than a buffer.
        let export = Export::new(8_000);
        let answer = send(&outer, &export).await;
        assert!(answer.is_ok(), "{answer:?}\n{}", outer.log());
        until("its spans have arrived", || backend.taken() == export.spans.len()).await;
    });
}

#[test]
fn the_http_port_speaks_http_2_where_tls_has_agreed_on_it() {
    run(async {
        let (pki, backend) = (Pki::new(), Backend::new(None).await);
        let process = inner_https(&backend, &pki.own("server")).await;
        let tcp = TcpStream::connect(process.address("Starting HTTP server")).await.unwrap();
        let connector = pki.connector(None, rustls::ALL_VERSIONS);
        let name = ServerName::try_from("localhost").unwrap();
        let client = Client::over(connector.connect(name, tcp).await.unwrap()).await;
        // Several at once, larger than a window of the start.
        let exports = [Export::new(2_000), Export::new(2_000), Export::new(1)];
        let post = |export: &Export| {
            let request = request("/v1/traces", &[("content-type", "application/x-protobuf")]);
            let (client, body) = (client.clone(), export.message.clone().into());
            async move { client.call(request, body).await }
        };
        let [a, b, c] = &exports;
        let (a, b, c) = tokio::join!(post(a), post(b), post(c));
        assert_eq!([a.http, b.http, c.http], [200; 3], "{a:?} {b:?} {c:?}");
        let sent: usize = exports.iter().map(|export| export.spans.len()).sum();
        until("its spans have arrived", || backend.taken() == sent).await;
    });
}

#[test]
fn a_client_that_cannot_show_a_good_certificate_is_refused() {
    run(async {
        let (pki, other, backend) = (Pki::new(), Pki::new(), Backend::new(None).await);
        let tls = format!("{}, {}", pki.own("server"), pki.file("client_ca_file", "ca.crt"));
        let inner = inner(&backend, &tls).await;
        let address = grpc_address(&inner).await;
        for versions in [&[&TLS13], &[&TLS12]] {
            let good = pki.connector(Some((&pki, "client")), versions);
            handshake(&good, &address).await.unwrap();
            let none = pki.connector(None, versions);
            handshake(&none, &address).await.unwrap_err();
            let foreign = pki.connector(Some((&other, "client")), versions);
            handshake(&foreign, &address).await.unwrap_err();
        }
        // Plaintext is not understood, and not answered.
        let mut plain = TcpStream::connect(&address).await.unwrap();
        plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let mut heard = Vec::new();
        let _ = plain.read_to_end(&mut heard).await;
        assert!(heard.first() != Some(&0), "an HTTP/2 frame: {heard:?}");
        assert!(
            handshake(&pki.connector(Some((&pki, "client")), &[&TLS13]), &address).await.is_ok()
        );
    });
}

#[test]
fn who_is_refused_can_read_why_though_more_was_sent() {
    run(async {
        let (pki, backend) = (Pki::new(), Backend::new(None).await);
        let tls = format!("{}, {}", pki.own("server"), pki.file("client_ca_file", "ca.crt"));
        let inner = inner(&backend, &tls).await;
        let address = grpc_address(&inner).await;
        // In TLS 1.3 a client sends its request before the server has judged it.
        for _ in 0..20 {
            let tcp = TcpStream::connect(&address).await.unwrap();
            let name = ServerName::try_from("localhost").unwrap();
            let none = pki.connector(None, &[&TLS13]);
            let mut stream = none.connect(name, tcp).await.unwrap();
            for _ in 0..3 {
                let _ = stream.write_all(&[0; 9000]).await;
            }
            let refused = stream.read_u8().await.unwrap_err().to_string();
            assert!(refused.contains("CertificateRequired"), "{refused}");
        }
        let mut plain = TcpStream::connect(&address).await.unwrap();
        plain.write_all(b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let mut heard = String::new();
        plain.read_to_string(&mut heard).await.unwrap();
        assert!(heard.starts_with("HTTP/1.0 400 ") && heard.contains("HTTPS server"), "{heard}");
    });
}

#[test]
fn a_server_that_is_not_who_it_should_be_gets_nothing() {
    run(async {
        let (pki, other, backend) = (Pki::new(), Pki::new(), Backend::new(None).await);
        let inner = inner(&backend, &pki.own("server")).await;
        let endpoint = grpc_address(&inner).await;
        let rows = [
            (format!("{}, server_name_override: elsewhere", pki.ca()), Some("elsewhere")),
            (other.ca(), Some("unknown authority")),
            (format!("{}, insecure_skip_verify: true", other.ca()), None),
            ("insecure_skip_verify: true".into(), None),
            (format!("{}, server_name_override: localhost", pki.ca()), None),
            (pki.ca(), None),
        ];
        let mut taken = 0;
        for (tls, refusal) in rows {
            let outer = Process::start(&config(PLAIN, &endpoint, &tls)).await;
            let export = Export::new(1);
            let answer = send(&outer, &export).await;
            match refusal {
                Some(why) => {
                    assert_eq!(answer.status, Some(14), "{tls}: {answer:?}");
                    assert!(answer.message.contains(why), "{tls}: {answer:?}");
                }
                None => {
                    assert!(answer.is_ok(), "{tls}: {answer:?}");
                    taken += export.spans.len();
                }
            }
            assert_eq!(backend.taken(), taken, "{tls}");
        }
        // A server without TLS where TLS is wanted.
        let outer = Process::start(&config(PLAIN, &backend.endpoint(), &pki.ca())).await;
        let answer = send(&outer, &Export::new(1)).await;
        assert_eq!(answer.status, Some(14), "{answer:?}");
        assert_eq!(backend.taken(), taken);
    });
}

#[test]
fn versions_and_suites_are_those_that_are_configured() {
    run(async {
        let (pki, backend) = (Pki::new(), Backend::new(None).await);
        let rows = [
            ("min_version: \"1.3\"", false, true),
            ("max_version: \"1.2\"", true, false),
            ("min_version: \"1.2\"", true, true),
            ("cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]", true, true),
            // The certificate's key is of the other kind; in 1.3 suites cannot be chosen.
            ("cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]", false, true),
            ("curve_preferences: [P384]", true, true),
        ];
        for (key, tls12, tls13) in rows {
            let inner = inner(&backend, &format!("{}, {key}", pki.own("server"))).await;
            let address = grpc_address(&inner).await;
            let works =
                async |version| handshake(&pki.connector(None, &[version]), &address).await.is_ok();
            assert_eq!((works(&TLS12).await, works(&TLS13).await), (tls12, tls13), "{key}");
            backend.kill().await;
        }
    });
}

#[test]
fn sessions_are_resumed_by_the_server_and_by_the_client() {
    run(async {
        let (pki, backend) = (Pki::new(), Backend::new(None).await);
        let inner = inner(&backend, &pki.own("server")).await;
        let address = grpc_address(&inner).await;
        for versions in [&[&TLS13], &[&TLS12]] {
            let connector = pki.connector(None, versions);
            let kind = async || {
                let stream = handshake(&connector, &address).await.unwrap();
                stream.get_ref().1.handshake_kind().unwrap()
            };
            assert_eq!(kind().await, HandshakeKind::Full, "{versions:?}");
            assert_eq!(kind().await, HandshakeKind::Resumed, "{versions:?}");
        }
        // A server of another make, which ends every connection.
        let (cert, key) = pki.load("server");
        let mut config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![cert], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (acceptor, listener) =
            (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let endpoint = listener.local_addr().unwrap().to_string();
        let outer = Process::start(&self::config(PLAIN, &endpoint, &pki.ca())).await;
        let client = Client::connect(&grpc_address(&outer).await).await;
        let asking = tokio::spawn(async move {
            loop {
                let framed = frame(0, &Export::new(1).message);
                client.call(request(TRACES, &[]), framed).await;
            }
        });
        let kind = async || {
            let (tcp, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(tcp).await.unwrap();
            // Its greeting, so that it has had time for the tickets.
            stream.read_u8().await.unwrap();
            let _ = tokio::io::AsyncWriteExt::shutdown(&mut stream).await;
            stream.get_ref().1.handshake_kind().unwrap()
        };
        assert_eq!(kind().await, HandshakeKind::Full);
        assert_eq!(kind().await, HandshakeKind::Resumed);
        asking.abort();
    });
}

#[test]
fn certificates_are_reloaded_and_bad_ones_are_not() {
    run(async {
        let (pki, backend) = (Pki::new(), Backend::new(None).await);
        let tls = format!("{}, reload_interval: 1s", pki.own("server"));
        let inner = inner(&backend, &tls).await;
        let address = grpc_address(&inner).await;
        let shown = async || {
            let stream = handshake(&pki.connector(None, &[&TLS13]), &address).await.unwrap();
            stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
        };
        let first = shown().await;
        pki.sign("server", |_| {});
        let (second, _) = pki.load("server");
        assert_ne!(first, second);
        settle("the new certificate is shown", async || (shown().await == second).then_some(()))
            .await;
        fs::write(pki.path("server.crt"), "rubbish").unwrap();
        until("rubbish is refused", || inner.log().contains("holds no certificate")).await;
        assert_eq!(shown().await, second);
        pki.sign("server", |params| {
            params.not_before = date_time_ymd(2001, 1, 1);
            params.not_after = date_time_ymd(2002, 1, 1);
        });
        until("an expired one is refused", || inner.log().contains("has expired")).await;
        assert!(inner.log().contains("The old ones stay in use"), "{}", inner.log());
        assert_eq!(shown().await, second);
        pki.sign("server", |_| {});
        let (third, _) = pki.load("server");
        settle("a good one is shown", async || (shown().await == third).then_some(())).await;
    });
}

#[test]
fn spans_cross_two_routers_over_a_unix_socket() {
    run(async {
        let (dir, backend) = (tempfile::tempdir().unwrap(), Backend::new(None).await);
        backend.start().await;
        let path = dir.path().join("otlp.sock");
        let receiver = format!("transport: unix, endpoint: {}", path.display());
        let insecure = "insecure: true";
        let text = config(&receiver, &backend.endpoint(), insecure);
        let mut inner = Process::start(&text).await;
        assert_eq!(Path::new(&grpc_address(&inner).await), path);
        let outer = config(PLAIN, &format!("unix://{}", path.display()), insecure);
        let outer = Process::start(&outer).await;
        let export = Export::new(1_000);
        let answer = send(&outer, &export).await;
        assert!(answer.is_ok(), "{answer:?}\n{}", outer.log());
        assert_eq!(backend.taken(), export.spans.len());
        // A second process is told that the first is there, and leaves its file.
        let mut second = Process::spawn(&text);
        assert_eq!(second.ended().await, 1);
        let want = format!("listen unix {}: ", path.display());
        assert!(second.log().contains(&want), "{}", second.log());
        assert!(path.exists());
        inner.terminate();
        assert_eq!(inner.ended().await, 0);
        assert!(!path.exists());
    });
}

#[test]
fn ipv6_addresses_are_listened_on_and_dialled() {
    run(async {
        if std::net::TcpListener::bind("[::1]:0").is_err() {
            eprintln!("SKIPPED, nothing was tested: this machine has no IPv6");
            return;
        }
        let (pki, backend) = (Pki::new(), Backend::new(None).await);
        backend.start().await;
        let receiver = format!("endpoint: \"[::1]:0\", tls: {{{}}}", pki.own("server"));
        let inner = config(&receiver, &backend.endpoint(), "insecure: true");
        let inner = Process::start(&inner).await;
        let endpoint = grpc_address(&inner).await;
        assert!(endpoint.starts_with("[::1]:"), "{endpoint}");
        let outer = Process::start(&config("endpoint: \"[::1]:0\"", &endpoint, &pki.ca())).await;
        let export = Export::new(1);
        let answer = send(&outer, &export).await;
        assert!(answer.is_ok(), "{answer:?}\n{}", outer.log());
        assert_eq!(backend.taken(), export.spans.len());
    });
}
