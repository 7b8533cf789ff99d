//! What a server serves: unary methods, by number. Both gRPC and HTTP servers call it.

use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;

use super::message::Message;
use super::metadata::Metadata;
use super::status::Status;
use crate::runtime::lease::Charge;

/// One message that arrived whole.
#[derive(Debug)]
pub struct Call {
    /// As [`Service::method`] numbered it.
    pub method: usize,
    /// The message, inflated.
    pub message: Message,
    /// What the message is charged with until it is dropped.
    pub charge: Option<Charge>,
    /// What is left of the client's `grpc-timeout`.
    pub timeout: Option<Duration>,
    /// What is kept of its headers, if anything.
    pub metadata: Option<Rc<Metadata>>,
    /// Which way it came, for the `transport` label.
    pub transport: Transport,
}

/// How a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP.
    Http,
}

/// A set of unary methods.
pub trait Service: 'static {
    /// The number of the method at a gRPC path, if there is one.
    fn method(&self, path: &str) -> Option<usize>;

    /// Whether a gRPC service of this full name exists, for the text of UNIMPLEMENTED.
    fn has_service(&self, name: &str) -> bool;

    /// The message of `method` that a JSON text holds.
    ///
    /// # Errors
    /// What is wrong with it.
    fn of_json(&self, method: usize, text: &[u8]) -> Result<Vec<u8>, String> {
        let _ = text;
        Err(format!("method {method} does not take JSON"))
    }

    /// A reply of `method` as JSON.
    fn to_json(&self, method: usize, reply: &[u8]) -> Vec<u8> {
        let _ = (method, reply);
        b"{}".to_vec()
    }

    /// Answers one call: the reply message or a failure. Dropped if the connection is lost.
    fn call(&self, call: Call) -> impl Future<Output = Result<Bytes, Status>>;
}
