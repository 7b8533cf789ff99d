//! An OTLP/gRPC server that takes everything and notes when it came.

use std::cell::RefCell;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};

use crate::client::frame;

/// The server and what it got.
pub(crate) struct Sink {
    address: SocketAddr,
    calls: Calls,
    accepting: tokio::task::JoinHandle<()>,
}

type Calls = Rc<RefCell<Vec<(Instant, Bytes)>>>;

/// An address on which nobody else listens.
pub(crate) fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let [.., c, d] = NEXT.fetch_add(1, Relaxed).to_be_bytes();
    let b = std::process::id().to_be_bytes()[3];
    Ipv4Addr::new(127, b.max(1), c, d.saturating_add(1))
}

impl Sink {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Calls::default();
        let taken = Rc::clone(&calls);
        let accepting = tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let taken = Rc::clone(&taken);
                tokio::task::spawn_local(async move {
                    // How a connection ends does not matter.
                    let _ = serve(stream, taken).await;
                });
            }
        });
        Self { address, calls, accepting }
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// ResourceSpans in the order in which they came, each with its ms since `start`.
    pub(crate) fn received(&self, start: Instant) -> Vec<(u64, ResourceSpans)> {
        let calls = self.calls.borrow();
        let all = calls.iter().flat_map(|(at, message)| {
            let ms = at.saturating_duration_since(start).as_millis();
            let ms = u64::try_from(ms).unwrap();
            let request = ExportTraceServiceRequest::decode(message.clone()).unwrap();
            request.resource_spans.into_iter().map(move |resource_spans| (ms, resource_spans))
        });
        all.collect()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(stream: TcpStream, calls: Calls) -> Result<(), h2::Error> {
    // A store answers at once; on waiting for more to say each of hundreds of calls would wait.
    let _ = stream.set_nodelay(true);
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(1 << 20).initial_connection_window_size(4 << 20);
    let mut h2 = builder.handshake::<_, Bytes>(stream).await?;
    while let Some(call) = h2.accept().await {
        let (request, mut respond) = call?;
        let calls = Rc::clone(&calls);
        tokio::task::spawn_local(async move {
            let mut body = request.into_body();
            let mut bytes = BytesMut::new();
            while let Some(chunk) = body.data().await {
                let chunk = chunk?;
                let _ = body.flow_control().release_capacity(chunk.len());
                bytes.extend_from_slice(&chunk);
            }
            assert_eq!(bytes[0], 0, "no compression was asked for");
            calls.borrow_mut().push((Instant::now(), bytes.freeze().slice(5..)));
            let response = Response::builder().header("content-type", "application/grpc");
            let mut send = respond.send_response(response.body(()).unwrap(), false)?;
            send.send_data(frame(0, &[]), false)?;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            send.send_trailers(trailers)
        });
    }
    Ok(())
}
