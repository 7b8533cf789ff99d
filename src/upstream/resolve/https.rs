//! A small HTTPS client for the APIs that a resolver asks: on the control thread, a request at a
//! time, with the machine's own roots.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

/// An answer beyond this is not one of ours.
const REPLY_BYTES_MAX: usize = 4 << 20;

/// The client; a clone shares its connections.
#[derive(Clone, Debug)]
pub(super) struct Https(Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Https {
    /// Reads the machine's roots.
    ///
    /// # Errors
    /// If they cannot be read.
    pub(super) fn new() -> Result<Self, String> {
        let provider = rustls::crypto::ring::default_provider();
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(provider)
            .map_err(|e| format!("the system's root certificates: {e}"))?
            // Metadata of the machine, and endpoints of a test, are plain HTTP.
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self(Client::builder(TokioExecutor::new()).build(connector)))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// In words, with their causes.
    pub(super) async fn send(
        &self,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, String> {
        let reply = self.0.request(request.map(Full::new)).await.map_err(|e| told(&e))?;
        let (head, body) = reply.into_parts();
        let body = Limited::new(body, REPLY_BYTES_MAX).collect().await;
        let body = body.map_err(|e| e.to_string())?.to_bytes();
        Ok(http::Response::from_parts(head, body))
    }
}

/// An error with its causes: the outermost alone says too little.
pub(super) fn told(e: &(dyn std::error::Error + 'static)) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
