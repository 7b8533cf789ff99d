//! The body of an HTTP request: read within its limits, charged while it arrives, inflated. Also
//! what is read of one that nobody wants.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::request::Parts;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::codec::{self, Codec};
use super::grpc_call::busy;
use super::http_server::HttpServer;
use super::status::{Code, Status};
use crate::runtime::lease::Charge;
use crate::runtime::timer::Timeout;

/// A body that has not arrived by then costs its sender the call.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Allocated at once for a body that announces more.
const BODY_BYTES_FIRST: usize = 256 << 10;
/// What is read of a body that nobody wants, and for how long, so that the connection can be kept.
/// The number of bytes is Go's.
const UNWANTED_BYTES_MAX: usize = 256 << 10;
const UNWANTED_TIMEOUT: Duration = Duration::from_secs(5);

/// A request that failed after its head.
pub(super) struct Failure {
    pub(super) status: Status,
    /// The body did not end as HTTP says, so nothing can follow it.
    pub(super) broken: bool,
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self { status, broken: false }
    }
}

/// The body, inflated, and what it is charged with.
pub(super) async fn read<S>(
    server: &HttpServer<S>,
    body: &mut Incoming,
    codec: Codec,
) -> Result<(Bytes, Option<Charge>), Failure> {
    Timeout::new(BODY_TIMEOUT, arrive(server, body, codec)).await.unwrap_or_else(|| {
        let text = "the request's body did not arrive in time";
        Err(Failure { status: Status::new(Code::DeadlineExceeded, text), broken: true })
    })
}

async fn arrive<S>(
    server: &HttpServer<S>,
    body: &mut Incoming,
    codec: Codec,
) -> Result<(Bytes, Option<Charge>), Failure> {
    let bytes_max = server.options.body_bytes_max;
    let announced = body.size_hint().lower();
    if announced > bytes_max as u64 {
        return Err(too_large().into());
    }
    let first = usize::try_from(announced).unwrap_or(0).min(BODY_BYTES_FIRST);
    let mut arriving = Arriving::default();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| bad_body(&e))?;
        // Trailers mean nothing here.
        let Ok(chunk) = frame.into_data() else { continue };
        if arriving.len() + chunk.len() > bytes_max {
            return Err(too_large().into());
        }
        arriving.push(chunk, first);
        if !charge(server, &mut arriving.charge, arriving.rest.len()) {
            return Err(busy().into());
        }
    }
    let Arriving { first, rest, charge: mut held } = arriving;
    let message = if rest.is_empty() { first } else { rest.into() };
    if codec == Codec::None {
        return Ok((message, held));
    }
    let inflated = codec.inflate_in_turns(&message, bytes_max).await;
    let message = inflated.map_err(|e| match e {
        codec::Error::TooLarge => too_large(),
        codec::Error::Corrupt => {
            let text = format!("{e}, {}", codec.http_name().unwrap_or_default());
            Status::new(Code::InvalidArgument, text)
        }
    })?;
    // What came in is gone; what it became stays as long as the call.
    if !charge(server, &mut held, message.len()) {
        return Err(busy().into());
    }
    Ok((message.into(), held))
}

fn too_large() -> Status {
    Status::new(Code::InvalidArgument, "http: request body too large")
}

fn bad_body(e: &hyper::Error) -> Failure {
    let cause = e.source();
    let kind = cause.and_then(|c| c.downcast_ref::<io::Error>()).map(io::Error::kind);
    let text = match (kind, cause) {
        (Some(io::ErrorKind::UnexpectedEof), _) => "unexpected EOF".to_owned(),
        (_, Some(cause)) => cause.to_string(),
        (_, None) => e.to_string(),
    };
    Failure { status: Status::new(Code::InvalidArgument, text), broken: true }
}

/// Brings `held` to `bytes`; false if there is no room.
pub(super) fn charge<S>(server: &HttpServer<S>, held: &mut Option<Charge>, bytes: usize) -> bool {
    let bytes = bytes as u64;
    match held {
        None if bytes == 0 => true,
        None => {
            *held = server.memory.take(bytes);
            held.is_some()
        }
        Some(charge) => {
            drop(charge.split(charge.units().saturating_sub(bytes)));
            charge.grow_to(bytes)
        }
    }
}

/// A body on its way in. One that comes in a single piece is never copied, nor charged: it is
/// bounded by the connection's read buffer.
#[derive(Default)]
struct Arriving {
    first: Bytes,
    rest: Vec<u8>,
    charge: Option<Charge>,
}

impl Arriving {
    fn len(&self) -> usize {
        self.first.len() + self.rest.len()
    }

    fn push(&mut self, chunk: Bytes, bytes_first: usize) {
        if self.len() == 0 {
            self.first = chunk;
            return;
        }
        if self.rest.is_empty() {
            self.rest.reserve(bytes_first);
            self.rest.extend_from_slice(&std::mem::take(&mut self.first));
        }
        self.rest.extend_from_slice(&chunk);
    }
}

/// Reads the rest of a body that nobody wants; false if that is too much or would make a client
/// send what it has asked about.
pub(super) async fn swallow(head: &Parts, body: &mut Incoming) -> bool {
    if head.headers.contains_key(EXPECT) {
        return false;
    }
    let reading = async {
        let mut len = 0;
        while let Some(frame) = body.frame().await {
            len += match frame {
                Ok(frame) => frame.data_ref().map_or(0, Bytes::len),
                Err(_) => return false,
            };
            if len > UNWANTED_BYTES_MAX {
                return false;
            }
        }
        true
    };
    Timeout::new(UNWANTED_TIMEOUT, reading).await.unwrap_or(false)
}
